-- What was said in the chats that were called in a period, the newest first.
-- $1 org_id, $2 from, $3 until (NULL: no bound; the first is inclusive, the second is not), $4 chat_id ('' for all),
-- $5 how many at most.  One row per message.
SELECT role, content, token_count, status
FROM messages
WHERE org_id = $1
  AND content <> ''
  AND ($4 = '' OR chat_id = $4)
  AND chat_id IN (
      SELECT chat_id FROM usage
      WHERE org_id = $1
        AND started_at >= COALESCE($2, started_at)
        AND (CAST($3 AS TIMESTAMPTZ) IS NULL OR started_at < $3)
  )
ORDER BY created_at DESC, id DESC
LIMIT $5

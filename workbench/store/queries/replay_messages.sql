-- The messages of every chat that was called in a period, without their texts; each chat's oldest first.
-- $1 org_id, $2 from, $3 until (NULL: no bound; the first is inclusive, the second is not), $4 chat_id ('' for all).
-- One row per message.
SELECT id, chat_id, seq, role, token_count, status, stop_reason, LENGTH(TRIM(content)) > 0 AS has_text
FROM messages
WHERE org_id = $1
  AND ($4 = '' OR chat_id = $4)
  AND chat_id IN (
      SELECT chat_id FROM usage
      WHERE org_id = $1
        AND started_at >= COALESCE($2, started_at)
        AND (CAST($3 AS TIMESTAMPTZ) IS NULL OR started_at < $3)
  )
ORDER BY chat_id, seq

-- The messages of an org in a time, without what they say.
-- $1 org_id, $2 from, $3 until (NULL: no bound; the first is inclusive, the second is not).  One row per message.
SELECT chat_id, seq, role, token_count, status, created_at
FROM messages
WHERE org_id = $1
  AND created_at >= COALESCE($2, created_at)
  AND (CAST($3 AS TIMESTAMPTZ) IS NULL OR created_at < $3)

-- The system prompts of the chats that were called in a period.
-- $1 org_id, $2 from, $3 until (NULL: no bound; the first is inclusive, the second is not), $4 chat_id ('' for all).
-- One row per chat that has one.
SELECT id AS chat_id, system
FROM chats
WHERE org_id = $1
  AND system IS NOT NULL
  AND ($4 = '' OR id = $4)
  AND id IN (
      SELECT chat_id FROM usage
      WHERE org_id = $1
        AND started_at >= COALESCE($2, started_at)
        AND (CAST($3 AS TIMESTAMPTZ) IS NULL OR started_at < $3)
  )

-- The chats of an org that were used in a time, without what was said in them.
-- $1 org_id, $2 from, $3 until (NULL: no bound; the first is inclusive, the second is not), $4 whose titles.
-- One row per chat.
SELECT id AS chat_id, CASE WHEN user_id = $4 THEN title END AS title, user_id, created_at, updated_at
FROM chats
WHERE org_id = $1
  AND updated_at >= COALESCE($2, updated_at)
  AND (CAST($3 AS TIMESTAMPTZ) IS NULL OR created_at < $3)

-- Turns that run now, or whose process died.
-- $1 org_id, $2 user_id (NULL: of all users), $3 chat_id (NULL: of all chats).  One row: how many.
SELECT COUNT(*)
FROM holds
WHERE org_id = $1
  AND user_id = COALESCE(CAST($2 AS TEXT), user_id)
  AND chat_id = COALESCE(CAST($3 AS TEXT), chat_id)
  AND state = 'open'

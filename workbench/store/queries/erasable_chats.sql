-- Chats that can be deleted: no turn runs in them.
-- $1 org_id, $2 user_id (NULL: of all users), $3 used last before then (NULL: whenever), $4 how many at most.
-- One row per chat, the one used last at the end: its id, how many messages it has.
SELECT id, (SELECT COUNT(*) FROM messages m WHERE m.chat_id = chats.id AND m.org_id = chats.org_id)
FROM chats
WHERE org_id = $1
  AND user_id = COALESCE(CAST($2 AS TEXT), user_id)
  AND updated_at < COALESCE(CAST($3 AS TIMESTAMPTZ), updated_at + INTERVAL '1' DAY)
  AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.chat_id = chats.id AND h.org_id = chats.org_id AND h.state = 'open')
ORDER BY updated_at, id
LIMIT $4

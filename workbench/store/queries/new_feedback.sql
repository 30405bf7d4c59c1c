-- Record what a user thinks of a reply of their own.
-- $1 id, $2 org_id, $3 user_id, $4 message_id, $5 score (1 or -1), $6 comment, $7 now.
INSERT INTO feedback (id, org_id, user_id, chat_id, message_id, score, comment, created_at)
SELECT $1, $2, $3, m.chat_id, m.id, $5, $6, $7
FROM messages m
JOIN chats c ON c.id = m.chat_id AND c.org_id = m.org_id
WHERE m.id = $4 AND m.org_id = $2 AND c.user_id = $3 AND m.role = 'assistant' AND m.status <> 'streaming'
ON CONFLICT (id) DO NOTHING

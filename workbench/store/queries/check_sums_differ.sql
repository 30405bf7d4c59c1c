-- Chats whose replies have another number of tokens than was billed for them, estimates aside.
-- No parameters: all orgs.  One row per chat: its id.
SELECT m.chat_id AS id
FROM messages m
JOIN usage u ON u.message_id = m.id AND u.org_id = m.org_id
WHERE NOT u.usage_estimated
GROUP BY m.chat_id
HAVING SUM(u.output_tokens) <> SUM(COALESCE(m.token_count, 0))

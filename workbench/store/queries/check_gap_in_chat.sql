-- Chats whose messages are not numbered 1, 2, 3, …
-- No parameters: all orgs.  One row per chat: its id.
SELECT chat_id AS id
FROM messages
GROUP BY chat_id
HAVING MIN(seq) <> 1 OR MAX(seq) <> COUNT(*) OR COUNT(DISTINCT seq) <> COUNT(*)

-- Messages whose chat is not there, or belongs to another org.
-- No parameters: all orgs.  One row per message: its id.
SELECT m.id
FROM messages m
WHERE NOT EXISTS (SELECT 1 FROM chats c WHERE c.id = m.chat_id AND c.org_id = m.org_id)

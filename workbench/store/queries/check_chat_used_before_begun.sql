-- Chats last used before they were begun.
-- No parameters: all orgs.  One row per chat: its id.
SELECT id
FROM chats
WHERE updated_at < created_at

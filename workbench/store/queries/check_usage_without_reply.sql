-- Calls billed to a chat that lacks their reply. Of a chat that was deleted the usage stays; so it does when the chat
-- was begun anew under its old id, which shows in its later date.
-- No parameters: all orgs.  One row per call: its id.
SELECT u.id
FROM usage u
JOIN chats c ON c.id = u.chat_id AND c.org_id = u.org_id AND c.created_at <= u.started_at
WHERE u.message_id IS NOT NULL
  AND NOT EXISTS (
      SELECT 1 FROM messages m
      WHERE m.id = u.message_id AND m.chat_id = u.chat_id AND m.org_id = u.org_id AND m.role = 'assistant'
  )

-- Replies that answer nothing: the message before them is not a question of the same chat.
-- No parameters: all orgs.  One row per reply: its id.
SELECT a.id
FROM messages a
WHERE a.role = 'assistant'
  AND NOT EXISTS (
      SELECT 1 FROM messages q
      WHERE q.chat_id = a.chat_id AND q.org_id = a.org_id AND q.seq = a.seq - 1 AND q.role = 'user'
  )

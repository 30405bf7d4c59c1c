-- Questions that have no reply, not even an empty one: both are written together.
-- No parameters: all orgs.  One row per question: its id.
SELECT q.id
FROM messages q
WHERE q.role = 'user'
  AND NOT EXISTS (
      SELECT 1 FROM messages a
      WHERE a.chat_id = q.chat_id AND a.org_id = q.org_id AND a.seq = q.seq + 1 AND a.role = 'assistant'
  )

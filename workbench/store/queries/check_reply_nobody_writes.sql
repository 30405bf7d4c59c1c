-- Replies said to be on their way that no turn has an open hold for: nothing will ever end them.
-- No parameters: all orgs.  One row per reply: its id.
SELECT m.id
FROM messages m
WHERE m.status = 'streaming'
  AND NOT EXISTS (
      SELECT 1 FROM holds h
      WHERE h.message_id = m.id AND h.org_id = m.org_id AND h.state = 'open'
  )

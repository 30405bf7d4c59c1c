-- Replies that ended and were not billed once: no usage row, or several. A fork copies replies without billing them
-- again; the ids of its copies are a UUID and their place.
-- No parameters: all orgs.  One row per reply: its id.
SELECT m.id
FROM messages m
LEFT JOIN usage u ON u.message_id = m.id AND u.org_id = m.org_id
WHERE m.role = 'assistant' AND m.status <> 'streaming'
  AND m.id NOT LIKE '________-____-____-____-____________-%'
GROUP BY m.id
HAVING COUNT(u.id) <> 1

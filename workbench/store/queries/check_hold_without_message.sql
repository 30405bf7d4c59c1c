-- Holds of turns whose reply is not there.
-- No parameters: all orgs.  One row per hold: its id.
SELECT h.id
FROM holds h
WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = h.message_id AND m.org_id = h.org_id)

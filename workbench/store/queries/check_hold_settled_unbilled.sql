-- Holds that are no longer open though their turn was never billed.
-- No parameters: all orgs.  One row per hold: its id.
SELECT h.id
FROM holds h
WHERE h.state <> 'open' AND NOT EXISTS (SELECT 1 FROM usage u WHERE u.id = h.id AND u.org_id = h.org_id)

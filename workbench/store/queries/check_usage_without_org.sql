-- Calls billed to an org that is not there.
-- No parameters: all orgs.  One row per call: its id.
SELECT u.id
FROM usage u
WHERE NOT EXISTS (SELECT 1 FROM orgs o WHERE o.id = u.org_id)

-- Let turns on the same budget begin one after the other: in PostgreSQL none would see the hold of another before.
-- $1 org_id.
UPDATE orgs
SET created_at = created_at
WHERE id = $1

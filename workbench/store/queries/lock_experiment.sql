-- Let changes of an experiment come one after the other.
-- $1 org_id, $2 name.
UPDATE experiments
SET started_at = started_at
WHERE org_id = $1 AND name = $2

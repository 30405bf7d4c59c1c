-- Let moves of a prompt's labels come one after the other.
-- $1 org_id, $2 name.
UPDATE prompts
SET created_at = created_at
WHERE org_id = $1 AND name = $2

-- Begin a prompt unless it is there. Either way its row is locked in PostgreSQL, so that versions are numbered one by one.
-- $1 org_id, $2 name, $3 now.
INSERT INTO prompts (org_id, name, created_at)
VALUES ($1, $2, $3)
ON CONFLICT (org_id, name) DO UPDATE SET created_at = prompts.created_at

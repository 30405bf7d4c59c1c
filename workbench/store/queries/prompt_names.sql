-- The names of an org's prompts.
-- $1 org_id, $2 how many at most.  One row per prompt.
SELECT name FROM prompts WHERE org_id = $1 ORDER BY name LIMIT $2

-- Save the next version of a prompt, unless one of them is the same. Comes after new_prompt.
-- $1 org_id, $2 name, $3 text, $4 sha256, $5 note, $6 author, $7 model, $8 effort, $9 now.
INSERT INTO prompt_versions (org_id, name, version, text, sha256, note, author, model, effort, created_at)
SELECT $1, $2, saved.newest + 1, $3, $4, $5, $6, $7, $8, $9
FROM (
    SELECT COALESCE(MAX(version), 0) AS newest, COUNT(*) FILTER (WHERE sha256 = $4) AS same
    FROM prompt_versions
    WHERE org_id = $1 AND name = $2
) saved
WHERE saved.same = 0

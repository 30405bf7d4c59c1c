-- The prompts of an org, by name.
-- $1 org_id, $2 text searched for in names, notes and texts ('' for all), $3 how many at most, $4 the name after which to go
-- on ('': from the first).  One row per prompt; production is missing if that label was never set.
SELECT
    p.name, newest.version AS latest,
    (
        SELECT l.version FROM prompt_labels l
        WHERE l.org_id = p.org_id AND l.name = p.name AND l.label = 'production'
        ORDER BY l.move DESC
        LIMIT 1
    ) AS production,
    newest.note, newest.author, newest.model, newest.effort, p.created_at, newest.created_at AS updated_at
FROM prompts p
JOIN prompt_versions newest ON newest.org_id = p.org_id AND newest.name = p.name
WHERE p.org_id = $1 AND p.name > $4
  AND newest.version = (SELECT MAX(version) FROM prompt_versions v WHERE v.org_id = p.org_id AND v.name = p.name)
  AND ($2 = '' OR EXISTS (
      SELECT 1 FROM prompt_versions v
      WHERE v.org_id = p.org_id AND v.name = p.name
        AND STRPOS(LOWER(v.name || ' ' || COALESCE(v.note, '') || ' ' || v.text), LOWER($2)) > 0
  ))
ORDER BY p.name
LIMIT $3

-- The version of a prompt with this text, model and effort.
-- $1 org_id, $2 name, $3 sha256.  One row, or none.
SELECT
    v.name, v.version, v.text, v.sha256, v.note, v.author, v.model, v.effort, v.created_at,
    (
        SELECT STRING_AGG(l.label, ', ' ORDER BY l.label)
        FROM prompt_labels l
        WHERE l.org_id = v.org_id AND l.name = v.name AND l.version = v.version AND l.move = (
            SELECT MAX(o.move) FROM prompt_labels o WHERE o.org_id = l.org_id AND o.name = l.name AND o.label = l.label
        )
    ) AS labels
FROM prompt_versions v
WHERE v.org_id = $1 AND v.name = $2 AND v.sha256 = $3

-- Where the labels of a prompt point.
-- $1 org_id, $2 name (NULL: of all prompts).  One row per label.
SELECT l.label, l.version, l.moved_at, l.moved_by, l.note, p.label IS NOT NULL AS protected, l.name
FROM prompt_labels l
LEFT JOIN protected_labels p ON p.org_id = l.org_id AND p.name = l.name AND p.label = l.label
WHERE l.org_id = $1 AND (CAST($2 AS TEXT) IS NULL OR l.name = $2)
  AND l.move = (
      SELECT MAX(o.move) FROM prompt_labels o WHERE o.org_id = l.org_id AND o.name = l.name AND o.label = l.label
  )
ORDER BY l.name, l.label

-- The moves of a prompt's labels, the newest first.
-- $1 org_id, $2 name, $3 label (NULL: of all).  One row per move; the version it moved from is missing at the first.
SELECT
    l.label, l.move, l.version, LAG(l.version) OVER (PARTITION BY l.label ORDER BY l.move) AS from_version,
    l.moved_at, l.moved_by, l.note, o.move AS undid, l.id
FROM prompt_labels l
LEFT JOIN prompt_labels o ON o.id = l.undid AND o.org_id = l.org_id
WHERE l.org_id = $1 AND l.name = $2 AND (CAST($3 AS TEXT) IS NULL OR l.label = $3)
ORDER BY l.moved_at DESC, l.label, l.move DESC

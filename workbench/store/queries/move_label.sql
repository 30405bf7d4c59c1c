-- Point a label at a version. Comes after lock_prompt; writes nothing if the label is protected, was moved meanwhile or
-- points there already.
-- $1 id, $2 org_id, $3 name, $4 label, $5 version, $6 now, $7 who, $8 note, $9 id of the move it takes back (NULL: none),
-- $10 whether protected labels may be moved.
INSERT INTO prompt_labels (id, org_id, name, label, version, moved_at, moved_by, note, undid, move)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, moved.times + 1
FROM (
    SELECT COALESCE(MAX(move), 0) AS times
    FROM prompt_labels
    WHERE org_id = $2 AND name = $3 AND label = $4
) moved
WHERE ($10 OR NOT EXISTS (SELECT 1 FROM protected_labels WHERE org_id = $2 AND name = $3 AND label = $4))
  AND NOT EXISTS (
      SELECT 1 FROM prompt_labels l
      WHERE l.org_id = $2 AND l.name = $3 AND l.label = $4 AND l.move = moved.times
        AND CASE WHEN CAST($9 AS TEXT) IS NULL THEN l.version = $5 ELSE l.id <> $9 END
  )
ON CONFLICT (id) DO NOTHING

-- Point the label of an experiment at its winner, if it was this stop that stopped it. Comes after stop_experiment; writes
-- nothing if the label points there already.
-- $1 id of the stop, $2 org_id, $3 name of the prompt, $4 label, $5 version, $6 now, $7 who, $8 note, $9 experiment.
INSERT INTO prompt_labels (id, org_id, name, label, version, moved_at, moved_by, note, move)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, moved.times + 1
FROM (
    SELECT COALESCE(MAX(move), 0) AS times
    FROM prompt_labels
    WHERE org_id = $2 AND name = $3 AND label = $4
) moved
WHERE EXISTS (SELECT 1 FROM experiments WHERE org_id = $2 AND name = $9 AND stop_id = $1)
  AND NOT EXISTS (
      SELECT 1 FROM prompt_labels l
      WHERE l.org_id = $2 AND l.name = $3 AND l.label = $4 AND l.move = moved.times AND l.version = $5
  )
ON CONFLICT (id) DO NOTHING

-- Let another part of the units take part in an experiment that runs. Comes after lock_experiment.
-- $1 id, $2 org_id, $3 experiment, $4 coverage, $5 now, $6 who.
INSERT INTO coverage_changes (id, org_id, experiment, change, coverage, changed_at, changed_by)
SELECT $1, $2, $3, changed.times + 1, $4, $5, $6
FROM (
    SELECT COALESCE(MAX(change), 0) AS times FROM coverage_changes WHERE org_id = $2 AND experiment = $3
) changed
WHERE EXISTS (SELECT 1 FROM experiments WHERE org_id = $2 AND name = $3 AND stopped_at IS NULL)
ON CONFLICT (id) DO NOTHING

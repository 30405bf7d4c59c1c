-- Stop an arm of an experiment that runs, unless it was stopped already.
-- $1 org_id, $2 experiment, $3 variant, $4 id of the stop, $5 why, $6 now.
INSERT INTO stopped_arms (org_id, experiment, variant, stop_id, reason, stopped_at)
SELECT $1, $2, $3, $4, $5, $6
WHERE EXISTS (SELECT 1 FROM experiments WHERE org_id = $1 AND name = $2 AND stopped_at IS NULL)
ON CONFLICT (org_id, experiment, variant) DO NOTHING

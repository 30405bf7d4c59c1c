-- Start an experiment, unless its name was used or another runs on the same label. Comes after lock_prompt.
-- $1 org_id, $2 name, $3 prompt_name, $4 label, $5 arms, $6 outcome, $7 unit, $8 coverage, $9 guard, $10 salt, $11 note,
-- $12 now, $13 who.
INSERT INTO experiments
    (org_id, name, prompt_name, label, arms, outcome, unit, coverage, guard, salt, note, started_at, started_by)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
WHERE NOT EXISTS (
    SELECT 1 FROM experiments WHERE org_id = $1 AND prompt_name = $3 AND label = $4 AND stopped_at IS NULL
)
ON CONFLICT (org_id, name) DO NOTHING

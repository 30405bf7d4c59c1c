-- Which experiment runs on a label of a prompt. Asked at every first turn with a label, so it asks no more: all of an
-- experiment takes DuckDB seven times as long.
-- $1 org_id, $2 prompt_name, $3 label.  One row, or none: its name.
SELECT name
FROM experiments
WHERE org_id = $1 AND prompt_name = $2 AND label = $3 AND stopped_at IS NULL

-- Stop an experiment that runs; not for a winner to which its label may not be moved. Comes after lock_prompt.
-- $1 org_id, $2 name, $3 now, $4 who, $5 why, $6 winner (NULL: none), $7 id of the stop, $8 whether protected labels may be
-- moved.
UPDATE experiments
SET stopped_at = $3, stopped_by = $4, stop_reason = $5, winner = $6, stop_id = $7
WHERE org_id = $1 AND name = $2 AND stopped_at IS NULL
  AND (
      CAST($6 AS TEXT) IS NULL OR $8 OR NOT EXISTS (
          SELECT 1 FROM protected_labels p
          WHERE p.org_id = $1 AND p.name = experiments.prompt_name AND p.label = experiments.label
      )
  )

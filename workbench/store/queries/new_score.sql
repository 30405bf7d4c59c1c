-- Record a score of a chat that an experiment assigned.
-- $1 id, $2 org_id, $3 experiment, $4 chat_id, $5 score, $6 now.
INSERT INTO experiment_scores (id, org_id, experiment, chat_id, score, created_at)
SELECT $1, $2, $3, $4, $5, $6
WHERE EXISTS (SELECT 1 FROM exposures WHERE org_id = $2 AND experiment = $3 AND chat_id = $4)
ON CONFLICT (id) DO NOTHING

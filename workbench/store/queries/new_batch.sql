-- Begin a batch.
-- $1 id, $2 org_id, $3 user_id, $4 model, $5 how many questions, $6 now, $7 session_id.
INSERT INTO batches (id, org_id, user_id, model, questions, created_at, session_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING

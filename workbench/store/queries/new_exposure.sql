-- Record which variant of an experiment a chat got, with its first question.
-- $1 id, $2 org_id, $3 experiment, $4 variant, $5 version, $6 unit_id, $7 chat_id, $8 user_id, $9 now.
INSERT INTO exposures (id, org_id, experiment, variant, version, unit_id, chat_id, user_id, exposed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO NOTHING

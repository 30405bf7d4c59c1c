-- Set a turn's worst case aside.
-- $1 id, $2 request_id, $3 org_id, $4 user_id, $5 chat_id, $6 message_id, $7 source, $8 model, $9 now, $10 key_id,
-- $11 prompt_name, $12 prompt_version, $13 experiment, $14 variant, $15 expires_at, $16 amount_usd, $17 input_tokens,
-- $18 session_id, $19 batch_id (NULL: in none).
INSERT INTO holds
    (id, request_id, org_id, user_id, chat_id, message_id, source, model, started_at, key_id, prompt_name,
     prompt_version, experiment, variant, expires_at, amount_usd, input_tokens, session_id, batch_id, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 'open')
ON CONFLICT (id) DO NOTHING

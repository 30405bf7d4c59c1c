-- Set a turn's worst case aside.
-- $1 id, $2 request_id, $3 org_id, $4 user_id, $5 chat_id, $6 message_id, $7 source, $8 model, $9 now, $10 key_id,
-- $11 expires_at, $12 amount_usd, $13 input_tokens, $14 session_id,
-- $15 batch_id (NULL: in none).
INSERT INTO holds
    (id, request_id, org_id, user_id, chat_id, message_id, source, model, started_at, key_id, expires_at, amount_usd,
     input_tokens, session_id, batch_id, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'open')
ON CONFLICT (id) DO NOTHING

-- Begin a chat. It may be there: begun a second time after a lost connection, or by two at once.
-- $1 chat_id, $2 org_id, $3 user_id, $4 title, $5 system, $6 model, $7 max_tokens, $8 forked_from, $9 now,
-- $10 prompt_name, $11 prompt_version, $12 prompt_label, $13 prompt_variables, $14 experiment, $15 variant.
INSERT INTO chats
    (id, org_id, user_id, title, system, model, max_tokens, forked_from, created_at, updated_at, prompt_name,
     prompt_version, prompt_label, prompt_variables, experiment, variant)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (id) DO UPDATE SET updated_at = GREATEST(chats.updated_at, excluded.updated_at)
WHERE chats.org_id = excluded.org_id

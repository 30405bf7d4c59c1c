-- Let a chat go on with another prompt.
-- $1 chat_id, $2 org_id, $3 system, $4 prompt_name, $5 prompt_version, $6 prompt_label, $7 prompt_variables,
-- $8 experiment, $9 variant.
UPDATE chats
SET system = $3, prompt_name = $4, prompt_version = $5, prompt_label = $6, prompt_variables = $7, experiment = $8,
    variant = $9
WHERE id = $1 AND org_id = $2

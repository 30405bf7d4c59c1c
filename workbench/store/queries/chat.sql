-- One chat of a caller.
-- $1 chat_id, $2 org_id, $3 user_id.  One row, or none.
SELECT
    c.id, c.title, c.system, c.model, c.max_tokens, c.forked_from, c.created_at, c.prompt_name, c.prompt_version,
    c.prompt_label, CAST(c.prompt_variables AS TEXT), v.model, v.effort, c.experiment, c.variant
FROM chats c
LEFT JOIN prompt_versions v ON v.org_id = c.org_id AND v.name = c.prompt_name AND v.version = c.prompt_version
WHERE c.id = $1 AND c.org_id = $2 AND c.user_id = $3

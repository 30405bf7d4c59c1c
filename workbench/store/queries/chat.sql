-- One chat of a caller.
-- $1 chat_id, $2 org_id, $3 user_id.  One row, or none.
SELECT id, title, system, model, max_tokens, prompt_name, prompt_version, forked_from, created_at
FROM chats
WHERE id = $1 AND org_id = $2 AND user_id = $3

-- Note how many tokens a question added.
-- $1 tokens, $2 id of the message, $3 org_id.
UPDATE messages
SET token_count = $1
WHERE id = $2 AND org_id = $3

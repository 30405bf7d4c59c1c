-- Begin a new chat with a question and its reply, which has yet to come: new_messages.sql where nobody has to count.
-- $1 chat_id, $2 org_id, $3 now, $4 id of the question, $5 its content, $6 its blocks, $7 id of the reply, $8 its model.
INSERT INTO messages (id, chat_id, org_id, seq, role, content, blocks, status, model, created_at)
VALUES
    ($4, $1, $2, 1, 'user', $5, $6, 'complete', NULL, $3),
    ($7, $1, $2, 2, 'assistant', '', '[]', 'streaming', $8, $3)
ON CONFLICT (id) DO NOTHING

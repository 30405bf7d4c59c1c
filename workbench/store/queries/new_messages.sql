-- Append a question and its reply, which has yet to come, to a chat.
-- $1 chat_id, $2 org_id, $3 now, $4 id of the question, $5 its content, $6 its blocks, $7 id of the reply, $8 its model.
WITH earlier AS (
    SELECT COALESCE(MAX(seq) FILTER (WHERE org_id = $2), 0) AS seq
    FROM messages
    WHERE chat_id = $1  -- and nothing else, or DuckDB would not use the index
)
INSERT INTO messages (id, chat_id, org_id, seq, role, content, blocks, status, model, created_at)
VALUES
    ($4, $1, $2, (SELECT seq + 1 FROM earlier), 'user', $5, $6, 'complete', NULL, $3),
    ($7, $1, $2, (SELECT seq + 2 FROM earlier), 'assistant', '', '[]', 'streaming', $8, $3)
ON CONFLICT (id) DO NOTHING

-- Append a message to a chat.
-- $1 id, $2 chat_id, $3 org_id, $4 role, $5 content, $6 blocks, $7 status, $8 model, $9 now.
INSERT INTO messages (id, chat_id, org_id, seq, role, content, blocks, status, model, created_at)
SELECT $1, $2, $3, COALESCE(MAX(seq) FILTER (WHERE org_id = $3), 0) + 1, $4, $5, $6, $7, $8, $9
FROM messages
WHERE chat_id = $2  -- and nothing else, or DuckDB would not use the index
ON CONFLICT (id) DO NOTHING

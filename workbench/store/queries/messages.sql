-- The messages of a chat of a caller, oldest first.
-- $1 chat_id, $2 org_id, $3 user_id.  One row per message.
WITH chat AS MATERIALIZED (  -- DuckDB uses the index only where nothing but chat_id is asked
    SELECT * FROM messages WHERE chat_id = $1
)
SELECT id, seq, role, content, CAST(blocks AS TEXT), token_count, status, stop_reason, model, created_at
FROM chat
WHERE org_id = $2
  AND EXISTS (SELECT 1 FROM chats WHERE id = $1 AND org_id = $2 AND user_id = $3)
ORDER BY seq

-- Copy the first messages of a chat into another.
-- $1 new chat_id, $2 org_id, $3 old chat_id, $4 how many, $5 what the new ids begin with.
INSERT INTO messages
    (id, chat_id, org_id, seq, role, content, blocks, token_count, status, stop_reason, model, created_at)
SELECT $5 || '-' || CAST(seq AS TEXT), $1, org_id, seq, role, content, blocks, token_count, status, stop_reason, model,
    created_at
FROM messages
WHERE chat_id = $3 AND org_id = $2 AND seq <= $4
ON CONFLICT (id) DO NOTHING

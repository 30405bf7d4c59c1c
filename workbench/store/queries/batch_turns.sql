-- The turns of a batch, those too whose results are recorded.
-- $1 batch id, $2 org_id.  One row per turn.
SELECT
    h.id, h.request_id, h.user_id, h.key_id, h.chat_id, h.message_id, h.model, h.started_at, h.input_tokens,
    h.amount_usd, h.state, c.max_tokens, q.id
FROM holds h
JOIN chats c ON c.id = h.chat_id AND c.org_id = h.org_id
JOIN messages m ON m.id = h.message_id AND m.org_id = h.org_id
JOIN messages q ON q.chat_id = m.chat_id AND q.org_id = m.org_id AND q.seq = m.seq - 1
WHERE h.batch_id = $1 AND h.org_id = $2

-- Turns that began and were never recorded, with what had been received of their replies.
-- No parameters: this is asked for all orgs, when the only process that can have live turns has just begun.
-- One row per turn.
SELECT
    h.id, h.request_id, h.org_id, h.user_id, h.chat_id, h.message_id, h.source, h.model, h.started_at, h.input_tokens,
    m.content, CAST(m.blocks AS TEXT)
FROM holds h
JOIN messages m ON m.id = h.message_id
WHERE h.state = 'open'
ORDER BY h.started_at

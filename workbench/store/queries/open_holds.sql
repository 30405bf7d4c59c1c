-- Turns that began and were never recorded, with what had been received of their replies.
-- $1 those that had expired by then (NULL: all, for when no other process can have live turns). Asked for all orgs.
-- One row per turn.
SELECT
    h.id, h.request_id, h.org_id, h.user_id, h.chat_id, h.message_id, h.source, h.model, h.started_at, h.input_tokens,
    m.content, CAST(m.blocks AS TEXT)
FROM holds h
JOIN messages m ON m.id = h.message_id
WHERE h.state = 'open' AND (CAST($1 AS TIMESTAMPTZ) IS NULL OR h.expires_at < $1)
ORDER BY h.started_at

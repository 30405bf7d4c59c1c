-- Turns that a session began and never recorded, with what had been received of their replies.
-- $1 session_id ('' for turns from before there were sessions), $2 now; turns of all orgs.  One row per turn.
SELECT
    h.id, h.request_id, h.org_id, h.user_id, h.chat_id, h.message_id, h.source, h.model, h.started_at, h.key_id,
    h.prompt_name, h.prompt_version, h.experiment, h.variant, h.input_tokens, h.amount_usd, h.batch_id, m.content,
    CAST(m.blocks AS TEXT)
FROM holds h
JOIN messages m ON m.id = h.message_id
WHERE h.state = 'open' AND COALESCE(h.session_id, '') = $1
  AND (h.batch_id IS NULL OR h.expires_at < $2)
ORDER BY h.started_at

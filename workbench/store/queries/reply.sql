-- The reply of a turn that has ended, and what it used.
-- $1 message_id, $2 org_id, $3 user_id.  One row, or none: no such turn, or it runs.
SELECT
    m.content, m.status, m.stop_reason, m.chat_id, u.request_id, u.model, u.started_at, u.ttft_ms, u.duration_ms, u.cost_usd,
    u.uncached_input_tokens, u.cache_read_tokens, u.cache_write_5m_tokens, u.cache_write_1h_tokens, u.output_tokens,
    u.thinking_tokens, u.usage_estimated, u.prompt_name, u.prompt_version, u.experiment,
    u.variant
FROM messages m
JOIN usage u ON u.message_id = m.id AND u.org_id = m.org_id
WHERE m.id = $1 AND m.org_id = $2 AND u.user_id = $3

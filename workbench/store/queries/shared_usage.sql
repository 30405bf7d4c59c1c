-- What the replies used and cost that a fork shares: they were asked in the chats it was forked from.
-- $1 chat_id, $2 org_id.  One row per call to a model.
WITH RECURSIVE ancestors AS (
    SELECT forked_from AS id FROM chats WHERE id = $1 AND org_id = $2
    UNION
    SELECT c.forked_from FROM chats c JOIN ancestors a ON c.id = a.id WHERE c.org_id = $2
),
copies AS MATERIALIZED (  -- DuckDB uses the index only where nothing but chat_id is asked
    SELECT id, org_id, seq, role, created_at FROM messages WHERE chat_id = $1
),
-- a copy keeps place and time; what was asked in an ancestor after the fork has the place, but not the time
shared AS MATERIALIZED (
    SELECT copies.id AS copy_id, messages.id
    FROM messages
    JOIN copies ON copies.seq = messages.seq AND copies.created_at = messages.created_at
    WHERE messages.chat_id IN (SELECT id FROM ancestors)
      AND messages.org_id = $2 AND copies.org_id = $2 AND copies.role = 'assistant'
)
SELECT
    copy_id AS message_id, request_id, model, status, stop_reason, ttft_ms, COALESCE(duration_ms, 0) AS duration_ms,
    started_at, uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens,
    thinking_tokens, usage_estimated, cost_usd
FROM usage
JOIN shared ON shared.id = usage.message_id
WHERE usage.chat_id IN (SELECT id FROM ancestors) AND usage.org_id = $2

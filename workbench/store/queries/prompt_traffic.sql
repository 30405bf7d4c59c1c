-- What chats that asked for a label of a prompt have called since a time.
-- $1 org_id, $2 name of the prompt, $3 label, $4 since.  One row per model: calls and input tokens by class.
SELECT
    u.model, COUNT(*), CAST(SUM(u.uncached_input_tokens) AS BIGINT), CAST(SUM(u.cache_read_tokens) AS BIGINT),
    CAST(SUM(u.cache_write_5m_tokens) AS BIGINT), CAST(SUM(u.cache_write_1h_tokens) AS BIGINT)
FROM usage u
LEFT JOIN chats c ON c.id = u.chat_id AND c.org_id = u.org_id
WHERE u.org_id = $1 AND u.prompt_name = $2 AND u.started_at >= $4
  AND (c.id IS NULL OR c.prompt_label = $3)  -- of a deleted chat nobody knows the label any more
GROUP BY u.model
ORDER BY u.model

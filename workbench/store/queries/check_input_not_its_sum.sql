-- Calls whose input tokens are not the sum of their four parts.
-- No parameters: all orgs.  One row per call: its id.
SELECT id
FROM usage
WHERE input_tokens <> uncached_input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens

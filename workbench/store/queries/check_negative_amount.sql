-- Calls that cost less than nothing, or used less than nothing.
-- No parameters: all orgs.  One row per call: its id.
SELECT id
FROM usage
WHERE cost_usd < 0
   OR LEAST(uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens) < 0
   OR LEAST(output_tokens, thinking_tokens, web_searches) < 0

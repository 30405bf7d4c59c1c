-- What must be the same in a store and its copy.
-- No parameters: all orgs.  One row: calls, input tokens, output tokens, US dollars (NULL: none are known).
SELECT COUNT(*), CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT), SUM(cost_usd)
FROM usage

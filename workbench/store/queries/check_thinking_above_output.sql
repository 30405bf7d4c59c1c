-- Calls with more thinking than output, which it is part of.
-- No parameters: all orgs.  One row per call: its id.
SELECT id
FROM usage
WHERE thinking_tokens > output_tokens

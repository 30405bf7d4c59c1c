-- What the replies cost and took that wb.map has had.
-- $1 chat ids, $2 org_id, $3 user_id.  One row per chat with a whole reply: of its last one.
SELECT chat_id, cost_usd, ttft_ms, duration_ms, output_tokens
FROM (
    SELECT
        chat_id, cost_usd, ttft_ms, duration_ms, output_tokens,
        ROW_NUMBER() OVER (PARTITION BY chat_id ORDER BY started_at DESC, id DESC) AS place
    FROM usage
    WHERE chat_id = ANY($1) AND org_id = $2 AND user_id = $3 AND source = 'map' AND status = 'complete'
) calls
WHERE place = 1

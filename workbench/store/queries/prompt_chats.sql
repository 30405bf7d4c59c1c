-- What became of the chats that asked for a label of a prompt: what is known before an experiment on it.
-- $1 org_id, $2 prompt_name, $3 label, $4 since.  One row per chat, as of experiment_units.
WITH calls AS (
    SELECT u.chat_id, u.message_id, u.status, u.cost_usd, u.ttft_ms, u.duration_ms, u.output_tokens
    FROM usage u
    JOIN chats c ON c.id = u.chat_id AND c.org_id = u.org_id
    WHERE u.org_id = $1 AND u.prompt_name = $2 AND u.started_at >= $4 AND c.prompt_label = $3
),
votes AS (
    SELECT chat_id, message_id, score,
        ROW_NUMBER() OVER (PARTITION BY user_id, message_id ORDER BY created_at DESC, id DESC) AS place
    FROM feedback
    WHERE org_id = $1 AND message_id IN (SELECT message_id FROM calls)
),
liked AS (
    SELECT chat_id, SIGN(SUM(score)) AS thumb
    FROM votes
    WHERE place = 1
    GROUP BY chat_id
),
used AS (
    SELECT
        chat_id, CASE WHEN COUNT(*) = COUNT(cost_usd) THEN SUM(cost_usd) END AS cost_usd, AVG(ttft_ms) AS ttft_ms,
        AVG(CASE WHEN status = 'complete' THEN duration_ms END) AS duration_ms, SUM(output_tokens) AS output_tokens,
        MAX(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed
    FROM calls
    GROUP BY chat_id
)
SELECT
    u.chat_id AS unit_id, CAST(u.cost_usd AS DOUBLE PRECISION) AS cost_usd, CAST(u.ttft_ms AS DOUBLE PRECISION) AS ttft_ms,
    CAST(u.duration_ms AS DOUBLE PRECISION) AS duration_ms, CAST(u.output_tokens AS DOUBLE PRECISION) AS output_tokens,
    CAST(u.failed AS BIGINT) AS failed, CAST(NULLIF(l.thumb, 0) AS DOUBLE PRECISION) AS thumb,
    CAST(NULL AS DOUBLE PRECISION) AS score
FROM used u
LEFT JOIN liked l ON l.chat_id = u.chat_id

-- What became of the units of an experiment.
-- $1 org_id, $2 experiment.  One row per chat or user that it assigned. Cost and tokens are sums over its calls, the cost
-- NULL when a price is not known; times are means, of the first token over all calls that had one and of the whole over
-- those that ended well. Only calls on the arm's own prompt count, and of those that failed what they cost too. Of a
-- message's feedback the newest of each user counts, and a unit's thumb is what more of it says (NULL: none, or as much of
-- one as of the other); of a chat's scores the newest, and a unit's score is the mean.
WITH assigned AS (
    SELECT chat_id, MIN(unit_id) AS unit_id, MIN(variant) AS variant, MIN(exposed_at) AS exposed_at
    FROM exposures
    WHERE org_id = $1 AND experiment = $2
    GROUP BY chat_id
),
calls AS (
    SELECT chat_id, message_id, status, cost_usd, ttft_ms, duration_ms, output_tokens
    FROM usage
    WHERE org_id = $1 AND experiment = $2 AND started_at >= (SELECT MIN(exposed_at) FROM assigned)
),
used AS (
    SELECT
        a.unit_id, MIN(a.variant) AS variant, MIN(a.exposed_at) AS first_exposed_at, COUNT(c.message_id) AS calls,
        CASE WHEN COUNT(c.message_id) = COUNT(c.cost_usd) THEN SUM(c.cost_usd) END AS cost_usd,
        AVG(c.ttft_ms) AS ttft_ms, AVG(CASE WHEN c.status = 'complete' THEN c.duration_ms END) AS duration_ms,
        SUM(c.output_tokens) AS output_tokens, MAX(CASE WHEN c.status = 'failed' THEN 1 ELSE 0 END) AS failed
    FROM assigned a
    LEFT JOIN calls c ON c.chat_id = a.chat_id
    GROUP BY a.unit_id
),
votes AS (
    SELECT chat_id, message_id, score,
        ROW_NUMBER() OVER (PARTITION BY user_id, message_id ORDER BY created_at DESC, id DESC) AS place
    FROM feedback
    WHERE org_id = $1 AND chat_id IN (SELECT chat_id FROM assigned) AND message_id IN (SELECT message_id FROM calls)
),
liked AS (
    SELECT a.unit_id, SIGN(SUM(v.score)) AS thumb
    FROM votes v
    JOIN assigned a ON a.chat_id = v.chat_id
    WHERE v.place = 1
    GROUP BY a.unit_id
),
scores AS (
    SELECT chat_id, score, ROW_NUMBER() OVER (PARTITION BY chat_id ORDER BY created_at DESC, id DESC) AS place
    FROM experiment_scores
    WHERE org_id = $1 AND experiment = $2
),
scored AS (
    SELECT a.unit_id, AVG(s.score) AS score
    FROM scores s
    JOIN assigned a ON a.chat_id = s.chat_id
    WHERE s.place = 1
    GROUP BY a.unit_id
)
SELECT
    u.unit_id, u.variant, CAST(u.cost_usd AS DOUBLE PRECISION) AS cost_usd, CAST(u.ttft_ms AS DOUBLE PRECISION) AS ttft_ms,
    CAST(u.duration_ms AS DOUBLE PRECISION) AS duration_ms, CAST(u.output_tokens AS DOUBLE PRECISION) AS output_tokens,
    u.calls, CAST(u.failed AS BIGINT) AS failed, CAST(NULLIF(l.thumb, 0) AS DOUBLE PRECISION) AS thumb, s.score,
    u.first_exposed_at
FROM used u
LEFT JOIN liked l ON l.unit_id = u.unit_id
LEFT JOIN scored s ON s.unit_id = u.unit_id
ORDER BY u.first_exposed_at, u.unit_id

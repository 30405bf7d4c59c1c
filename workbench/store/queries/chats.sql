-- The chats of a caller, the one used last first, with what each has cost so far.
-- $1 org_id, $2 user_id, $3 text searched for in titles and messages ('' for all), $4 how many at most,
-- $5 and $6 updated_at and id of the chat after which to go on (NULL: from the first).
-- One row per chat; cost_usd is NULL when the price of a call was not known. Rows of tables that were asked one by one
-- (wb.map) are chats too, thousands of them, and left out.
WITH page AS MATERIALIZED (  -- so that only what these chats used is summed up
    SELECT
        c.id, c.title, c.created_at, c.updated_at, c.forked_from,
        c.prompt_name || '@' || CAST(c.prompt_version AS TEXT) AS prompt
    FROM chats c
    WHERE c.org_id = $1 AND c.user_id = $2 AND LEFT(c.id, 4) <> 'map-'
      AND ($3 = '' OR STRPOS(LOWER(c.title), LOWER($3)) > 0 OR c.id IN (
          SELECT m.chat_id FROM messages m
          WHERE $3 <> '' AND m.org_id = $1 AND STRPOS(LOWER(m.content), LOWER($3)) > 0
      ))
      AND (CAST($5 AS TIMESTAMPTZ) IS NULL OR (c.updated_at, c.id) < (CAST($5 AS TIMESTAMPTZ), CAST($6 AS TEXT)))
    ORDER BY c.updated_at DESC, c.id DESC
    LIMIT $4
)
SELECT
    c.id AS chat_id, c.title, c.created_at, c.updated_at,
    COALESCE(u.turns, 0)                                             AS turns,
    COALESCE(u.total_tokens, 0)                                      AS total_tokens,
    CAST(CASE WHEN u.unpriced > 0 THEN NULL ELSE COALESCE(u.cost_usd, 0) END AS DECIMAL(18, 9)) AS cost_usd,
    u.models,
    c.forked_from,
    c.prompt
FROM page c
LEFT JOIN (
    SELECT
        chat_id,
        COUNT(*)                                                     AS turns,
        CAST(SUM(input_tokens + output_tokens) AS BIGINT)            AS total_tokens,
        CAST(SUM(cost_usd) AS DECIMAL(18, 9))                        AS cost_usd,
        SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END)            AS unpriced,
        STRING_AGG(DISTINCT model, ', ' ORDER BY model)              AS models
    FROM usage
    WHERE org_id = $1 AND user_id = $2 AND chat_id IN (SELECT id FROM page)
    GROUP BY chat_id
) u ON u.chat_id = c.id
ORDER BY c.updated_at DESC, c.id DESC

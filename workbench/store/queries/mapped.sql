-- What wb.map has had answered already, each question in a chat of its own.
-- $1 chat ids, $2 org_id, $3 user_id.  One row per chat of the caller that is there: its id, and the last whole reply to a
-- question that wb.map asked in it, why it stopped and its tokens (NULL: no such reply yet).
WITH wanted AS MATERIALIZED (  -- to be joined: DuckDB would look through a list once for each row
    SELECT id FROM chats WHERE id IN (SELECT UNNEST(CAST($1 AS TEXT[]))) AND org_id = $2 AND user_id = $3
),
replies AS (
    SELECT
        m.chat_id, m.content, m.stop_reason, m.token_count,
        ROW_NUMBER() OVER (PARTITION BY m.chat_id ORDER BY m.seq DESC) AS place
    FROM messages m
    JOIN usage u ON u.message_id = m.id AND u.org_id = $2 AND u.source = 'map'
    WHERE m.chat_id IN (SELECT id FROM wanted) AND m.org_id = $2 AND m.role = 'assistant' AND m.status = 'complete'
)
SELECT w.id, r.content, r.stop_reason, r.token_count
FROM wanted w
LEFT JOIN replies r ON r.chat_id = w.id AND r.place = 1

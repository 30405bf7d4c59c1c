-- Where the chats of a family part, and what is asked there.
-- $1 chat ids, $2 org_id.  One row per chat and place at which any of them parts from another: how many messages it has,
-- how many of them it shares with the chat it was forked from, the place (NULL: it has nothing there), and a digest of
-- what it asks there. Shared messages are copies, whose ids end with their place: see fork_messages.sql.
WITH family AS MATERIALIZED (  -- DuckDB uses the index only where nothing but chat_id is asked
    SELECT * FROM messages WHERE chat_id = ANY($1)
),
shared AS (
    SELECT
        chat_id,
        COUNT(*)                                                                    AS messages,
        SUM(CASE WHEN id LIKE '%-' || CAST(seq AS TEXT) THEN 1 ELSE 0 END)          AS shared
    FROM family
    WHERE org_id = $2
    GROUP BY chat_id
)
SELECT s.chat_id, CAST(s.messages AS BIGINT), CAST(s.shared AS BIGINT), f.seq, MD5(f.content)
FROM shared s
LEFT JOIN family f ON f.chat_id = s.chat_id AND f.org_id = $2 AND f.seq IN (SELECT shared + 1 FROM shared)

-- What a user thinks of the replies of a chat: of each the newest feedback, also if it was given in a chat that shares it.
-- $1 chat_id, $2 org_id, $3 user_id.  One row per reply with feedback.
WITH RECURSIVE ancestors AS (
    SELECT forked_from AS id FROM chats WHERE id = $1 AND org_id = $2
    UNION
    SELECT c.forked_from FROM chats c JOIN ancestors a ON c.id = a.id WHERE c.org_id = $2
),
here AS MATERIALIZED (  -- DuckDB uses the index only where nothing but chat_id is asked
    SELECT id, org_id, seq, role, created_at FROM messages WHERE chat_id = $1
),
-- a copy keeps place and time, as in shared_usage
known AS MATERIALIZED (
    SELECT id AS message_id, id AS rated_id FROM here WHERE org_id = $2 AND role = 'assistant'
    UNION ALL
    SELECT here.id, messages.id
    FROM messages
    JOIN here ON here.seq = messages.seq AND here.created_at = messages.created_at
    WHERE messages.chat_id IN (SELECT id FROM ancestors)
      AND messages.org_id = $2 AND here.org_id = $2 AND here.role = 'assistant'
),
given AS (
    SELECT
        k.message_id, f.score, f.comment,
        ROW_NUMBER() OVER (PARTITION BY k.message_id ORDER BY f.created_at DESC, f.id DESC) AS place
    FROM feedback f
    JOIN known k ON k.rated_id = f.message_id
    WHERE f.org_id = $2 AND f.user_id = $3
)
SELECT message_id, score, comment FROM given WHERE place = 1

-- Messages of a caller, chat by chat, each chat's oldest first.
-- $1 org_id, $2 user_id, $3 chat_id ('' for all), $4 text searched for ('' for all), $5 how many at most, the newest.
-- One row per message.
SELECT * FROM (
    SELECT
        m.chat_id, c.title, m.seq, m.role, m.content, m.token_count, m.status, m.stop_reason, m.model, m.created_at, m.id
    FROM messages m
    JOIN chats c ON c.id = m.chat_id
    WHERE m.org_id = $1 AND c.org_id = $1 AND c.user_id = $2
      AND ($3 = '' OR m.chat_id = $3)
      AND ($4 = '' OR STRPOS(LOWER(m.content), LOWER($4)) > 0)
    ORDER BY m.created_at DESC, m.id DESC
    LIMIT $5
) AS newest
ORDER BY chat_id, seq

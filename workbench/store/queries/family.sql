-- The chats that are branches of one another: forks of a chat, forks of those, and what all of them were forked from.
-- $1 chat_id, $2 org_id, $3 user_id.  One row per chat, none if the caller has no such chat. A chat that was deleted is
-- not among them: its forks still belong together, but no longer to what it was forked from itself.
WITH RECURSIVE ancestors AS (
    SELECT id, forked_from FROM chats WHERE id = $1 AND org_id = $2 AND user_id = $3
    UNION
    SELECT c.id, c.forked_from
    FROM chats c
    JOIN ancestors a ON c.id = a.forked_from
    WHERE c.org_id = $2 AND c.user_id = $3
),
oldest AS (
    SELECT id, forked_from FROM ancestors WHERE NOT EXISTS (SELECT 1 FROM ancestors a WHERE a.id = ancestors.forked_from)
),
family AS (
    SELECT c.id
    FROM chats c
    JOIN oldest o ON c.id = o.id OR c.forked_from = o.forked_from
    WHERE c.org_id = $2 AND c.user_id = $3
    UNION
    SELECT c.id
    FROM chats c
    JOIN family f ON c.forked_from = f.id
    WHERE c.org_id = $2 AND c.user_id = $3
)
SELECT c.id, c.forked_from, c.created_at, c.updated_at
FROM chats c
WHERE c.org_id = $2 AND c.user_id = $3 AND c.id IN (SELECT id FROM family)
ORDER BY c.created_at, c.id

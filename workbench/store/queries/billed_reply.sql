-- The reply that was billed, of which a reply is a copy: a fork copies what it shares, and usage names what was asked.
-- $1 message_id, $2 org_id.  One row, or none: it was billed itself, or the chat it was asked in is gone.
WITH RECURSIVE copy AS MATERIALIZED (
    SELECT chat_id, seq, created_at FROM messages WHERE id = $1 AND org_id = $2
),
ancestors AS (
    SELECT forked_from AS id FROM chats WHERE id = (SELECT chat_id FROM copy) AND org_id = $2
    UNION
    SELECT c.forked_from FROM chats c JOIN ancestors a ON c.id = a.id WHERE c.org_id = $2
)
SELECT messages.id
FROM messages
JOIN copy ON copy.seq = messages.seq AND copy.created_at = messages.created_at
JOIN usage ON usage.message_id = messages.id AND usage.org_id = messages.org_id
WHERE messages.chat_id IN (SELECT id FROM ancestors) AND messages.org_id = $2
LIMIT 1

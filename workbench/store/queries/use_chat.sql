-- Go on with a chat; in PostgreSQL this also locks it, so that two turns cannot take the same place in it.
-- $1 chat_id, $2 org_id, $3 now.
UPDATE chats
SET updated_at = GREATEST(updated_at, $3)
WHERE id = $1 AND org_id = $2

-- Call a chat of a caller otherwise.
-- $1 chat_id, $2 org_id, $3 user_id, $4 title.
UPDATE chats SET title = $4 WHERE id = $1 AND org_id = $2 AND user_id = $3

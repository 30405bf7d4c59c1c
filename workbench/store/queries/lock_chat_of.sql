-- Let nobody delete the chat of a message until the end of the transaction, as erase_lock does the other way round.
-- $1 message_id, $2 org_id.
UPDATE chats
SET updated_at = updated_at
WHERE org_id = $2 AND id = (SELECT m.chat_id FROM messages m WHERE m.id = $1 AND m.org_id = $2)

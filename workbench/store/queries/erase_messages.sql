-- Delete the messages of chats that are no longer there.
-- $1 chat ids, $2 org_id.
DELETE FROM messages
WHERE chat_id = ANY($1) AND org_id = $2
  AND NOT EXISTS (SELECT 1 FROM chats c WHERE c.id = messages.chat_id AND c.org_id = messages.org_id)

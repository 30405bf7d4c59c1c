-- Delete the idempotency keys whose answers are in chats that are no longer there. Comes before erase_messages.
-- $1 chat ids, $2 org_id.
DELETE FROM idempotency_keys
WHERE org_id = $2
  AND message_id IN (
    SELECT m.id
    FROM messages m
    WHERE m.chat_id = ANY($1) AND m.org_id = $2
      AND NOT EXISTS (SELECT 1 FROM chats c WHERE c.id = m.chat_id AND c.org_id = m.org_id)
  )

-- Take back the questions of a batch that never was, as far as anybody knows. Comes before withdraw_replies and withdraw_holds.
-- $1 batch id, $2 org_id.
DELETE FROM messages
WHERE org_id = $2 AND role = 'user' AND EXISTS (
    SELECT 1
    FROM holds h
    JOIN messages m ON m.id = h.message_id
    WHERE h.batch_id = $1 AND h.org_id = $2 AND h.state = 'open' AND m.chat_id = messages.chat_id AND m.seq = messages.seq + 1
)
  AND EXISTS (SELECT 1 FROM batches b WHERE b.id = $1 AND b.org_id = $2 AND b.upstream_id IS NULL)

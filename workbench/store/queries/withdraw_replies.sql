-- Take back the replies to come of a batch that never was.
-- $1 batch id, $2 org_id.
DELETE FROM messages
WHERE org_id = $2 AND id IN (SELECT message_id FROM holds WHERE batch_id = $1 AND org_id = $2 AND state = 'open')

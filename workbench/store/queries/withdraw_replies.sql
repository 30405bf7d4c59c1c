-- Take back the replies to come of a batch that never was, as far as anybody knows.
-- $1 batch id, $2 org_id.
DELETE FROM messages
WHERE org_id = $2 AND id IN (SELECT message_id FROM holds WHERE batch_id = $1 AND org_id = $2 AND state = 'open')
  AND EXISTS (SELECT 1 FROM batches b WHERE b.id = $1 AND b.org_id = $2 AND b.upstream_id IS NULL)

-- Give a key back if its turn did not end well: the next request with it asks anew.
-- $1 org_id, $2 user_id, $3 message_id.
DELETE FROM idempotency_keys
WHERE org_id = $1 AND user_id = $2 AND message_id = $3
  AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = $3 AND m.org_id = $1 AND m.status = 'complete')

-- Who has claimed a key, and how far they are.
-- $1 org_id, $2 user_id, $3 key.  One row, or none: fingerprint, session_id, message_id, status of the reply (NULL: the turn
-- has not begun).
SELECT k.fingerprint, k.session_id, k.message_id, m.status
FROM idempotency_keys k
LEFT JOIN messages m ON m.id = k.message_id AND m.org_id = k.org_id
WHERE k.org_id = $1 AND k.user_id = $2 AND k.key = $3

-- Claim a key for a turn, unless somebody has.
-- $1 org_id, $2 user_id, $3 key, $4 fingerprint, $5 session_id, $6 message_id of the reply to come, $7 now.
INSERT INTO idempotency_keys (org_id, user_id, key, fingerprint, session_id, message_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (org_id, user_id, key) DO NOTHING

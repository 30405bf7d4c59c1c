-- Let a key expire that another one replaces. If somebody else has replaced it meanwhile, nothing happens.
-- $1 org_id, $2 id, $3 id of the new key, $4 until when the old one works.
UPDATE api_keys
SET replaced_by = $3, expires_at = LEAST(COALESCE(expires_at, $4), $4)
WHERE org_id = $1 AND id = $2 AND replaced_by IS NULL AND revoked_at IS NULL

-- Remove a new key that was to replace one which somebody else replaced or revoked meanwhile. Comes after replace_key.
-- $1 org_id, $2 id of the old key, $3 id of the new key.
DELETE FROM api_keys
WHERE org_id = $1 AND id = $3
  AND NOT EXISTS (SELECT 1 FROM api_keys old WHERE old.org_id = $1 AND old.id = $2 AND old.replaced_by = $3)

-- Write a reply as it is now.
-- $1 id, $2 org_id, $3 content, $4 blocks, $5 status, $6 stop_reason, $7 token_count.
UPDATE messages
SET content = $3, blocks = $4, status = $5, stop_reason = $6, token_count = $7
WHERE id = $1 AND org_id = $2

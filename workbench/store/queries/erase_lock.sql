-- Let nobody begin a turn in these chats until the end of the transaction: a turn updates its chat first.
-- $1 chat ids, $2 org_id.
UPDATE chats
SET updated_at = updated_at
WHERE id = ANY($1) AND org_id = $2

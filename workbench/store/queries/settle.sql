-- End a hold; what a dead process left behind is lost only if its turn did not end after all.
-- $1 state, $2 id, $3 org_id.
UPDATE holds
SET state = $1
WHERE id = $2 AND org_id = $3 AND ($1 <> 'lost' OR state = 'open')

-- Write a reply as it is now.
-- A partial reply that arrives late, written again after a lost connection, never takes the place of the whole one; nor
-- does the one of a turn found lost whose end was written after all, by a process that was only just dying or was asleep.
-- $1 id, $2 org_id, $3 content, $4 blocks, $5 status, $6 stop_reason, $7 token_count.
UPDATE messages
SET content = $3, blocks = $4, status = $5, stop_reason = $6, token_count = $7
WHERE id = $1 AND org_id = $2 AND ($5 NOT IN ('streaming', 'lost') OR status = 'streaming')

-- Messages between two times.
-- $1 from (inclusive), $2 until (not), $3 an id ('' to begin with): only those after it, $4 how many at most.
-- All orgs.  One row per message, in the order of their ids.
SELECT
    id, chat_id, org_id, seq, role, content, CAST(blocks AS TEXT) AS blocks, token_count, status, stop_reason, model,
    created_at
FROM messages
WHERE created_at >= $1 AND created_at < $2 AND id > $3
ORDER BY id
LIMIT $4

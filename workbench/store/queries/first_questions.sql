-- The first questions of the chats that began with a prompt, the newest first.
-- $1 org_id, $2 prompt_name, $3 how many at most.  One row per chat: its id, the question, and the values of its variables.
-- Questions with attachments are left out, and those of wb.map and of forks, which began with another chat's.
SELECT u.chat_id, q.content AS question, CAST(c.prompt_variables AS TEXT) AS variables
FROM usage u
JOIN messages r ON r.id = u.message_id AND r.org_id = u.org_id AND r.seq = 2
JOIN messages q ON q.chat_id = u.chat_id AND q.org_id = u.org_id AND q.seq = 1
JOIN chats c ON c.id = u.chat_id AND c.org_id = u.org_id
WHERE u.org_id = $1 AND u.prompt_name = $2 AND u.source NOT IN ('map', 'import') AND c.forked_from IS NULL
  AND json_array_length(q.blocks) = 1
ORDER BY u.started_at DESC, u.id DESC
LIMIT $3

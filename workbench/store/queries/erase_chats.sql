-- Delete chats, but none with a turn that runs, and none used since.
-- $1 chat ids, $2 org_id, $3 a time (NULL: whenever used last).
DELETE FROM chats
WHERE id = ANY($1) AND org_id = $2
  AND updated_at < COALESCE(CAST($3 AS TIMESTAMPTZ), updated_at + INTERVAL '1' DAY)
  AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.chat_id = chats.id AND h.org_id = chats.org_id AND h.state = 'open')

-- How long the content of each org's chats is kept.
-- No parameters: for whoever runs the store.  One row per org: its id, days after the last use (NULL: for ever).
SELECT id, retain_days
FROM orgs
ORDER BY id

-- The sessions that have begun turns which are not recorded yet, of all orgs.
-- No parameters.  One row per session; '' stands for turns from before there were sessions.
SELECT DISTINCT COALESCE(session_id, '')
FROM holds
WHERE state = 'open'

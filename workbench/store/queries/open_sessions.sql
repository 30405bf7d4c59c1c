-- The sessions that have begun turns which are not recorded yet, of all orgs.
-- Those in a batch end without their process, as long as its results can be had.
-- $1 now.  One row per session; '' stands for turns from before there were sessions.
SELECT DISTINCT COALESCE(session_id, '')
FROM holds
WHERE state = 'open' AND (batch_id IS NULL OR expires_at < $1)

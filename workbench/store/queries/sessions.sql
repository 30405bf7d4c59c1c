-- Who has the store open, or had it and died.
-- No parameters.  One row per session.
SELECT id, pid, host, process_started, heartbeat_at
FROM sessions

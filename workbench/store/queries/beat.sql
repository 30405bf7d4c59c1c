-- Say that a session is alive.
-- $1 id, $2 pid, $3 host, $4 program, $5 process_started, $6 now.
INSERT INTO sessions (id, pid, host, program, process_started, started_at, heartbeat_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = $6

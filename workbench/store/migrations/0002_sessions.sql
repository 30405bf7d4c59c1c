-- Who has the store open. Several processes can, so an open hold is a lost turn only when its session's process is dead:
-- on the same host that is seen at once, elsewhere by a heartbeat that has stopped.
CREATE TABLE sessions (
    id              TEXT PRIMARY KEY,
    pid             BIGINT NOT NULL,
    host            TEXT NOT NULL,            -- name of the machine, and of the container's processes if there is one
    program         TEXT NOT NULL,
    process_started TEXT NOT NULL,            -- tells the process from a later one with the same PID; '' if unknown
    started_at      TIMESTAMPTZ NOT NULL,
    heartbeat_at    TIMESTAMPTZ NOT NULL
);

ALTER TABLE holds ADD COLUMN session_id TEXT;  -- NULL: written when only one process could have the store open

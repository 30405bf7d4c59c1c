-- What an org, a user and a key may spend and ask. A budget is per day or month in UTC, or for ever when it has no period.
ALTER TABLE users ADD COLUMN budget_usd DECIMAL(18, 9);       -- NULL: no budget but the org's
ALTER TABLE users ADD COLUMN budget_period TEXT;
ALTER TABLE users ADD COLUMN rate_per_minute DOUBLE PRECISION; -- NULL: no limit but the org's
ALTER TABLE users ADD COLUMN rate_burst DOUBLE PRECISION;
ALTER TABLE api_keys ADD COLUMN name TEXT;                     -- for people
ALTER TABLE api_keys ADD COLUMN budget_usd DECIMAL(18, 9);
ALTER TABLE api_keys ADD COLUMN budget_period TEXT;
ALTER TABLE usage ADD COLUMN key_id TEXT;                      -- NULL: not asked with a key
ALTER TABLE holds ADD COLUMN key_id TEXT;

-- Requests that may be sent again without being done again. The answer itself is in messages and usage.
CREATE TABLE idempotency_keys (
    org_id          TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    key             TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,            -- SHA-256 of path and body
    session_id      TEXT NOT NULL,            -- whose process works on it
    message_id      TEXT NOT NULL,            -- of the reply, which may have yet to begin
    created_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, user_id, key)
);

-- Rate limits that several servers share.
CREATE TABLE rate_buckets (
    id              TEXT PRIMARY KEY,
    tokens          DOUBLE PRECISION NOT NULL,
    taken           DOUBLE PRECISION NOT NULL, -- by the last request; 0 when it was refused
    updated_at      TIMESTAMPTZ NOT NULL
);

-- The ledger: chats and their messages, what each call to a model used and cost, and who may call.
-- Ids are UUIDv7 texts made by the client, so that writing again what was already written is harmless; ids of orgs and
-- users may be any short name. No foreign keys and no secondary indexes: in DuckDB they block later changes and buy
-- nothing (1e6 messages: the last 20 of one chat in 5 ms without, 4 ms with an index).

CREATE TABLE orgs (
    id              TEXT PRIMARY KEY,
    created_at      TIMESTAMPTZ NOT NULL,
    budget_usd      DECIMAL(18, 9),           -- NULL: no budget
    budget_period   TEXT,                     -- day, month
    rate_per_minute DOUBLE PRECISION,         -- NULL: the default of the settings
    rate_burst      DOUBLE PRECISION,
    retain_days     INTEGER                   -- NULL: for ever
);

CREATE TABLE users (
    org_id          TEXT NOT NULL,
    id              TEXT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);

-- A key is shown once, when it is made; only the hash of its secret is kept.
CREATE TABLE api_keys (
    id              TEXT PRIMARY KEY,
    org_id          TEXT NOT NULL,
    user_id         TEXT,
    secret_sha256   TEXT NOT NULL,
    scopes          TEXT NOT NULL,            -- separated by spaces
    created_at      TIMESTAMPTZ NOT NULL,
    expires_at      TIMESTAMPTZ,
    revoked_at      TIMESTAMPTZ,
    last_used_at    TIMESTAMPTZ,
    replaced_by     TEXT
);

CREATE TABLE chats (
    id              TEXT PRIMARY KEY,
    org_id          TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    title           TEXT NOT NULL,
    system          TEXT,                     -- the system prompt of the chat, if it has one of its own
    model           TEXT,                     -- NULL: the default at the time of each turn
    max_tokens      INTEGER,
    prompt_name     TEXT,
    prompt_version  INTEGER,
    forked_from     TEXT,                     -- the chat whose first messages this one began with
    created_at      TIMESTAMPTZ NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL
);

-- Both messages of a turn are written before the model is called, the reply empty and 'streaming'.
CREATE TABLE messages (
    id              TEXT PRIMARY KEY,
    chat_id         TEXT NOT NULL,
    org_id          TEXT NOT NULL,
    seq             INTEGER NOT NULL,         -- 1, 2, 3, … within the chat
    role            TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    content         TEXT NOT NULL,            -- the text people read
    blocks          JSON NOT NULL,            -- the content blocks as sent and received
    token_count     BIGINT,                   -- reply: its output tokens; question: the input tokens it added
    status          TEXT NOT NULL CHECK (status IN ('streaming', 'complete', 'interrupted', 'failed', 'lost')),
    stop_reason     TEXT,
    model           TEXT,
    created_at      TIMESTAMPTZ NOT NULL
);

-- What was billed: one row per call to a model, written once and never changed. The counts allow any row to be priced
-- again; cost_usd is what was believed that day, NULL when the price was not known.
CREATE TABLE usage (
    id                    TEXT PRIMARY KEY,
    request_id            TEXT NOT NULL,
    org_id                TEXT NOT NULL,
    user_id               TEXT NOT NULL,
    chat_id               TEXT,
    message_id            TEXT,
    source                TEXT NOT NULL,      -- ask, widget, magic, map, server, import
    model                 TEXT NOT NULL,
    prompt_name           TEXT,
    prompt_version        INTEGER,
    experiment            TEXT,
    variant               TEXT,
    started_at            TIMESTAMPTZ NOT NULL,
    ttft_ms               INTEGER,            -- NULL: no token came
    duration_ms           INTEGER,
    input_tokens          BIGINT NOT NULL,    -- the whole prompt: the sum of the next four
    uncached_input_tokens BIGINT NOT NULL,
    cache_read_tokens     BIGINT NOT NULL,
    cache_write_5m_tokens BIGINT NOT NULL,
    cache_write_1h_tokens BIGINT NOT NULL,
    output_tokens         BIGINT NOT NULL,
    thinking_tokens       BIGINT NOT NULL,    -- part of the output tokens
    web_searches          BIGINT NOT NULL,
    service_tier          TEXT,
    inference_geo         TEXT,
    speed                 TEXT,
    stop_reason           TEXT,
    status                TEXT NOT NULL CHECK (status IN ('complete', 'interrupted', 'failed', 'lost')),
    error_type            TEXT,
    usage_estimated       BOOLEAN NOT NULL,   -- the call ended before its final counts arrived
    cost_usd              DECIMAL(18, 9),
    price_source          TEXT NOT NULL,
    upstream_request_id   TEXT,
    history_messages      INTEGER,            -- how many older messages were sent with the question
    left_out_messages     INTEGER             -- how many were trimmed
);

-- The worst case of a turn, set aside before the call and settled after it. An open hold without a usage row is a turn
-- whose process died: it holds what is needed to record the turn as lost.
CREATE TABLE holds (
    id              TEXT PRIMARY KEY,         -- that of the usage row to come
    request_id      TEXT NOT NULL,
    org_id          TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    chat_id         TEXT NOT NULL,
    message_id      TEXT NOT NULL,
    source          TEXT NOT NULL,
    model           TEXT NOT NULL,
    started_at      TIMESTAMPTZ NOT NULL,
    expires_at      TIMESTAMPTZ NOT NULL,
    amount_usd      DECIMAL(18, 9),           -- NULL: no price is known
    input_tokens    BIGINT NOT NULL,          -- an upper estimate
    state           TEXT NOT NULL CHECK (state IN ('open', 'settled', 'lost'))
);

CREATE TABLE prompts (
    org_id          TEXT NOT NULL,
    name            TEXT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, name)
);

CREATE TABLE prompt_versions (
    org_id          TEXT NOT NULL,
    name            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    text            TEXT NOT NULL,
    sha256          TEXT NOT NULL,
    note            TEXT,
    author          TEXT,
    model           TEXT,
    created_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, name, version)
);

-- Every move of a label is a row; the newest one counts.
CREATE TABLE prompt_labels (
    id              TEXT PRIMARY KEY,
    org_id          TEXT NOT NULL,
    name            TEXT NOT NULL,
    label           TEXT NOT NULL,
    version         INTEGER NOT NULL,
    moved_at        TIMESTAMPTZ NOT NULL,
    moved_by        TEXT,
    note            TEXT
);

CREATE TABLE experiments (
    org_id          TEXT NOT NULL,
    name            TEXT NOT NULL,
    prompt_name     TEXT NOT NULL,
    arms            JSON NOT NULL,
    outcome         TEXT NOT NULL,
    salt            TEXT NOT NULL,
    started_at      TIMESTAMPTZ NOT NULL,
    stopped_at      TIMESTAMPTZ,
    PRIMARY KEY (org_id, name)
);

CREATE TABLE exposures (
    id              TEXT PRIMARY KEY,
    org_id          TEXT NOT NULL,
    experiment      TEXT NOT NULL,
    variant         TEXT NOT NULL,
    chat_id         TEXT NOT NULL,
    exposed_at      TIMESTAMPTZ NOT NULL
);

CREATE TABLE feedback (
    id              TEXT PRIMARY KEY,
    org_id          TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    chat_id         TEXT NOT NULL,
    message_id      TEXT NOT NULL,
    score           INTEGER NOT NULL,
    comment         TEXT,
    created_at      TIMESTAMPTZ NOT NULL
);

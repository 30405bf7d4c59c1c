-- Prompts that chats name, and experiments on them.
ALTER TABLE prompt_versions ADD COLUMN effort TEXT;            -- low to max; NULL: the model's own
ALTER TABLE prompt_labels ADD COLUMN move INTEGER;             -- 1, 2, 3, … of the label; the last one counts
ALTER TABLE prompt_labels ADD COLUMN undid TEXT;               -- of a rollback: the id of the move it took back
ALTER TABLE chats ADD COLUMN prompt_label TEXT;                -- which label was asked for; NULL: a version by number
ALTER TABLE chats ADD COLUMN prompt_variables JSON;            -- what was put in for its variables

ALTER TABLE chats ADD COLUMN experiment TEXT;                  -- whose variant the chat's prompt is, if it is one
ALTER TABLE chats ADD COLUMN variant TEXT;
ALTER TABLE holds ADD COLUMN prompt_name TEXT;                 -- as in the usage row to come
ALTER TABLE holds ADD COLUMN prompt_version INTEGER;
ALTER TABLE holds ADD COLUMN experiment TEXT;
ALTER TABLE holds ADD COLUMN variant TEXT;

-- Labels that only those may move who may administer.
CREATE TABLE protected_labels (
    org_id          TEXT NOT NULL,
    name            TEXT NOT NULL,            -- of the prompt
    label           TEXT NOT NULL,
    protected_at    TIMESTAMPTZ NOT NULL,
    protected_by    TEXT,
    PRIMARY KEY (org_id, name, label)
);

-- An experiment is on one label of one prompt; nothing but its end is ever changed.
ALTER TABLE experiments ADD COLUMN label TEXT;
ALTER TABLE experiments ADD COLUMN unit TEXT;                  -- chat, user
ALTER TABLE experiments ADD COLUMN coverage DOUBLE PRECISION;  -- the part of the units that takes part, 0 to 1
ALTER TABLE experiments ADD COLUMN guard JSON;
ALTER TABLE experiments ADD COLUMN note TEXT;
ALTER TABLE experiments ADD COLUMN started_by TEXT;
ALTER TABLE experiments ADD COLUMN stopped_by TEXT;
ALTER TABLE experiments ADD COLUMN stop_reason TEXT;

-- Which variant a chat got, written with its first question.
ALTER TABLE exposures ADD COLUMN version INTEGER;
ALTER TABLE exposures ADD COLUMN unit_id TEXT;                 -- the chat or the user, whichever the unit is
ALTER TABLE exposures ADD COLUMN user_id TEXT;

-- How good a chat was, by a measure of the org's own.
CREATE TABLE experiment_scores (
    id              TEXT PRIMARY KEY,
    org_id          TEXT NOT NULL,
    experiment      TEXT NOT NULL,
    chat_id         TEXT NOT NULL,
    score           DOUBLE PRECISION NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL
);

-- Who stopped an experiment: tells two apart who do so at once. It is also the id of the label's move to the winner.
ALTER TABLE experiments ADD COLUMN stop_id TEXT;
ALTER TABLE experiments ADD COLUMN winner TEXT;                -- the variant the label was moved to, if one was

-- Every change of an experiment's coverage is a row; the last one counts.
CREATE TABLE coverage_changes (
    id              TEXT PRIMARY KEY,
    org_id          TEXT NOT NULL,
    experiment      TEXT NOT NULL,
    change          INTEGER NOT NULL,         -- 1, 2, 3, … of the experiment
    coverage        DOUBLE PRECISION NOT NULL,
    changed_at      TIMESTAMPTZ NOT NULL,
    changed_by      TEXT
);

-- Arms that a guard stopped, each once.
CREATE TABLE stopped_arms (
    org_id          TEXT NOT NULL,
    experiment      TEXT NOT NULL,
    variant         TEXT NOT NULL,
    stop_id         TEXT NOT NULL,            -- tells two apart who find it out at once
    reason          TEXT NOT NULL,
    stopped_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, experiment, variant)
);

-- How experiments change and end.

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

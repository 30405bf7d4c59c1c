-- Questions that wb.map asked together (Message Batches): each is a turn whose hold names its batch, and stays open until
-- the batch has ended and its results are recorded, by whichever process comes to that.
CREATE TABLE batches (
    id              TEXT PRIMARY KEY,
    org_id          TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    model           TEXT NOT NULL,
    questions       BIGINT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,     -- here, before anything was sent
    session_id      TEXT,                     -- who sends it; NULL: nobody any more
    sent_at         TIMESTAMPTZ,              -- NULL: nothing was sent yet
    upstream_id     TEXT                      -- NULL: not known to be there
);

ALTER TABLE holds ADD COLUMN batch_id TEXT;   -- NULL: asked by itself

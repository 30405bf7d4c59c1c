-- Take tokens from a bucket that several servers share, if it holds as many. PostgreSQL only: elsewhere there is one
-- server, and its buckets are in its memory.
-- $1 id, $2 per minute, $3 burst, $4 how many to take (negative: to give back).
-- One row: what the bucket holds now, how many were taken.
INSERT INTO rate_buckets AS bucket (id, tokens, taken, updated_at)
VALUES ($1, $3 - $4, $4, CURRENT_TIMESTAMP)
ON CONFLICT (id) DO UPDATE SET (tokens, taken, updated_at) = (
    SELECT
        LEAST($3, CASE WHEN held >= $4 THEN held - $4 ELSE held END),
        CASE WHEN held >= $4 THEN $4 ELSE 0 END,
        GREATEST(bucket.updated_at, CURRENT_TIMESTAMP)
    FROM (
        SELECT LEAST(
            $3,
            bucket.tokens + GREATEST(0, EXTRACT(EPOCH FROM CURRENT_TIMESTAMP - bucket.updated_at)) * $2 / 60
        ) AS held
    ) refilled
)
RETURNING tokens, taken

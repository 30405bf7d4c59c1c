-- The experiments of an org by name, after one of them; or the one of a name.
-- $1 org_id, $2 name (NULL: all), $3 after which name, $4 how many at most.
-- One row per experiment. Arms that a guard stopped come with why, each pair parted by CHR(31), and all by CHR(30); NULL:
-- there are none.
SELECT
    e.name, e.prompt_name, e.label, CAST(e.arms AS TEXT) AS arms, e.outcome, e.unit,
    COALESCE(
        (
            SELECT c.coverage FROM coverage_changes c
            WHERE c.org_id = e.org_id AND c.experiment = e.name
            ORDER BY c.change DESC
            LIMIT 1
        ),
        e.coverage
    ) AS coverage,
    CAST(e.guard AS TEXT) AS guard, e.salt, e.note, e.started_at, e.started_by, e.stopped_at, e.stopped_by, e.stop_reason,
    e.winner, e.stop_id,
    (
        SELECT STRING_AGG(s.variant || CHR(31) || s.reason, CHR(30) ORDER BY s.stopped_at, s.variant)
        FROM stopped_arms s
        WHERE s.org_id = e.org_id AND s.experiment = e.name
    ) AS stopped_arms
FROM experiments e
WHERE e.org_id = $1 AND (CAST($2 AS TEXT) IS NULL OR e.name = $2) AND e.name > $3
ORDER BY e.name
LIMIT $4

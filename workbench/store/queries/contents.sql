-- What a store holds at a glance.
-- No parameters: all orgs.  One row: schema version, first and last call (NULL: none), open holds.
SELECT
    (SELECT MAX(version) FROM schema_version),
    (SELECT MIN(started_at) FROM usage),
    (SELECT MAX(started_at) FROM usage),
    (SELECT COUNT(*) FROM holds WHERE state = 'open')

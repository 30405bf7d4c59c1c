-- Point a label at the first version of a prompt, if it has never pointed anywhere.
-- $1 id, $2 org_id, $3 name, $4 label, $5 now, $6 who.
INSERT INTO prompt_labels (id, org_id, name, label, version, moved_at, moved_by, note, move)
SELECT $1, $2, $3, $4, 1, $5, $6, 'the first version', 1
WHERE NOT EXISTS (SELECT 1 FROM prompt_labels WHERE org_id = $2 AND name = $3 AND label = $4)
ON CONFLICT (id) DO NOTHING

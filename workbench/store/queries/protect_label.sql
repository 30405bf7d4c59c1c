-- Let only those move a label who may administer.
-- $1 org_id, $2 name, $3 label, $4 now, $5 who.
INSERT INTO protected_labels (org_id, name, label, protected_at, protected_by)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (org_id, name, label) DO NOTHING

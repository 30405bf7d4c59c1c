-- The batches of which not every result is recorded.
-- $1 org_id, $2 user_id.  One row per batch, oldest first.
SELECT
    b.id, b.model, b.questions, b.created_at, b.session_id, b.sent_at, b.upstream_id,
    COUNT(*) AS open_questions, COALESCE(SUM(h.amount_usd), 0) AS held_usd
FROM batches b
JOIN holds h ON h.batch_id = b.id AND h.org_id = b.org_id AND h.state = 'open'
WHERE b.org_id = $1 AND b.user_id = $2
GROUP BY b.id, b.model, b.questions, b.created_at, b.session_id, b.sent_at, b.upstream_id
ORDER BY b.created_at, b.id

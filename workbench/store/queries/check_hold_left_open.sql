-- Holds still open though their turn is billed: they are counted twice against the budget.
-- No parameters: all orgs.  One row per hold: its id.
SELECT h.id
FROM holds h
JOIN usage u ON u.id = h.id
WHERE h.state = 'open'

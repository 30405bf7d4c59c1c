-- Delete the scores of chats that are no longer there.
-- $1 chat ids, $2 org_id.
DELETE FROM experiment_scores
WHERE chat_id = ANY($1) AND org_id = $2
  AND NOT EXISTS (SELECT 1 FROM chats c WHERE c.id = experiment_scores.chat_id AND c.org_id = experiment_scores.org_id)

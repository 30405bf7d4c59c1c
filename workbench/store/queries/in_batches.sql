-- The chats in which a question waits for the result of a batch.
-- $1 org_id, $2 user_id.  One row per question: its chat, its batch, what is held for it in US dollars.
SELECT chat_id, batch_id, COALESCE(amount_usd, 0)
FROM holds
WHERE org_id = $1 AND user_id = $2 AND state = 'open' AND batch_id IS NOT NULL

DROP FUNCTION claim_idempotency_key;
DROP TABLE idempotency;
DROP TABLE mail, attempt, delivery, endpoint, feed_cursor;

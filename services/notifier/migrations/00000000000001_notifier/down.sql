DROP FUNCTION claim_idempotency_key;
DROP TABLE idempotency;
DROP FUNCTION take_mail_quota;
DROP FUNCTION await_mail_quota;
DROP TABLE mail, attempt, delivery, endpoint_notice, endpoint, master_key, feed_partition, follower;

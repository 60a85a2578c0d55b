DROP TABLE mail, attempt, delivery, endpoint, feed_cursor;

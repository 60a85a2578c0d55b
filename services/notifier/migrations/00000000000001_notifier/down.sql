DROP TABLE mail;
DROP TABLE attempt;
DROP TABLE delivery;
DROP TABLE endpoint;
DROP TABLE feed_cursor;

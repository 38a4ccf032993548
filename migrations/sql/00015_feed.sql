-- +goose Up
-- What the shop is told of: a row per event, written in the transaction of what it tells.
-- See package payment/feed. The program before this one may run beside it: what it does
-- is in nobody's feed.
CREATE TABLE events_out (
  id       INTEGER     NOT NULL /*! AUTO_INCREMENT */,
  at       BIGINT      NOT NULL,
  type     VARCHAR(32) NOT NULL,
  order_no VARCHAR(26) NOT NULL,
  version  BIGINT      NOT NULL,
  state    VARCHAR(10) NOT NULL,
  ref      VARCHAR(64) NOT NULL,
  PRIMARY KEY (id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
-- SQLite counts up a key of INTEGER alone, whose numbers have 64 bits there and 32 on MySQL.
/*! ALTER TABLE events_out MODIFY id BIGINT NOT NULL AUTO_INCREMENT */;

-- +goose Down
DROP TABLE events_out;

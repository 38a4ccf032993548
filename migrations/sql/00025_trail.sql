-- +goose Up
-- What people did, and wanted to do: see package payment/trail. Rows are added and never changed;
-- each has the hash of the one before it.
CREATE TABLE trail (
  seq         BIGINT        NOT NULL,
  act         VARCHAR(26)   NOT NULL,
  step        SMALLINT      NOT NULL,
  at          BIGINT        NOT NULL,
  actor       VARCHAR(64)   NOT NULL,
  role        VARCHAR(12)   NOT NULL,
  address     VARCHAR(45)   NOT NULL,
  session     VARCHAR(64)   NOT NULL,
  action      VARCHAR(40)   NOT NULL,
  target      VARCHAR(64)   NOT NULL,
  reason      VARCHAR(200)  NOT NULL,
  asked       VARCHAR(1000) NOT NULL,
  outcome     VARCHAR(40)   NOT NULL,
  was         VARCHAR(500)  NOT NULL,
  became      VARCHAR(500)  NOT NULL,
  request_id  VARCHAR(64)   NOT NULL,
  prev_sha256 VARCHAR(64)   NOT NULL,
  sha256      VARCHAR(64)   NOT NULL,
  PRIMARY KEY (seq)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE UNIQUE INDEX u_trail_act ON trail (act, step);
CREATE INDEX ix_trail_at ON trail (at);
CREATE INDEX ix_trail_actor ON trail (actor, seq);
CREATE INDEX ix_trail_target ON trail (target, seq);
CREATE INDEX ix_trail_action ON trail (action, seq);

-- +goose Down
DROP TABLE trail;

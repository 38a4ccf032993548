-- +goose Up
-- Acts on many things at once: see package order/bulk. A run is what a person has asked for once; its rows are what it
-- is done to, each with the version that it had when the person counted them.
CREATE TABLE bulk_runs (
  id         VARCHAR(26)   NOT NULL,
  kind       VARCHAR(16)   NOT NULL,
  actor      VARCHAR(64)   NOT NULL,
  reason     VARCHAR(200)  NOT NULL,
  filter     VARCHAR(2000) NOT NULL,
  total      BIGINT        NOT NULL,
  sum_fen    BIGINT        NOT NULL,
  state      VARCHAR(8)    NOT NULL,
  done       BIGINT        NOT NULL,
  changed    BIGINT        NOT NULL,
  failed     BIGINT        NOT NULL,
  note       VARCHAR(200)  NOT NULL,
  holder     VARCHAR(26)   NOT NULL,
  held_until BIGINT        NOT NULL,
  created_at BIGINT        NOT NULL,
  ended_at   BIGINT        NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT ck_bulk_runs_state CHECK (state IN ('running', 'stopped', 'done'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_bulk_runs_state ON bulk_runs (state, id);
CREATE TABLE bulk_rows (
  run_id     VARCHAR(26)  NOT NULL,
  seq        BIGINT       NOT NULL,
  ref        VARCHAR(64)  NOT NULL,
  version    BIGINT       NOT NULL,
  amount_fen BIGINT       NOT NULL,
  state      VARCHAR(8)   NOT NULL,
  detail     VARCHAR(200) NOT NULL,
  PRIMARY KEY (run_id, seq),
  CONSTRAINT ck_bulk_rows_state CHECK (state IN ('waiting', 'doing', 'done', 'changed', 'failed'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_bulk_rows_state ON bulk_rows (run_id, state, seq);

-- +goose Down
DROP TABLE bulk_rows;
DROP TABLE bulk_runs;

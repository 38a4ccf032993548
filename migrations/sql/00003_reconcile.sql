-- +goose Up
CREATE TABLE bill_files (
  bill_date   VARCHAR(10) NOT NULL,
  bill_type   VARCHAR(12) NOT NULL,
  sha1        VARCHAR(40) NOT NULL,
  source      VARCHAR(12) NOT NULL,
  size_bytes  BIGINT      NOT NULL,
  chunks      BIGINT      NOT NULL,
  received_at BIGINT      NOT NULL,
  PRIMARY KEY (bill_date, bill_type, sha1)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE bill_chunks (
  bill_date VARCHAR(10) NOT NULL,
  bill_type VARCHAR(12) NOT NULL,
  sha1      VARCHAR(40) NOT NULL,
  seq       BIGINT      NOT NULL,
  body      MEDIUMBLOB  NOT NULL,
  PRIMARY KEY (bill_date, bill_type, sha1, seq)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE reconciliations (
  bill_date   VARCHAR(10)  NOT NULL,
  bill_type   VARCHAR(12)  NOT NULL,
  state       VARCHAR(10)  NOT NULL,
  sha1        VARCHAR(40)  NOT NULL DEFAULT '',
  run_no      BIGINT       NOT NULL DEFAULT 0,
  holder      VARCHAR(64)  NOT NULL DEFAULT '',
  lease_until BIGINT       NOT NULL DEFAULT 0,
  started_at  BIGINT       NOT NULL DEFAULT 0,
  finished_at BIGINT       NOT NULL DEFAULT 0,
  day_from    BIGINT       NOT NULL DEFAULT 0,
  day_to      BIGINT       NOT NULL DEFAULT 0,
  ours_fen    BIGINT       NOT NULL DEFAULT 0,
  problem     VARCHAR(500) NOT NULL DEFAULT '',
  result      MEDIUMTEXT   NOT NULL,
  PRIMARY KEY (bill_date, bill_type),
  CONSTRAINT ck_reconciliations_state CHECK (state IN ('new', 'running', 'done', 'failed', 'waiting'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE differences (
  id             VARCHAR(32)  NOT NULL,
  bill_date      VARCHAR(10)  NOT NULL,
  bill_type      VARCHAR(12)  NOT NULL,
  run_no         BIGINT       NOT NULL,
  kind           VARCHAR(24)  NOT NULL,
  ref            VARCHAR(64)  NOT NULL,
  order_no       VARCHAR(26)  NOT NULL,
  out_trade_no   VARCHAR(32)  NOT NULL,
  transaction_id VARCHAR(32)  NOT NULL,
  bill_line      BIGINT       NOT NULL,
  bill_fen       BIGINT       NOT NULL,
  ours_fen       BIGINT       NOT NULL,
  bill_state     VARCHAR(16)  NOT NULL,
  ours_state     VARCHAR(16)  NOT NULL,
  facts          TEXT         NOT NULL,
  healable       SMALLINT     NOT NULL,
  status         VARCHAR(20)  NOT NULL,
  opened_at      BIGINT       NOT NULL,
  proposed_by    VARCHAR(64)  NOT NULL DEFAULT '',
  proposed_why   VARCHAR(200) NOT NULL DEFAULT '',
  resolution     VARCHAR(64)  NOT NULL DEFAULT '',
  resolved_by    VARCHAR(64)  NOT NULL DEFAULT '',
  resolved_why   VARCHAR(200) NOT NULL DEFAULT '',
  resolved_at    BIGINT       NOT NULL DEFAULT 0,
  PRIMARY KEY (id),
  CONSTRAINT ck_differences_status CHECK (status IN ('OPEN', 'PENDING_NEXT_DAY', 'RESOLVED', 'WRITTEN_OFF'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_differences_bill ON differences (bill_date, bill_type, id);
CREATE INDEX ix_differences_status ON differences (status, id);
CREATE INDEX ix_differences_ref ON differences (ref);

CREATE TABLE matched_across (
  kind      VARCHAR(8)  NOT NULL,
  ref       VARCHAR(64) NOT NULL,
  bill_date VARCHAR(10) NOT NULL,
  PRIMARY KEY (kind, ref)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE matched_across;
DROP TABLE differences;
DROP TABLE reconciliations;
DROP TABLE bill_chunks;
DROP TABLE bill_files;

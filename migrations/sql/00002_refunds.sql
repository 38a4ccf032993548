-- +goose Up
ALTER TABLE payments ADD COLUMN refund_fen BIGINT NOT NULL DEFAULT 0;
UPDATE payments
SET refund_fen = (
  SELECT COALESCE(SUM(r.amount_fen), 0)
  FROM refunds r
  WHERE r.transaction_id = payments.transaction_id);
CREATE INDEX ix_payments_paid ON payments (paid_at, transaction_id, amount_fen, outcome);

ALTER TABLE refunds ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE refunds ADD COLUMN out_trade_no VARCHAR(32) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN total_fen BIGINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN refund_id VARCHAR(32) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN requester_type VARCHAR(12) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN requester_id VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN request_id VARCHAR(64);
ALTER TABLE refunds ADD COLUMN request_hash VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN note VARCHAR(200) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN restock SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN approvals_needed SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN decided_by VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN decided_why VARCHAR(200) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN replaces VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN generation BIGINT NOT NULL DEFAULT 1;
ALTER TABLE refunds ADD COLUMN tries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN sent_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN asked_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN accepted_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN succeeded_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN notify_url VARCHAR(255) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN problem VARCHAR(200) NOT NULL DEFAULT '';
UPDATE refunds
SET out_trade_no = COALESCE((SELECT p.out_trade_no FROM payments p WHERE p.transaction_id = refunds.transaction_id), ''),
  total_fen = COALESCE((SELECT p.amount_fen FROM payments p WHERE p.transaction_id = refunds.transaction_id), amount_fen);
CREATE UNIQUE INDEX u_refunds_request ON refunds (requester_type, requester_id, request_id);
CREATE INDEX ix_refunds_transaction ON refunds (transaction_id);
CREATE INDEX ix_refunds_state ON refunds (state, out_refund_no);
CREATE INDEX ix_refunds_accepted ON refunds (accepted_at, out_refund_no, amount_fen, state);

CREATE TABLE refund_items (
  out_refund_no VARCHAR(64) NOT NULL,
  sku_id        VARCHAR(64) NOT NULL,
  quantity      BIGINT      NOT NULL,
  PRIMARY KEY (out_refund_no, sku_id),
  CONSTRAINT ck_refund_items CHECK (quantity > 0)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE refund_approvals (
  out_refund_no VARCHAR(64)  NOT NULL,
  approver      VARCHAR(64)  NOT NULL,
  reason        VARCHAR(200) NOT NULL,
  at            BIGINT       NOT NULL,
  PRIMARY KEY (out_refund_no, approver)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE operator_tokens (
  name       VARCHAR(64) NOT NULL,
  role       VARCHAR(12) NOT NULL,
  sha256     VARCHAR(64) NOT NULL,
  created_by VARCHAR(64) NOT NULL,
  created_at BIGINT      NOT NULL,
  revoked_at BIGINT      NOT NULL DEFAULT 0,
  PRIMARY KEY (name)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE UNIQUE INDEX u_operator_tokens ON operator_tokens (sha256);

-- +goose Down
DROP TABLE operator_tokens;
DROP TABLE refund_approvals;
DROP TABLE refund_items;
DROP INDEX ix_refunds_accepted /*! ON refunds */;
DROP INDEX ix_refunds_state /*! ON refunds */;
DROP INDEX ix_refunds_transaction /*! ON refunds */;
DROP INDEX u_refunds_request /*! ON refunds */;
ALTER TABLE refunds DROP COLUMN problem;
ALTER TABLE refunds DROP COLUMN notify_url;
ALTER TABLE refunds DROP COLUMN succeeded_at;
ALTER TABLE refunds DROP COLUMN accepted_at;
ALTER TABLE refunds DROP COLUMN asked_at;
ALTER TABLE refunds DROP COLUMN sent_at;
ALTER TABLE refunds DROP COLUMN tries;
ALTER TABLE refunds DROP COLUMN generation;
ALTER TABLE refunds DROP COLUMN replaces;
ALTER TABLE refunds DROP COLUMN decided_why;
ALTER TABLE refunds DROP COLUMN decided_by;
ALTER TABLE refunds DROP COLUMN approvals_needed;
ALTER TABLE refunds DROP COLUMN restock;
ALTER TABLE refunds DROP COLUMN note;
ALTER TABLE refunds DROP COLUMN request_hash;
ALTER TABLE refunds DROP COLUMN request_id;
ALTER TABLE refunds DROP COLUMN requester_id;
ALTER TABLE refunds DROP COLUMN requester_type;
ALTER TABLE refunds DROP COLUMN refund_id;
ALTER TABLE refunds DROP COLUMN total_fen;
ALTER TABLE refunds DROP COLUMN out_trade_no;
ALTER TABLE refunds DROP COLUMN version;
DROP INDEX ix_payments_paid /*! ON payments */;
ALTER TABLE payments DROP COLUMN refund_fen;

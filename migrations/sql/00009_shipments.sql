-- +goose Up
-- What a mini program's shop has sent, and what WeChat was told of it. Nothing of it moves
-- an order: see package payment/shipping.
CREATE TABLE shipments (
  order_no       VARCHAR(26)   NOT NULL,
  state          VARCHAR(10)   NOT NULL,
  transaction_id VARCHAR(32)   NOT NULL,
  out_trade_no   VARCHAR(32)   NOT NULL,
  paid_at        BIGINT        NOT NULL,
  content        VARCHAR(8000) NOT NULL,
  put_at         BIGINT        NOT NULL,
  version        BIGINT        NOT NULL DEFAULT 0,
  reships        BIGINT        NOT NULL DEFAULT 0,
  tries          BIGINT        NOT NULL DEFAULT 0,
  due_at         BIGINT,
  code           BIGINT        NOT NULL DEFAULT 0,
  message        VARCHAR(255)  NOT NULL,
  put_by         VARCHAR(64)   NOT NULL,
  created_at     BIGINT        NOT NULL,
  updated_at     BIGINT        NOT NULL,
  PRIMARY KEY (order_no),
  CONSTRAINT ck_shipments_state CHECK (state IN ('owed', 'due', 'reported', 'refused', 'void'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_shipments_due ON shipments (state, due_at, order_no);
CREATE INDEX ix_shipments_paid ON shipments (state, paid_at, order_no);

-- +goose Down
DROP TABLE shipments;

-- +goose Up
CREATE TABLE skus (
  sku_id     VARCHAR(64)  NOT NULL,
  title      VARCHAR(127) NOT NULL,
  price_fen  BIGINT       NOT NULL,
  available  BIGINT       NOT NULL,
  unlimited  SMALLINT     NOT NULL,
  version    BIGINT       NOT NULL,
  created_at BIGINT       NOT NULL,
  updated_at BIGINT       NOT NULL,
  PRIMARY KEY (sku_id),
  CONSTRAINT ck_skus_available CHECK (available >= 0),
  CONSTRAINT ck_skus_price CHECK (price_fen > 0)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE stock_flows (
  order_no   VARCHAR(26)  NOT NULL,
  kind       VARCHAR(10)  NOT NULL,
  ref        VARCHAR(64)  NOT NULL,
  sku_id     VARCHAR(64)  NOT NULL,
  delta      BIGINT       NOT NULL,
  actor      VARCHAR(64)  NOT NULL DEFAULT '',
  reason     VARCHAR(200) NOT NULL DEFAULT '',
  created_at BIGINT       NOT NULL,
  PRIMARY KEY (order_no, kind, ref, sku_id),
  CONSTRAINT ck_flows_kind CHECK (
    (kind = 'deduct' AND delta < 0 AND order_no <> '')
    OR (kind = 'return' AND delta > 0 AND order_no <> '')
    OR (kind IN ('initial', 'replenish') AND delta >= 0 AND order_no = '')
    OR (kind = 'adjust' AND order_no = ''))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE orders (
  order_no     VARCHAR(26)  NOT NULL,
  customer_id  VARCHAR(64)  NOT NULL,
  request_id   VARCHAR(64)  NOT NULL,
  request_hash VARCHAR(64)  NOT NULL,
  state        VARCHAR(10)  NOT NULL DEFAULT 'pending',
  version      BIGINT       NOT NULL DEFAULT 1,
  total_fen    BIGINT       NOT NULL,
  remark       VARCHAR(200) NOT NULL,
  attach       VARCHAR(128) NOT NULL,
  placed_cause VARCHAR(64)  NOT NULL,
  close_reason VARCHAR(10)  NOT NULL DEFAULT '',
  close_tries  BIGINT       NOT NULL DEFAULT 0,
  created_at   BIGINT       NOT NULL,
  expire_at    BIGINT       NOT NULL,
  due_at       BIGINT,
  updated_at   BIGINT       NOT NULL,
  PRIMARY KEY (order_no),
  CONSTRAINT ck_orders_total CHECK (total_fen > 0),
  CONSTRAINT ck_orders_state CHECK (state IN ('pending', 'closing', 'closed', 'paid', 'refunding', 'refunded', 'late'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE UNIQUE INDEX u_orders_request ON orders (customer_id, request_id);
CREATE INDEX ix_orders_due ON orders (due_at, order_no);

CREATE TABLE order_items (
  order_no  VARCHAR(26) NOT NULL,
  line_no   BIGINT      NOT NULL,
  sku_id    VARCHAR(64) NOT NULL,
  quantity  BIGINT      NOT NULL,
  price_fen BIGINT      NOT NULL,
  PRIMARY KEY (order_no, line_no),
  CONSTRAINT ck_items CHECK (quantity > 0 AND price_fen > 0)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE order_events (
  order_no   VARCHAR(26)   NOT NULL,
  seq        BIGINT        NOT NULL,
  at         BIGINT        NOT NULL,
  event      VARCHAR(24)   NOT NULL,
  from_state VARCHAR(10)   NOT NULL,
  to_state   VARCHAR(10)   NOT NULL,
  actor_type VARCHAR(12)   NOT NULL,
  actor_id   VARCHAR(64)   NOT NULL,
  cause_type VARCHAR(16)   NOT NULL,
  cause_id   VARCHAR(64)   NOT NULL,
  detail     VARCHAR(1000) NOT NULL,
  took_ms    BIGINT        NOT NULL,
  PRIMARY KEY (order_no, seq)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

CREATE TABLE payment_attempts (
  out_trade_no VARCHAR(32)   NOT NULL,
  order_no     VARCHAR(26)   NOT NULL,
  attempt_no   BIGINT        NOT NULL,
  state        VARCHAR(10)   NOT NULL,
  trade_type   VARCHAR(10)   NOT NULL,
  description  VARCHAR(127)  NOT NULL,
  attach       VARCHAR(128)  NOT NULL,
  notify_url   VARCHAR(255)  NOT NULL,
  time_expire  VARCHAR(32)   NOT NULL,
  amount_fen   BIGINT        NOT NULL,
  openid       VARCHAR(128)  NOT NULL,
  client_ip    VARCHAR(45)   NOT NULL,
  h5_type      VARCHAR(10)   NOT NULL,
  answer       TEXT          NOT NULL,
  called_at    BIGINT        NOT NULL,
  answered_at  BIGINT        NOT NULL,
  PRIMARY KEY (out_trade_no),
  CONSTRAINT ck_attempts_state CHECK (state IN ('calling', 'live', 'refused', 'closed'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE UNIQUE INDEX u_attempts_order ON payment_attempts (order_no, attempt_no);

CREATE TABLE payments (
  transaction_id VARCHAR(32) NOT NULL,
  order_no       VARCHAR(26) NOT NULL,
  out_trade_no   VARCHAR(32) NOT NULL,
  amount_fen     BIGINT      NOT NULL,
  payer_fen      BIGINT      NOT NULL,
  currency       VARCHAR(16) NOT NULL,
  trade_type     VARCHAR(16) NOT NULL,
  appid          VARCHAR(32) NOT NULL,
  mchid          VARCHAR(32) NOT NULL,
  paid_at        BIGINT      NOT NULL,
  received_at    BIGINT      NOT NULL,
  source         VARCHAR(12) NOT NULL,
  outcome        VARCHAR(10) NOT NULL,
  reason         VARCHAR(16) NOT NULL,
  PRIMARY KEY (transaction_id),
  CONSTRAINT ck_payments_outcome CHECK (outcome IN ('applied', 'owed', 'held'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_payments_order ON payments (order_no);

CREATE TABLE refunds (
  out_refund_no  VARCHAR(64) NOT NULL,
  order_no       VARCHAR(26) NOT NULL,
  transaction_id VARCHAR(32) NOT NULL,
  amount_fen     BIGINT      NOT NULL,
  state          VARCHAR(16) NOT NULL,
  reason         VARCHAR(16) NOT NULL,
  created_at     BIGINT      NOT NULL,
  due_at         BIGINT,
  updated_at     BIGINT      NOT NULL,
  PRIMARY KEY (out_refund_no),
  CONSTRAINT ck_refunds_amount CHECK (amount_fen > 0)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_refunds_order ON refunds (order_no);
CREATE INDEX ix_refunds_due ON refunds (due_at, out_refund_no);

-- +goose Down
DROP TABLE refunds;
DROP TABLE payments;
DROP TABLE payment_attempts;
DROP TABLE order_events;
DROP TABLE order_items;
DROP TABLE orders;
DROP TABLE stock_flows;
DROP TABLE skus;

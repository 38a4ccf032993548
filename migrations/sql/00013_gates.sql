-- +goose Up
-- Flash sales: units of a SKU are handed from the pool (skus.available) into buckets, which
-- are counted down in the memory of a process or in Redis. See package stock/gate. The
-- program before this one may run beside it: it sells from the pool alone, and knows no
-- sold-out mark, so that gates are opened when it is gone.

-- Milliseconds of the database's clock, before which the pool is not sold: of a sale that
-- has not begun, and of a SKU that is sold out or about to be sold again.
ALTER TABLE skus ADD COLUMN opens_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE skus ADD COLUMN closed_until BIGINT NOT NULL DEFAULT 0;
-- Units that one customer may have in the sale of this SKU; 0: no limit.
ALTER TABLE skus ADD COLUMN per_customer BIGINT NOT NULL DEFAULT 0;
-- The bucket that a deduction came from; 0: the pool.
ALTER TABLE stock_flows ADD COLUMN bucket_id BIGINT NOT NULL DEFAULT 0;

-- A gate per SKU that has ever had one; off is none.
CREATE TABLE stock_gates (
  sku_id     VARCHAR(64)  NOT NULL,
  sale       VARCHAR(64)  NOT NULL,
  mode       VARCHAR(8)   NOT NULL,
  state      VARCHAR(10)  NOT NULL,
  origin     VARCHAR(8)   NOT NULL,
  version    BIGINT       NOT NULL,
  epoch      BIGINT       NOT NULL DEFAULT 0,
  buckets    BIGINT       NOT NULL DEFAULT 1,
  counts     VARCHAR(100) NOT NULL DEFAULT '',
  rate       BIGINT       NOT NULL DEFAULT 0,
  closes_at  BIGINT       NOT NULL DEFAULT 0,
  hot_at     BIGINT       NOT NULL DEFAULT 0,
  actor      VARCHAR(64)  NOT NULL,
  reason     VARCHAR(200) NOT NULL,
  created_at BIGINT       NOT NULL,
  updated_at BIGINT       NOT NULL,
  PRIMARY KEY (sku_id),
  CONSTRAINT ck_gates_mode CHECK (mode IN ('off', 'local', 'redis')),
  CONSTRAINT ck_gates_state CHECK (state IN ('open', 'ended'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_gates_mode ON stock_gates (mode, sku_id);

-- Units of a SKU that a home counts down. An id is never used again.
CREATE TABLE stock_buckets (
  bucket_id BIGINT      NOT NULL,
  sku_id    VARCHAR(64) NOT NULL,
  epoch     BIGINT      NOT NULL,
  no        BIGINT      NOT NULL,
  home      VARCHAR(64) NOT NULL,
  state     VARCHAR(8)  NOT NULL,
  remaining BIGINT      NOT NULL,
  seq       BIGINT      NOT NULL,
  ticket_hi BIGINT      NOT NULL DEFAULT 0,
  seen_at   BIGINT      NOT NULL,
  PRIMARY KEY (bucket_id),
  CONSTRAINT ck_buckets_remaining CHECK (remaining >= 0),
  CONSTRAINT ck_buckets_state CHECK (state IN ('open', 'closing') OR state = 'closed' AND remaining = 0)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_buckets_state ON stock_buckets (state, sku_id);

-- What went between the pool and a bucket: each move once, by its number.
CREATE TABLE stock_moves (
  bucket_id BIGINT      NOT NULL,
  seq       BIGINT      NOT NULL,
  sku_id    VARCHAR(64) NOT NULL,
  delta     BIGINT      NOT NULL,
  cause     VARCHAR(8)  NOT NULL,
  at        BIGINT      NOT NULL,
  PRIMARY KEY (bucket_id, seq),
  CONSTRAINT ck_moves_cause CHECK (
    (cause = 'grant' AND delta > 0)
    OR (cause IN ('back', 'close') AND delta <= 0))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- The units of a sale that a customer has, a row each, where their number is limited.
CREATE TABLE sale_buyers (
  sale        VARCHAR(64) NOT NULL,
  customer_id VARCHAR(64) NOT NULL,
  slot        BIGINT      NOT NULL,
  order_no    VARCHAR(26) NOT NULL,
  PRIMARY KEY (sale, customer_id, slot)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE sale_buyers;
DROP TABLE stock_moves;
DROP TABLE stock_buckets;
DROP TABLE stock_gates;
ALTER TABLE stock_flows DROP COLUMN bucket_id;
ALTER TABLE skus DROP COLUMN per_customer;
ALTER TABLE skus DROP COLUMN closed_until;
ALTER TABLE skus DROP COLUMN opens_at;

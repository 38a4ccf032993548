-- +goose Up
-- Keys of the shop's own back ends: see package order/shops.
CREATE TABLE shop_keys (
  name       VARCHAR(64) NOT NULL,
  shop       VARCHAR(64) NOT NULL,
  scopes     VARCHAR(64) NOT NULL,
  sha256     VARCHAR(64) NOT NULL,
  created_by VARCHAR(64) NOT NULL,
  created_at BIGINT      NOT NULL,
  revoked_at BIGINT      NOT NULL DEFAULT 0,
  PRIMARY KEY (name)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE UNIQUE INDEX u_shop_keys ON shop_keys (sha256);

-- +goose Down
DROP TABLE shop_keys;

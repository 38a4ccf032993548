-- +goose Up
-- Whom the shop's events are sent to, and each sending: see package order/webhooks.
CREATE TABLE webhook_endpoints (
  id            VARCHAR(32)  NOT NULL,
  url           VARCHAR(500) NOT NULL,
  types         VARCHAR(400) NOT NULL,
  note          VARCHAR(200) NOT NULL,
  secret        VARCHAR(200) NOT NULL,
  old_secret    VARCHAR(200) NOT NULL DEFAULT '',
  old_until     BIGINT       NOT NULL DEFAULT 0,
  state         VARCHAR(10)  NOT NULL,
  why           VARCHAR(200) NOT NULL DEFAULT '',
  told_from     BIGINT       NOT NULL,
  failing_since BIGINT       NOT NULL DEFAULT 0,
  alarmed_at    BIGINT       NOT NULL DEFAULT 0,
  created_by    VARCHAR(64)  NOT NULL,
  created_at    BIGINT       NOT NULL,
  updated_at    BIGINT       NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT ck_webhooks_state CHECK (state IN ('on', 'disabled', 'removed'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- An event has its columns here too: it is sent again when the feed has forgotten it.
CREATE TABLE webhook_deliveries (
  endpoint_id VARCHAR(32)  NOT NULL,
  event_id    BIGINT       NOT NULL,
  at          BIGINT       NOT NULL,
  type        VARCHAR(32)  NOT NULL,
  order_no    VARCHAR(26)  NOT NULL,
  version     BIGINT       NOT NULL,
  state       VARCHAR(10)  NOT NULL,
  ref         VARCHAR(64)  NOT NULL,
  tries       BIGINT       NOT NULL DEFAULT 0,
  due_at      BIGINT,
  delivered   BIGINT       NOT NULL DEFAULT 0,
  status      BIGINT       NOT NULL DEFAULT 0,
  problem     VARCHAR(200) NOT NULL DEFAULT '',
  tried_at    BIGINT       NOT NULL DEFAULT 0,
  PRIMARY KEY (endpoint_id, event_id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_deliveries_due ON webhook_deliveries (endpoint_id, due_at, event_id);

-- How far the feed has become deliveries, and which process makes them.
CREATE TABLE webhook_places (
  name   VARCHAR(16) NOT NULL,
  place  BIGINT      NOT NULL,
  holder VARCHAR(64) NOT NULL,
  until  BIGINT      NOT NULL,
  PRIMARY KEY (name)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
INSERT INTO webhook_places (name, place, holder, until)
SELECT 'feed', 0, '', 0
FROM (SELECT 1 AS one) o
WHERE NOT EXISTS (SELECT 1 FROM webhook_places WHERE name = 'feed');

-- +goose Down
DROP TABLE webhook_places;
DROP TABLE webhook_deliveries;
DROP TABLE webhook_endpoints;

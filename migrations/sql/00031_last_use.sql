-- +goose Up
-- When a secret was last used, to the minute; and which processes run, by themselves.
ALTER TABLE operator_tokens ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE shop_keys ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0;
CREATE TABLE processes (
  id       VARCHAR(64) NOT NULL,
  host     VARCHAR(64) NOT NULL,
  pid      BIGINT      NOT NULL,
  roles    VARCHAR(64) NOT NULL,
  version  VARCHAR(64) NOT NULL,
  revision VARCHAR(64) NOT NULL,
  began_at BIGINT      NOT NULL,
  seen_at  BIGINT      NOT NULL,
  PRIMARY KEY (id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE processes;
ALTER TABLE shop_keys DROP COLUMN used_at;
ALTER TABLE operator_tokens DROP COLUMN used_at;

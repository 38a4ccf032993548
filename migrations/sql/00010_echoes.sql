-- +goose Up
-- The callbacks of WeChat Pay's test of signatures, for doctor --live, which is another
-- process than the one that took them: see package payment/echoes.
CREATE TABLE echoes (
  id       VARCHAR(64) NOT NULL,
  message  VARCHAR(26) NOT NULL,
  heard_at BIGINT      NOT NULL,
  PRIMARY KEY (id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE echoes;

-- +goose Up
-- How people come into the console: see package payment/operators. totp_new is a secret that
-- its person has not confirmed yet.
CREATE TABLE operator_passwords (
  person    VARCHAR(64)  NOT NULL,
  hash      VARCHAR(200) NOT NULL,
  set_at    BIGINT       NOT NULL,
  totp      VARCHAR(64)  NOT NULL DEFAULT '',
  totp_new  VARCHAR(64)  NOT NULL DEFAULT '',
  totp_step BIGINT       NOT NULL DEFAULT 0,
  PRIMARY KEY (person)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- person is '' for the link that makes the first one.
CREATE TABLE operator_links (
  sha256     VARCHAR(64) NOT NULL,
  person     VARCHAR(64) NOT NULL,
  created_by VARCHAR(64) NOT NULL,
  created_at BIGINT      NOT NULL,
  ends_at    BIGINT      NOT NULL,
  used_at    BIGINT      NOT NULL DEFAULT 0,
  PRIMARY KEY (sha256)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_operator_links_person ON operator_links (person);

CREATE TABLE operator_sessions (
  sha256     VARCHAR(64)  NOT NULL,
  person     VARCHAR(64)  NOT NULL,
  role       VARCHAR(12)  NOT NULL,
  created_at BIGINT       NOT NULL,
  seen_at    BIGINT       NOT NULL,
  proved_at  BIGINT       NOT NULL,
  ended_at   BIGINT       NOT NULL DEFAULT 0,
  address    VARCHAR(45)  NOT NULL,
  agent      VARCHAR(200) NOT NULL,
  PRIMARY KEY (sha256)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_operator_sessions_person ON operator_sessions (person, ended_at);
CREATE INDEX ix_operator_sessions_created ON operator_sessions (created_at);

-- The last wrong logins of a name or of an address, which stands there as a hash.
CREATE TABLE login_failures (
  who   VARCHAR(64)  NOT NULL,
  tries VARCHAR(200) NOT NULL,
  at    BIGINT       NOT NULL,
  PRIMARY KEY (who)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE login_failures;
DROP TABLE operator_sessions;
DROP TABLE operator_links;
DROP TABLE operator_passwords;

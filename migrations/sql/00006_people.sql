-- +goose Up
-- A person is an account; a token belongs to one. name_key is what look-alike names have in
-- common; NULL for names that are older than that rule.
CREATE TABLE operators (
  name        VARCHAR(64)  NOT NULL,
  name_key    VARCHAR(64),
  role        VARCHAR(12)  NOT NULL,
  created_by  VARCHAR(64)  NOT NULL,
  created_at  BIGINT       NOT NULL,
  disabled_at BIGINT       NOT NULL DEFAULT 0,
  disabled_by VARCHAR(64)  NOT NULL DEFAULT '',
  PRIMARY KEY (name)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE UNIQUE INDEX u_operators_key ON operators (name_key);

-- '' for a token that the program before this one makes: its person has its name.
ALTER TABLE operator_tokens ADD COLUMN person VARCHAR(64) NOT NULL DEFAULT '';
CREATE INDEX ix_operator_tokens_person ON operator_tokens (person);
UPDATE operator_tokens
SET person = name;
INSERT INTO operators
  (name, role, created_by, created_at, disabled_at)
SELECT t.name, t.role, t.created_by, t.created_at, t.revoked_at
FROM operator_tokens t
WHERE NOT EXISTS (SELECT 1 FROM operators o WHERE o.name = t.name);

-- 1: the approver's account or a token of it was less than a day old.
ALTER TABLE refund_approvals ADD COLUMN fresh SMALLINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE refund_approvals DROP COLUMN fresh;
DROP INDEX ix_operator_tokens_person /*! ON operator_tokens */;
ALTER TABLE operator_tokens DROP COLUMN person;
DROP TABLE operators;

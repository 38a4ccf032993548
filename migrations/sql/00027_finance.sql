-- +goose Up
-- Who works on a difference, and what people have said and done about it: what was said stays.
-- The program before this one asks for none of it, and may run beside it.
ALTER TABLE differences ADD COLUMN assignee VARCHAR(64) NOT NULL DEFAULT '';
CREATE INDEX ix_differences_assignee ON differences (assignee, status, id);
CREATE TABLE difference_notes (
  difference_id VARCHAR(32)  NOT NULL,
  ref           VARCHAR(32)  NOT NULL,
  what          VARCHAR(12)  NOT NULL,
  word          VARCHAR(64)  NOT NULL,
  body          VARCHAR(500) NOT NULL,
  who           VARCHAR(64)  NOT NULL,
  how           VARCHAR(16)  NOT NULL,
  at            BIGINT       NOT NULL,
  PRIMARY KEY (difference_id, ref)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- Days that somebody has closed, each time anew, with the proof as it was then: the files of it,
-- packed and cut, and the sum of their list, which the list of the day after names.
CREATE TABLE day_closings (
  bill_date       VARCHAR(10)  NOT NULL,
  seq             BIGINT       NOT NULL,
  who             VARCHAR(64)  NOT NULL,
  how             VARCHAR(16)  NOT NULL,
  why             VARCHAR(200) NOT NULL,
  at              BIGINT       NOT NULL,
  sha1            VARCHAR(40)  NOT NULL,
  found_sha256    VARCHAR(64)  NOT NULL,
  manifest_sha256 VARCHAR(64)  NOT NULL,
  previous_sha256 VARCHAR(64)  NOT NULL,
  PRIMARY KEY (bill_date, seq)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_day_closings_manifest ON day_closings (manifest_sha256);
CREATE TABLE day_closing_parts (
  bill_date VARCHAR(10) NOT NULL,
  seq       BIGINT      NOT NULL,
  name      VARCHAR(32) NOT NULL,
  part      BIGINT      NOT NULL,
  body      MEDIUMBLOB  NOT NULL,
  PRIMARY KEY (bill_date, seq, name, part)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE day_closing_parts;
DROP TABLE day_closings;
DROP TABLE difference_notes;
DROP INDEX ix_differences_assignee /*! ON differences */;
ALTER TABLE differences DROP COLUMN assignee;

-- +goose Up
-- Money that went back elsewhere: what WeChat Pay said last of a refund that was not
-- made here, and when it said of a payment that some of it went back, not how much.
ALTER TABLE refunds ADD COLUMN told VARCHAR(16) NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN refund_told BIGINT NOT NULL DEFAULT 0;

-- How a bill came here: WeChat Pay gave it and signed its hash, a person gave it, or
-- a second person confirmed one that a person gave. What happened stays.
CREATE TABLE bill_hands (
  bill_date VARCHAR(10)  NOT NULL,
  bill_type VARCHAR(12)  NOT NULL,
  sha1      VARCHAR(40)  NOT NULL,
  act       VARCHAR(12)  NOT NULL,
  who       VARCHAR(64)  NOT NULL,
  how       VARCHAR(16)  NOT NULL,
  why       VARCHAR(800) NOT NULL,
  at        BIGINT       NOT NULL,
  PRIMARY KEY (bill_date, bill_type, sha1, act, who)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- Which bill a difference was found in first, and until when it may wait for which day.
ALTER TABLE differences ADD COLUMN source VARCHAR(8) NOT NULL DEFAULT '';
ALTER TABLE differences ADD COLUMN given_by VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE differences ADD COLUMN waits_for VARCHAR(10) NOT NULL DEFAULT '';
ALTER TABLE differences ADD COLUMN pending_until BIGINT NOT NULL DEFAULT 0;
UPDATE differences
SET pending_until = opened_at + 259200000
WHERE status = 'PENDING_NEXT_DAY';
CREATE INDEX ix_differences_pending ON differences (status, pending_until);

-- Which bill has the row of another day.
ALTER TABLE matched_across ADD COLUMN sha1 VARCHAR(40) NOT NULL DEFAULT '';
ALTER TABLE matched_across ADD COLUMN source VARCHAR(8) NOT NULL DEFAULT '';
ALTER TABLE matched_across ADD COLUMN run_no BIGINT NOT NULL DEFAULT 0;
CREATE INDEX ix_matched_across ON matched_across (bill_date, kind);

-- +goose Down
DROP INDEX ix_matched_across /*! ON matched_across */;
ALTER TABLE matched_across DROP COLUMN run_no;
ALTER TABLE matched_across DROP COLUMN source;
ALTER TABLE matched_across DROP COLUMN sha1;
DROP INDEX ix_differences_pending /*! ON differences */;
ALTER TABLE differences DROP COLUMN pending_until;
ALTER TABLE differences DROP COLUMN waits_for;
ALTER TABLE differences DROP COLUMN given_by;
ALTER TABLE differences DROP COLUMN source;
DROP TABLE bill_hands;
ALTER TABLE payments DROP COLUMN refund_told;
ALTER TABLE refunds DROP COLUMN told;

-- +goose Up
-- The first of two people's word about a refund, and whose bank card its money was sent to:
-- columns of their own, since decided_why is a text that people write. A word that the
-- program before this one took down counts no more: the first says it again.
ALTER TABLE refunds ADD COLUMN said_what VARCHAR(20) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN said_by VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN said_why VARCHAR(200) NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN said_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN sent_to VARCHAR(20) NOT NULL DEFAULT '';
UPDATE refunds
SET sent_to = 'MERCHANT_BANK_CARD'
WHERE state IN ('abnormal', 'processing')
  AND decided_why LIKE 'sent to MERCHANT_BANK_CARD: %';
UPDATE refunds
SET sent_to = 'USER_BANK_CARD'
WHERE state IN ('abnormal', 'processing')
  AND decided_why LIKE 'sent to USER_BANK_CARD: %';

-- +goose Down
ALTER TABLE refunds DROP COLUMN sent_to;
ALTER TABLE refunds DROP COLUMN said_at;
ALTER TABLE refunds DROP COLUMN said_why;
ALTER TABLE refunds DROP COLUMN said_by;
ALTER TABLE refunds DROP COLUMN said_what;

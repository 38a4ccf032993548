-- +goose Up
-- 1: WeChat Pay said what the buyer paid, payments.payer_fen. 0: it did not, or a program
-- before this one wrote the row, which wrote 0 for what was not said: an amount above 0 was.
ALTER TABLE payments ADD COLUMN payer_said SMALLINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE payments DROP COLUMN payer_said;

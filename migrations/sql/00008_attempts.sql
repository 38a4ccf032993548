-- +goose Up
-- The calls of a prepay are numbered when they are committed. call_no is the
-- newest, answer_no the one whose answer is kept, and open_calls has those whose
-- end is not known, with when each was committed, by whom, and whether another was
-- answered beside it: {"2":[1764403200000,7,1]}.
ALTER TABLE payment_attempts ADD COLUMN call_no BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payment_attempts ADD COLUMN answer_no BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payment_attempts ADD COLUMN open_calls VARCHAR(1000) NOT NULL DEFAULT '';
-- When WeChat Pay is asked next whether an open trade is paid, should its
-- notification be lost, and how often it was asked. Rows of the program before this
-- one get theirs, and orders.prepaid, from the workers (order/adopt.go).
ALTER TABLE payment_attempts ADD COLUMN ask_at BIGINT;
ALTER TABLE payment_attempts ADD COLUMN asks BIGINT NOT NULL DEFAULT 0;
CREATE INDEX ix_attempts_ask ON payment_attempts (ask_at, out_trade_no);
-- A prepay was sent for this order, so that it may be paid: those are closed
-- before the others when more are due than WeChat Pay takes calls.
ALTER TABLE orders ADD COLUMN prepaid SMALLINT NOT NULL DEFAULT 0;
CREATE INDEX ix_orders_line ON orders (state, prepaid, due_at, order_no);

-- +goose Down
DROP INDEX ix_orders_line /*! ON orders */;
ALTER TABLE orders DROP COLUMN prepaid;
DROP INDEX ix_attempts_ask /*! ON payment_attempts */;
ALTER TABLE payment_attempts DROP COLUMN asks;
ALTER TABLE payment_attempts DROP COLUMN ask_at;
ALTER TABLE payment_attempts DROP COLUMN open_calls;
ALTER TABLE payment_attempts DROP COLUMN answer_no;
ALTER TABLE payment_attempts DROP COLUMN call_no;

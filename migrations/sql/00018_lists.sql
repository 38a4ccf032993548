-- +goose Up
-- What operators list and look for and no index had: the payments that are held, refunds by why
-- they are made and by WeChat Pay's number, differences of an order.
CREATE INDEX ix_payments_outcome ON payments (outcome, received_at);
CREATE INDEX ix_refunds_reason ON refunds (reason, out_refund_no);
CREATE INDEX ix_refunds_refund_id ON refunds (refund_id);
CREATE INDEX ix_differences_order ON differences (order_no, id);

-- +goose Down
DROP INDEX ix_differences_order /*! ON differences */;
DROP INDEX ix_refunds_refund_id /*! ON refunds */;
DROP INDEX ix_refunds_reason /*! ON refunds */;
DROP INDEX ix_payments_outcome /*! ON payments */;

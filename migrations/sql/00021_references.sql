-- +goose Up
-- What a shop's back end does for its customers: who placed an order, who asked for a refund, and
-- the shop's own number for an order, which it has for one order alone (NULL: none, which many
-- have). The program before this one may run beside it: it leaves all of them out.
ALTER TABLE orders ADD COLUMN shop VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN reference VARCHAR(64);
CREATE UNIQUE INDEX u_orders_reference ON orders (reference, shop);
ALTER TABLE refunds ADD COLUMN shop VARCHAR(64) NOT NULL DEFAULT '';
-- What is told of an order has its reference, so that the shop knows it without asking.
ALTER TABLE events_out ADD COLUMN reference VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE webhook_deliveries ADD COLUMN reference VARCHAR(64) NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE webhook_deliveries DROP COLUMN reference;
ALTER TABLE events_out DROP COLUMN reference;
ALTER TABLE refunds DROP COLUMN shop;
DROP INDEX u_orders_reference /*! ON orders */;
ALTER TABLE orders DROP COLUMN reference;
ALTER TABLE orders DROP COLUMN shop;

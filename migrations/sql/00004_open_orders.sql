-- +goose Up
-- How many unpaid orders a customer has (due_at is set while an order is
-- pending or closing), read for every placement where their number is limited.
CREATE INDEX ix_orders_open ON orders (customer_id, due_at);

-- +goose Down
DROP INDEX ix_orders_open /*! ON orders */;

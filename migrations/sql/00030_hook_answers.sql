-- +goose Up
-- What an endpoint answered at the last try, in how many milliseconds; and the deliveries of an order.
ALTER TABLE webhook_deliveries ADD COLUMN took_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE webhook_deliveries ADD COLUMN answer VARCHAR(1024) NOT NULL DEFAULT '';
CREATE INDEX ix_deliveries_order ON webhook_deliveries (order_no, event_id);

-- +goose Down
DROP INDEX ix_deliveries_order /*! ON webhook_deliveries */;
ALTER TABLE webhook_deliveries DROP COLUMN answer;
ALTER TABLE webhook_deliveries DROP COLUMN took_ms;

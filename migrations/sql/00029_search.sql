-- +goose Up
-- What people look for and no index had: goods by the beginning of their title, and orders by what
-- the shop attached to them.
CREATE INDEX ix_skus_title ON skus (title, sku_id);
CREATE INDEX ix_orders_attach ON orders (attach, order_no);

-- +goose Down
DROP INDEX ix_orders_attach /*! ON orders */;
DROP INDEX ix_skus_title /*! ON skus */;

-- +goose Up
-- The SKUs that are sold again after they were sold out: every process asks for them four
-- times a second.
CREATE INDEX ix_skus_closed ON skus (closed_until);

-- +goose Down
DROP INDEX ix_skus_closed /*! ON skus */;

-- +goose Up
-- When no more than low_at units of a SKU are left the shop is told (below 0: never); low_told is 1
-- from then on, until there are more again. The program before this one may run beside it: what it
-- sells and puts back is seen when this one sells next, or puts something back.
ALTER TABLE skus ADD COLUMN low_at BIGINT NOT NULL DEFAULT -1;
ALTER TABLE skus ADD COLUMN low_told SMALLINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE skus DROP COLUMN low_told;
ALTER TABLE skus DROP COLUMN low_at;

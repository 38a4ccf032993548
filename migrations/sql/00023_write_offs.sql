-- +goose Up
-- Money that fits no order and stays here, since nobody can be found whose it is: the first
-- person's word, and the second's, by which it is written off. Its payment is owed from then
-- on and has no refund: for the program before this one there is nothing left to do about it.
CREATE TABLE write_offs (
  transaction_id  VARCHAR(32)  NOT NULL,
  amount_fen      BIGINT       NOT NULL,
  proposed_by     VARCHAR(64)  NOT NULL,
  proposed_why    VARCHAR(200) NOT NULL,
  proposed_at     BIGINT       NOT NULL,
  written_off_by  VARCHAR(64)  NOT NULL DEFAULT '',
  written_off_why VARCHAR(200) NOT NULL DEFAULT '',
  written_off_at  BIGINT       NOT NULL DEFAULT 0,
  PRIMARY KEY (transaction_id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE write_offs;

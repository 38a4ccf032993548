-- +goose Up
-- What a person looks for often: the filters of a page of the console, under a name.
CREATE TABLE saved_views (
  person   VARCHAR(64)  NOT NULL,
  page     VARCHAR(16)  NOT NULL,
  name     VARCHAR(40)  NOT NULL,
  query    VARCHAR(800) NOT NULL,
  saved_at BIGINT       NOT NULL,
  PRIMARY KEY (person, page, name)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE saved_views;

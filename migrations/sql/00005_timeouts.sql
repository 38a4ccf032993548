-- +goose Up
-- Timeouts are found by state: the unpaid whose time has come, and apart from
-- them those that wait for their turn at WeChat Pay, in order of their deadline.
DROP INDEX ix_orders_due /*! ON orders */;
CREATE INDEX ix_orders_due ON orders (state, due_at, order_no);
-- An index that no change of state touches: a close wrote the one before twice.
-- It keeps the name, which the program before this one forces.
DROP INDEX ix_orders_open /*! ON orders */;
CREATE INDEX ix_orders_open ON orders (customer_id, order_no);

-- What could not be done although everything answered: a broken row, a task
-- that nobody can read. Orders and refunds stand here until they are done;
-- 'failing' is tried again at next_at, 'dead' waits for a person.
CREATE TABLE failed_tasks (
  task_type VARCHAR(32)   NOT NULL,
  task_key  VARCHAR(64)   NOT NULL,
  state     VARCHAR(8)    NOT NULL,
  tries     BIGINT        NOT NULL,
  cause     VARCHAR(500)  NOT NULL,
  payload   VARCHAR(1000) NOT NULL,
  first_at  BIGINT        NOT NULL,
  last_at   BIGINT        NOT NULL,
  next_at   BIGINT        NOT NULL,
  PRIMARY KEY (task_type, task_key),
  CONSTRAINT ck_failed_tasks_state CHECK (state IN ('failing', 'dead'))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;
CREATE INDEX ix_failed_tasks ON failed_tasks (state, last_at, task_type, task_key);

-- A rate that all replicas keep together: up to when its turns are given away,
-- in microseconds.
CREATE TABLE rate_limits (
  name    VARCHAR(32) NOT NULL,
  next_at BIGINT      NOT NULL,
  PRIMARY KEY (name)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */;

-- +goose Down
DROP TABLE rate_limits;
DROP TABLE failed_tasks;
DROP INDEX ix_orders_open /*! ON orders */;
CREATE INDEX ix_orders_open ON orders (customer_id, due_at);
DROP INDEX ix_orders_due /*! ON orders */;
CREATE INDEX ix_orders_due ON orders (due_at, order_no);

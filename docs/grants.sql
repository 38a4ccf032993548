-- The least that orderd serve needs on MariaDB or MySQL, as user orderd on the
-- schema orderd. Migrations (orderd migrate up) are another user's, with ALL on
-- the schema. What happened stays: no UPDATE and no DELETE on order_events,
-- stock_flows, stock_moves, order_items, refund_items, refund_approvals,
-- bill_files, bill_hands, difference_notes, day_closings, day_closing_parts and trail.
-- A test runs the service's flows with exactly these.
CREATE USER 'orderd'@'127.0.0.1' IDENTIFIED BY 'PASSWORD';
GRANT SELECT ON orderd.* TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.order_events TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.stock_flows TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.order_items TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.refund_items TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.refund_approvals TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.bill_files TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.bill_hands TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.trail TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.difference_notes TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.day_closings TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.day_closing_parts TO 'orderd'@'127.0.0.1';
GRANT INSERT, DELETE ON orderd.matched_across TO 'orderd'@'127.0.0.1';
GRANT INSERT, DELETE ON orderd.bill_chunks TO 'orderd'@'127.0.0.1';
GRANT INSERT, DELETE ON orderd.events_out TO 'orderd'@'127.0.0.1';
GRANT INSERT, DELETE ON orderd.echoes TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.orders TO 'orderd'@'127.0.0.1';
GRANT INSERT ON orderd.stock_moves TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.stock_gates TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.stock_buckets TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.sale_buyers TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.skus TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.payments TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.payment_attempts TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.refunds TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.shipments TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.shop_keys TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.operators TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.operator_tokens TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.operator_passwords TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.operator_links TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE, DELETE ON orderd.operator_sessions TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE, DELETE ON orderd.processes TO 'orderd'@'127.0.0.1';
GRANT INSERT, DELETE ON orderd.saved_views TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE, DELETE ON orderd.login_failures TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.reconciliations TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.differences TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.write_offs TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.rate_limits TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.webhook_endpoints TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE, DELETE ON orderd.webhook_deliveries TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.bulk_runs TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE ON orderd.bulk_rows TO 'orderd'@'127.0.0.1';
GRANT UPDATE ON orderd.webhook_places TO 'orderd'@'127.0.0.1';
GRANT INSERT, UPDATE, DELETE ON orderd.failed_tasks TO 'orderd'@'127.0.0.1';

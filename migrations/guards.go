package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"orderd/migrations/sqldb"
)

// Guards are the unique keys of the schema, each as TABLE.KEY with its columns in
// their order; a column that may be NULL, and so stand there twice, has a question
// mark. Without one of them two transactions could write the same row twice, and
// nothing would refuse the second. They repeat what the files in sql create, and a
// test compares the two on every engine: whoever adds a key there adds it here.
var Guards = map[string]string{
	"skus.PRIMARY":                      "sku_id",
	"stock_flows.PRIMARY":               "order_no,kind,ref,sku_id",
	"orders.PRIMARY":                    "order_no",
	"orders.u_orders_request":           "customer_id,request_id",
	"orders.u_orders_reference":         "reference?,shop", // most orders have none
	"order_items.PRIMARY":               "order_no,line_no",
	"order_events.PRIMARY":              "order_no,seq",
	"payment_attempts.PRIMARY":          "out_trade_no",
	"payment_attempts.u_attempts_order": "order_no,attempt_no",
	"payments.PRIMARY":                  "transaction_id",
	"refunds.PRIMARY":                   "out_refund_no",
	"refunds.u_refunds_request":         "requester_type,requester_id,request_id?", // what is owed has no request
	"refund_items.PRIMARY":              "out_refund_no,sku_id",
	"refund_approvals.PRIMARY":          "out_refund_no,approver",
	"operators.PRIMARY":                 "name",
	"operators.u_operators_key":         "name_key?", // names from before accounts have none
	"operator_tokens.PRIMARY":           "name",
	"operator_tokens.u_operator_tokens": "sha256",
	"operator_passwords.PRIMARY":        "person",
	"operator_links.PRIMARY":            "sha256",
	"operator_sessions.PRIMARY":         "sha256",
	"login_failures.PRIMARY":            "who",
	"processes.PRIMARY":                 "id",
	"saved_views.PRIMARY":               "person,page,name",
	"bill_files.PRIMARY":                "bill_date,bill_type,sha1",
	"bill_hands.PRIMARY":                "bill_date,bill_type,sha1,act,who",
	"bill_chunks.PRIMARY":               "bill_date,bill_type,sha1,seq",
	"reconciliations.PRIMARY":           "bill_date,bill_type",
	"differences.PRIMARY":               "id",
	"matched_across.PRIMARY":            "kind,ref",
	"difference_notes.PRIMARY":          "difference_id,ref",
	"day_closings.PRIMARY":              "bill_date,seq",
	"day_closing_parts.PRIMARY":         "bill_date,seq,name,part",
	"shipments.PRIMARY":                 "order_no",
	"failed_tasks.PRIMARY":              "task_type,task_key",
	"rate_limits.PRIMARY":               "name",
	"echoes.PRIMARY":                    "id",
	"stock_gates.PRIMARY":               "sku_id",
	"stock_buckets.PRIMARY":             "bucket_id",
	"stock_moves.PRIMARY":               "bucket_id,seq",
	"sale_buyers.PRIMARY":               "sale,customer_id,slot",
	"events_out.PRIMARY":                "id",
	"webhook_endpoints.PRIMARY":         "id",
	"webhook_deliveries.PRIMARY":        "endpoint_id,event_id",
	"webhook_places.PRIMARY":            "name",
	"shop_keys.PRIMARY":                 "name",
	"shop_keys.u_shop_keys":             "sha256",
	"write_offs.PRIMARY":                "transaction_id",
	"bulk_runs.PRIMARY":                 "id",
	"bulk_rows.PRIMARY":                 "run_id,seq",
	"trail.PRIMARY":                     "seq",
	"trail.u_trail_act":                 "act,step",
}

// Bounds are the names of the CHECK constraints of the schema: the values that a
// column can have. They too repeat the files in sql, and the same test compares
// them. What a constraint says is not compared: the engines print it in words of
// their own.
var Bounds = []string{
	"ck_skus_available", "ck_skus_price", "ck_flows_kind", "ck_orders_total", "ck_orders_state", "ck_items",
	"ck_attempts_state", "ck_payments_outcome", "ck_refunds_amount", "ck_refund_items",
	"ck_reconciliations_state", "ck_differences_status", "ck_failed_tasks_state",
	"ck_shipments_state", "ck_gates_mode", "ck_gates_state", "ck_buckets_remaining", "ck_buckets_state",
	"ck_moves_cause", "ck_webhooks_state", "ck_bulk_runs_state", "ck_bulk_rows_state",
}

// MissingGuards tells found of every key and constraint of Guards and Bounds that the
// database of q does not have, or has on other columns, and on MySQL of every table
// whose engine has no transactions and of every unique key whose text is compared
// without regard to case. Each row is a text of "name=value" pairs for a person. It
// reads the schema, of which no database has a snapshot: what another connection
// changes meanwhile is seen. It asks for what is there and not for what the migrations
// did: goose's own table says that they ran, not that nobody has dropped a key since.
func MissingGuards(ctx context.Context, q sqldb.Querier, engine sqldb.Engine, found func(row string)) error {
	keys, err := findGuards(ctx, q, engine)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(Guards)) {
		if keys[name] != Guards[name] {
			found(fmt.Sprintf("key=%s columns=%s found=%s", name, Guards[name], keys[name]))
		}
	}
	constraints, err := findBounds(ctx, q, engine)
	if err != nil {
		return err
	}
	for _, name := range Bounds {
		if !constraints[name] {
			found("constraint=" + name + " found=")
		}
	}
	if engine == sqldb.SQLite {
		return nil // all of its tables have transactions, and it compares text byte by byte
	}
	return findUnsafe(ctx, q, found)
}

// findUnsafe tells of MySQL's tables without transactions and of its unique keys
// that are compared without regard to case.
func findUnsafe(ctx context.Context, q sqldb.Querier, found func(row string)) error {
	return sqldb.Each(ctx, q, `SELECT t.table_name, t.engine, '', ''
FROM information_schema.tables t
WHERE t.table_schema = DATABASE()
  AND t.table_type = 'BASE TABLE'
  AND t.engine <> 'InnoDB'
UNION ALL
SELECT c.table_name, '', c.column_name, c.collation_name
FROM information_schema.columns c
JOIN information_schema.statistics s ON s.table_schema = c.table_schema
  AND s.table_name = c.table_name
  AND s.column_name = c.column_name
WHERE c.table_schema = DATABASE()
  AND s.non_unique = 0
  AND c.collation_name <> 'utf8mb4_bin'`, nil, func(rows *sql.Rows) error {
		var table, engine, column, collation string
		err := rows.Scan(&table, &engine, &column, &collation)
		if err == nil {
			found(fmt.Sprintf("table_name=%s engine=%s column_name=%s collation_name=%s", table, engine, column,
				collation))
		}
		return err
	})
}

// findGuards gives the unique keys that the database has, as Guards names them.
// "(in part)" after a column says that only its first characters, or only some
// rows, are in the key.
func findGuards(ctx context.Context, q sqldb.Querier, engine sqldb.Engine) (map[string]string, error) {
	query := `SELECT table_name, index_name, column_name,
  CASE WHEN nullable = 'YES' THEN 1 ELSE 0 END, COALESCE(sub_part, 0)
FROM information_schema.statistics
WHERE table_schema = DATABASE()
  AND non_unique = 0
ORDER BY table_name, index_name, seq_in_index`
	if engine == sqldb.SQLite {
		// A key of INTEGER alone is the row's own number, and no index.
		query = `SELECT tab, name, col, nullable, part
FROM (
  SELECT m.name AS tab, CASE il.origin WHEN 'pk' THEN 'PRIMARY' ELSE il.name END AS name, ii.name AS col,
    1 - c."notnull" AS nullable, il.partial AS part, ii.seqno AS seq
  FROM sqlite_master m
  JOIN pragma_index_list(m.name) il
  JOIN pragma_index_info(il.name) ii
  JOIN pragma_table_info(m.name) c ON c.name = ii.name
  WHERE m.type = 'table'
    AND il."unique" = 1
  UNION ALL
  SELECT m.name, 'PRIMARY', c.name, 0, 0, 0
  FROM sqlite_master m
  JOIN pragma_table_info(m.name) c ON c.pk = 1 AND c.type = 'INTEGER'
  WHERE m.type = 'table'
    AND NOT EXISTS (SELECT 1 FROM pragma_index_list(m.name) il WHERE il.origin = 'pk'))
ORDER BY tab, name, seq`
	}
	there := map[string]string{}
	err := sqldb.Each(ctx, q, query, nil, func(rows *sql.Rows) error {
		var table, index, column string
		var null, part int64
		err := rows.Scan(&table, &index, &column, &null, &part)
		if null != 0 {
			column += "?"
		}
		if part != 0 {
			column += "(in part)"
		}
		name := table + "." + index
		there[name] = strings.TrimPrefix(there[name]+","+column, ",")
		return err
	})
	return there, err
}

// findBounds gives the names of the CHECK constraints that the database has.
// SQLite has no table of them: they are read from the text of its CREATE TABLEs.
func findBounds(ctx context.Context, q sqldb.Querier, engine sqldb.Engine) (map[string]bool, error) {
	there := map[string]bool{}
	if engine == sqldb.SQLite {
		err := sqldb.Each(ctx, q, `SELECT sql
FROM sqlite_master
WHERE type = 'table'
  AND sql IS NOT NULL`, nil, func(rows *sql.Rows) error {
			var text string
			err := rows.Scan(&text)
			for words := strings.Fields(text); len(words) > 1; words = words[1:] {
				if words[0] == "CONSTRAINT" {
					there[words[1]] = true
				}
			}
			return err
		})
		return there, err
	}
	err := sqldb.Each(ctx, q, `SELECT constraint_name
FROM information_schema.check_constraints
WHERE constraint_schema = DATABASE()`, nil, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		there[name] = true
		return err
	})
	return there, err
}

// Command hostile puts markup that would run into every column of text of a stopped service that somebody else than
// the service fills: whatever the table of bounds has, whether or not its alphabet lets it in. Its argument is the
// database, of SQLite. It prints, as JSON, which number stands for which column: what is put there calls x with it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// kept are columns by which rows of several tables find each other, or somebody their account. Of names of operators
// one account is changed in all of its tables.
var kept = strings.Fields(`orders.request_id refunds.request_id stock_flows.ref operators.name operators.name_key
operator_tokens.name operator_tokens.person operator_passwords.person operator_links.person operator_sessions.person
saved_views.person saved_views.name order_events.cause_id payment_attempts.notify_url refunds.notify_url
payment_attempts.time_expire payment_attempts.client_ip payment_attempts.h5_type`)

// keys are the fields that are numbers of ours or of WeChat Pay's, by which things are looked up.
var keys = []*bounds.Field{&bounds.SkuID, &bounds.Sale, &bounds.OrderNo, &bounds.OutTradeNo, &bounds.OutRefundNo,
	&bounds.WeChatNo, &bounds.DifferenceID, &bounds.Echo, &bounds.NotificationID, &bounds.Currency, &bounds.TaskType,
	&bounds.BulkID}

// rows are what nothing but a person's hand or another service makes: one of each.
var rows = []string{
	`INSERT INTO shipments
  SELECT o.order_no, 'refused', p.transaction_id, p.out_trade_no, p.paid_at,
    json_object('way', 1, 'parcels', json_array(json_object('carrier', '"><svg/onload=x(99)>', 'number', '{{x(99)}}', 'goods', '''><script>x(99)</script>'),
    json_object('carrier', 'YTO', 'number', '</textarea><details/open/ontoggle=x(99)>', 'goods', '", x(99)'))),
    1, 0, 0, 1, NULL, 10060001, '', '', 1, 1
  FROM orders o JOIN payments p ON p.order_no = o.order_no WHERE o.state = 'paid' ORDER BY o.order_no DESC LIMIT 1`,
	`INSERT INTO write_offs (transaction_id, amount_fen, proposed_by, proposed_why, proposed_at)
  SELECT transaction_id, amount_fen, 'a', 'b', 1 FROM payments WHERE outcome = 'held' LIMIT 1`,
	`INSERT INTO stock_gates (sku_id, sale, mode, state, origin, version, actor, reason, created_at, updated_at)
  SELECT sku_id, sku_id, 'off', 'open', 'person', 1, '', '', 1, 1 FROM skus LIMIT 1`,
	`INSERT INTO sale_buyers SELECT 'mug', '', 1, order_no FROM orders LIMIT 1`,
	`INSERT INTO failed_tasks
  SELECT 'expire', 'hostile', 'dead', 3, '', '', created_at, created_at, created_at
  FROM orders ORDER BY order_no DESC LIMIT 1`,
	`INSERT INTO operators (name, name_key, role, created_by, created_at, disabled_at, disabled_by)
  VALUES ('"><img onerror=x(100) src>', 'hostile', 'viewer', '', 1, 1, ''), ('left', 'left', 'viewer', '', 1, 1, '')`,
	`INSERT INTO operator_tokens (name, role, sha256, created_by, created_at, person)
  VALUES ('left', 'viewer', 'left', '', 1, 'left')`,
}

// payloads are the ways to get out of where a text stands; %d is the column's number.
var payloads = []string{`"><svg/onload=x(%d)>`, `'><script>x(%d)</script>`, `javascript:x(%d)//{{x(%[1]d)}}`,
	`</textarea><details/open/ontoggle=x(%d)>`}

// short is for columns that hold no more.
const short = `<p/onclick=x(%d)>`

func main() {
	ctx := context.Background()
	db, err := sqldb.OpenExisting(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	exec := func(query string, args ...any) (int64, error) {
		r, err := db.Pool().ExecContext(ctx, query, args...)
		if err != nil {
			return 0, err
		}
		return r.RowsAffected()
	}
	for _, row := range rows {
		if _, err := exec(row); err != nil {
			log.Fatalf("%v in %s", err, row)
		}
	}
	seeded := map[string]int{"shipments.content": 99, "operators.name": 100} // both by rows
	var wrong []string
	n := 100
	for _, f := range bounds.Fields {
		if slices.Contains(keys, f) {
			continue
		}
		for column := range strings.FieldsSeq(f.Columns) {
			if slices.Contains(kept, column) || seeded[column] > 0 {
				continue
			}
			n++
			table, name, _ := strings.Cut(column, ".")
			changed, err := exec("UPDATE "+table+" SET "+name+" = "+cases(n, f, column), nil...)
			if err != nil || changed == 0 {
				wrong = append(wrong, fmt.Sprintf("%s: %d rows %v", column, changed, err))
				continue
			}
			seeded[column] = n
		}
	}
	if len(wrong) > 0 {
		log.Fatal(strings.Join(wrong, "\n"))
	}
	if err := json.NewEncoder(os.Stdout).Encode(seeded); err != nil {
		log.Fatal(err)
	}
}

// cases is the SQL of what a column gets: another payload from row to row.
func cases(n int, f *bounds.Field, column string) string {
	var s strings.Builder
	s.WriteString("CASE rowid % 4")
	for i, p := range payloads {
		text := fmt.Sprintf(p, n)
		if f.Most > 0 && len(text) > f.Most {
			text = fmt.Sprintf(short, n)
		}
		if f.Most > 0 && len(text) > f.Most {
			text = fmt.Sprintf("<x(%d)", n)
		}
		value := "'" + strings.ReplaceAll(text, "'", "''") + "'"
		if column == "orders.reference" || column == "failed_tasks.task_key" { // of one row alone
			value += " || rowid"
		}
		if column == "order_events.detail" {
			value = "json_object('reason', " + value + ")"
		}
		fmt.Fprintf(&s, " WHEN %d THEN %s", i, value)
	}
	return s.String() + " END"
}

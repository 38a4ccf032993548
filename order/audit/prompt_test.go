package audit_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/trail"
	"orderd/stock"
)

// prompt is somebody at the database's prompt: it changes one thing in a world that is in order.
type prompt struct {
	w     *world
	rnd   *rand.Rand
	clean map[string]int
	keys  map[string][]string         // of the primary key, by table
	cols  map[string][]string         // by table
	rows  map[string][]map[string]any // by table
}

// words are what a column may say, beside what other rows say there.
var words = map[string][]string{
	"orders.state": {"pending", "closing", "closed", "paid", "refunding", "refunded", "late"},
	"refunds.state": {"pending_approval", "rejected", "owed", "processing", "success", "closed", "abnormal", "refused",
		"cancelled", "by_hand", "held"},
	"refunds.reason":           {"aftersale", "late", "duplicate", "held"},
	"refunds.told":             {"SUCCESS", "CLOSED", "PROCESSING"},
	"payment_attempts.state":   {"calling", "live", "refused", "closed"},
	"payments.outcome":         {"applied", "owed", "held"},
	"payments.reason":          {"late", "duplicate", "revived", "amount"},
	"operators.role":           {"viewer", "finance", "admin"},
	"operator_tokens.role":     {"viewer", "finance", "admin"},
	"reconciliations.state":    {"new", "running", "done", "failed", "waiting"},
	"differences.status":       {"OPEN", "PENDING_NEXT_DAY", "RESOLVED", "WRITTEN_OFF"},
	"shipments.state":          {"owed", "due", "reported", "refused", "void"},
	"failed_tasks.state":       {"failing", "dead"},
	"orders.close_reason":      {"timeout", "cancel", "operator"},
	"bill_files.source":        {"wechat", "file"},
	"bill_hands.act":           {"fetched", "gave", "confirmed"},
	"refunds.requester_type":   {"customer", "operator", "scheduler"},
	"order_events.actor_type":  {"customer", "shop", "operator", "scheduler", "wechat", "reconciler"},
	"stock_flows.kind":         {"adjust", "replenish", "deduct", "return"},
	"order_events.event":       {"order.note", "refund.approved"},
	"payment_attempts.h5_type": {"Wap"},
	"stock_gates.mode":         {"off", "local", "redis"},
	"stock_gates.state":        {"open", "ended"},
	"stock_buckets.state":      {"open", "closing", "closed"},
	"stock_moves.cause":        {"grant", "back", "close"},
	"webhook_endpoints.state":  {"on", "disabled", "removed"},
	"bulk_runs.kind":           {"order.close", "order.ask", "refund.approve"},
	"bulk_runs.state":          {"running", "stopped", "done"},
	"bulk_rows.state":          {"waiting", "doing", "done", "changed", "failed"},
}

// books are a day that was reconciled, what its run and people made of it, and tasks that failed.
var books = billInto + "('2027-01-14', 'ALL', '$sha', 'wechat', 9, 1, 1800000000000);" +
	billInto + "('2027-01-13', 'ALL', '$sha', 'file', 9, 1, 1800000000000);" + pieceInto + ";" +
	handInto + "('2027-01-14', 'ALL', '$sha', 'fetched', 'wechat', 'request', '', 1800000000000);" +
	handInto + "('2027-01-13', 'ALL', '$sha', 'gave', 'flora', 'request', '', 1800000000000);" +
	handInto + "('2027-01-13', 'ALL', '$sha', 'confirmed', 'adam', 'request', 'x', 1800000000000)" +
	doneDay + ";" + runInto + "('2027-01-13', 'ALL', 'failed', 1, 'x', 1, 1, '');" +
	diffInto + "('d1', '2027-01-14', 'ALL', 3, 'BILL_ONLY', '42', '', '', '42', 1, 100, 0, 'SUCCESS', '', '{}', 0, " +
	"'OPEN', 1800000000000, '', '', '');" +
	diffInto + "('d2', '2027-01-14', 'ALL', 3, 'BILL_ONLY', '43', '', '', '43', 1, 100, 0, 'SUCCESS', '', '{}', 0, " +
	"'WRITTEN_OFF', 1800000000000, 'flora', 'adam', 'x');UPDATE differences SET proposed_why = 'x', resolution = " +
	"'x', resolved_at = 1800000000000 WHERE id = 'd2';" +
	diffInto + "('d3', '2027-01-14', 'ALL', 1, 'LOCAL_ONLY', '44', '', '', '44', 0, 0, 100, '', 'applied', '{}', 0, " +
	"'RESOLVED', 1800000000000, '', 'reconciler', '');UPDATE differences SET resolution = 'bill and books agree " +
	"now', resolved_at = 1800000000000 WHERE id = 'd3';" +
	diffInto + "('d4', '2027-01-14', 'ALL', 3, 'LOCAL_ONLY', '45', '', '', '45', 0, 0, 100, '', 'applied', '{}', 0, " +
	"'PENDING_NEXT_DAY', 1800000000000, '', '', '');UPDATE differences SET waits_for = '2027-01-15', pending_until = " +
	"1800072000000 WHERE id = 'd4';" +
	runInto + "('2027-01-15', 'ALL', 'waiting', 3, '', 1, 1, '');" +
	runInto + "('2027-01-12', 'ALL', 'running', 3, 'replica', 1800000060000, 1800000000000, '');" +
	billInto + "('2027-01-15', 'ALL', '$sha', 'wechat', 9, 1, 1800000000000);INSERT INTO bill_chunks (bill_date, " +
	"bill_type, sha1, seq, body) VALUES ('2027-01-15', 'ALL', '$sha', 0, 'x');" +
	noteInto + "('d1', 'n1', 'comment', '', 'asked the bank', 'flora', 'request', 1800000000000);" +
	closedDay + ";" +
	"INSERT INTO matched_across (kind, ref, bill_date, sha1, source, run_no) SELECT 'payment', transaction_id, " +
	"'2027-01-15', '$sha', 'wechat', 3 FROM payments WHERE order_no = '$asked';" +
	"INSERT INTO shipments (order_no, state, transaction_id, out_trade_no, paid_at, content, put_at, version, " +
	"due_at, message, put_by, created_at, updated_at) SELECT order_no, 'due', transaction_id, out_trade_no, paid_at, " +
	"'{}', paid_at, 1, paid_at, '', 'adam', paid_at, paid_at FROM payments WHERE order_no = '$asked';" +
	taskInto + "'failing', 1, 'x', 1800000000000, 1800000000000, 1800000000000);" +
	"INSERT INTO rate_limits (name, next_at) VALUES ('close', 1800000000000000);" +
	"INSERT INTO echoes (id, message, heard_at) VALUES ('n1', '', 1800000000000);" +
	"INSERT INTO webhook_endpoints (id, url, types, note, secret, state, told_from, created_by, created_at, " +
	"updated_at) VALUES ('we_1', 'https://a.example/', '', '', 'x', 'on', 0, 'adam', 1800000000000, 1800000000000);" +
	"INSERT INTO webhook_deliveries (endpoint_id, event_id, at, type, order_no, version, state, ref) " +
	"VALUES ('we_1', 1, 1800000000000, 'order.created', '$asked', 1, 'pending', '');" +
	"INSERT INTO shop_keys (name, shop, scopes, sha256, created_by, created_at) " +
	"VALUES ('mine-1', 'mine', 'place', 'x', 'adam', 1800000000000);" +
	"INSERT INTO operator_passwords (person, hash, set_at) VALUES ('adam', 'x', 1800000000000);" +
	"INSERT INTO operator_links (sha256, person, created_by, created_at, ends_at) " +
	"VALUES ('x', 'adam', 'cli', 1800000000000, 1800001800000);" +
	"INSERT INTO operator_sessions (sha256, person, role, created_at, seen_at, proved_at, address, agent) " +
	"VALUES ('x', 'adam', 'admin', 1800000000000, 1800000000000, 1800000000000, '', '');" +
	"INSERT INTO login_failures (who, tries, at) VALUES ('x', '1800000000000', 1800000000000);" +
	"INSERT INTO processes (id, host, pid, roles, version, revision, began_at, seen_at) VALUES ('a:1', 'a', 1, " +
	"'api', 'v1', 'abc', 0, 0);" +
	"INSERT INTO saved_views (person, page, name, query, saved_at) VALUES ('adam', 'orders', 'x', 'a=b', " +
	"1800000000000);" + saleRows + ";" + bulkOf("'order.ask', 'adam', 1, 'running', 0, 0", askedRow)

func newPrompt(t *testing.T, db *sqldb.DB, seed uint64) *prompt {
	t.Helper()
	p := &prompt{w: newWorld(t, db), rnd: rand.New(rand.NewPCG(seed, 0)), keys: map[string][]string{},
		cols: map[string][]string{}, rows: map[string][]map[string]any{}}
	for i, r := range []order.PrepayRequest{{TradeType: payment.JSAPI, OpenID: "o1"},
		{TradeType: payment.H5, ClientIP: "198.51.100.7", H5Type: "Wap"}} {
		r.OrderNo = p.w.PlaceOne(t, fmt.Sprint("prompt", i), "mug", 1).OrderNo
		r.CustomerID, r.Cause = "c", ordertest.Customer
		if _, err := p.w.Prepay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	shops := order.Placement{CustomerID: "c", RequestID: "of-a-shop", Shop: "web", Reference: "A-1",
		Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}
	if _, err := p.w.Place(t.Context(), shops); err != nil {
		t.Fatal(err)
	}
	if _, err := p.w.Admin.SetLow(t.Context(), "mug", bounds.LowAt.Most); err != nil {
		t.Fatal(err)
	}
	act, err := trail.New(db, p.w.Clock.Now, nil).Begin(t.Context(), trail.Who{Actor: "adam"},
		trail.What{Action: "x.y"})
	if err != nil {
		t.Fatal(err)
	}
	if err := act.End(t.Context(), "", trail.Done, "", ""); err != nil {
		t.Fatal(err)
	}
	if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for _, one := range p.w.sql(books) {
			if _, err := tx.Update(ctx, one); err != nil {
				return fmt.Errorf("%s: %w", one, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range columnsOf(t, db) {
		table, column, _ := strings.Cut(c, ".")
		p.cols[table] = append(p.cols[table], column)
	}
	query := `SELECT table_name, column_name
FROM information_schema.key_column_usage
WHERE table_schema = DATABASE() AND constraint_name = 'PRIMARY'
ORDER BY table_name, ordinal_position`
	if db.Engine() == sqldb.SQLite {
		query = `SELECT m.name, c.name
FROM sqlite_master m
JOIN pragma_table_info(m.name) c
WHERE m.type = 'table' AND c.pk > 0
ORDER BY m.name, c.pk`
	}
	if err := sqldb.Each(t.Context(), db, query, nil, func(rows *sql.Rows) error {
		var table, column string
		err := rows.Scan(&table, &column)
		p.keys[table] = append(p.keys[table], column)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, table := range slices.Sorted(maps.Keys(p.cols)) {
		p.read(t, table)
	}
	return p
}

// read reads the rows of a table, in the order of the chance.
func (p *prompt) read(t *testing.T, table string) {
	t.Helper()
	cols := p.cols[table]
	err := sqldb.Each(t.Context(), p.w.DB, "SELECT "+strings.Join(cols, ", ")+" FROM "+table+" ORDER BY "+
		strings.Join(p.keys[table], ", "), nil, func(rows *sql.Rows) error {
		values, into := make([]any, len(cols)), make([]any, len(cols))
		for i := range values {
			into[i] = &values[i]
		}
		err := rows.Scan(into...)
		row := map[string]any{}
		for i, c := range cols {
			if b, ok := values[i].([]byte); ok {
				values[i] = string(b)
			}
			row[c] = values[i]
		}
		p.rows[table] = append(p.rows[table], row)
		return err
	})
	if err != nil || len(p.rows[table]) == 0 {
		t.Fatalf("no row of %s to change: %v", table, err)
	}
	p.rnd.Shuffle(len(p.rows[table]), func(i, j int) {
		r := p.rows[table]
		r[i], r[j] = r[j], r[i]
	})
}

// found is what verify finds after a statement, which is taken back; false when the schema refuses it.
func (p *prompt) found(t *testing.T, statement string, args ...any) (map[string]int, bool) {
	t.Helper()
	found := map[string]int{}
	done := false
	err := p.w.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if statement != "" {
			if n, err := tx.Update(ctx, statement, args...); err != nil || n == 0 {
				return errSeeded
			}
		}
		r, err := p.w.Audit.VerifyIn(ctx, tx, audit.VerifyOptions{})
		if err != nil {
			return err
		}
		done = true
		for _, c := range r.Checks {
			found[c.ID] = c.Count
		}
		return errSeeded
	})
	if !errors.Is(err, errSeeded) {
		t.Fatal(statement, args, err)
	}
	return found, done
}

// noticed runs a statement and reports whether verify says anything new about it.
func (p *prompt) noticed(t *testing.T, statement string, args ...any) (noticed, done bool) {
	t.Helper()
	found, done := p.found(t, statement, args...)
	return done && !maps.Equal(found, p.clean), done
}

// where is the condition that finds a row.
func (p *prompt) where(table string, row map[string]any) (string, []any) {
	var args []any
	for _, k := range p.keys[table] {
		args = append(args, row[k])
	}
	return strings.Join(p.keys[table], " = ? AND ") + " = ?", args
}

// values are what somebody may write in the place of a value.
func (p *prompt) values(table, column string, was any) []any {
	var all []any
	switch v := was.(type) {
	case int64:
		all = append(all, int64(9_999_999_999_999), int64(0), v+1, v-86_400_000, v-1, int64(-1), v+86_400_000, v*2,
			v+3_600_000, int64(1), nil)
	case string:
		all = append(all, "", v+"x", "x", nil)
	case nil:
		all = append(all, int64(1), p.w.Clock.Now().UnixMilli(), int64(9_999_999_999_999), "x")
	}
	for _, word := range words[table+"."+column] {
		all = append(all, word)
	}
	for _, other := range p.rows[table] {
		all = append(all, other[column])
	}
	seen := []any{was}
	return slices.DeleteFunc(all, func(v any) bool {
		again := slices.Contains(seen, v)
		seen = append(seen, v)
		return again
	})
}

// tally counts what somebody did to a column, or to rows of a table, and what of it nobody saw.
type tally struct {
	tried  int
	unseen []string
}

// change writes other values into a column of some rows, and stops at the first that is noticed unless all is set.
func (p *prompt) change(t *testing.T, table, column string, rows, values int, all bool) tally {
	t.Helper()
	var c tally
	for _, row := range p.rows[table][:min(rows, len(p.rows[table]))] {
		where, args := p.where(table, row)
		others := p.values(table, column, row[column])
		for _, v := range others[:min(values, len(others))] {
			seen, done := p.noticed(t, "UPDATE "+table+" SET "+column+" = ? WHERE "+where, append([]any{v}, args...)...)
			if !done {
				continue
			}
			if c.tried++; seen && !all {
				return tally{tried: c.tried}
			} else if !seen {
				c.unseen = append(c.unseen, fmt.Sprintf("%v: %v to %v", args, row[column], v))
			}
		}
	}
	return c
}

// unheld are the columns that docs/verify.md calls held by nothing.
func unheld(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	none := map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| none: ")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		none[m[1]] = true
	}
	return none
}

// What the document says is held has to be found when somebody at the prompt changes it. Set ORDERD_TEST_LONG=1 to try
// every value in many rows and to print what nobody sees.
func TestHandAtThePromptIsFound(t *testing.T) {
	all := os.Getenv("ORDERD_TEST_LONG") == "1"
	rows, values := 20, 7
	if all {
		rows, values = 12, 40
	}
	none := unheld(t)
	try := func(t *testing.T, db *sqldb.DB) {
		p := newPrompt(t, db, 1)
		p.clean, _ = p.found(t, "")
		for id, n := range p.clean {
			if n > 0 {
				t.Fatalf("in order, yet %s finds %d", id, n)
			}
		}
		tried, unseen := 0, 0
		for _, table := range slices.Sorted(maps.Keys(p.cols)) {
			for _, column := range p.cols[table] {
				if none[table+"."+column] && !all {
					continue
				}
				c := p.change(t, table, column, rows, values, all)
				tried, unseen = tried+c.tried, unseen+len(c.unseen)
				if all {
					t.Logf("%s.%s: %d of %d unseen\n\t%s", table, column, len(c.unseen), c.tried,
						strings.Join(c.unseen, "\n\t"))
				}
				if len(c.unseen) == c.tried && c.tried > 0 && !none[table+"."+column] {
					t.Errorf("docs/verify.md says that %s.%s is held, and nobody sees %q", table, column, c.unseen)
				}
			}
		}
		t.Logf("%d changes, %d unseen", tried, unseen)
	}
	if all {
		sqldbtest.Each(t, try)
		return
	}
	try(t, sqldbtest.SQLite(t)) // the seeded violations show that both engines find the same
}

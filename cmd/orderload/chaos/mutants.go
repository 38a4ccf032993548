package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Mutant is a mistake that shops make, made in orderd on purpose: the harness
// must catch it. It is a change of text in the sources, built with the
// compiler's -overlay, so that no bug stands in the tree.
type Mutant struct {
	// Name is what --mutant takes, What the mistake in a sentence, Edit how to make it.
	Name string
	What string
	Edit []Edit
}

// Edit replaces text that stands in a file exactly once: a source that has changed makes
// the mutant an error and not a run without a mistake. File is from the module's root.
type Edit struct{ File, Old, New string }

// mutate writes the overlay of a mutant into a folder and gives its file, which `go build
// -overlay` takes.
func mutate(ctx context.Context, dir, name string) (string, error) {
	for _, m := range Mutants {
		if m.Name == name {
			return m.overlay(ctx, dir)
		}
	}
	return "", fmt.Errorf("there is no mutant %q", name)
}

// moduleRoot is the folder of the sources. The harness builds what it tests, so it has to
// be run inside of them.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "orderd").Output()
	if err != nil {
		return "", fmt.Errorf("find the module (run this inside the repository): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// overlay writes the changed files, and the JSON that tells the compiler to read them in
// the place of the real ones. The tree itself is never touched.
func (m Mutant) overlay(ctx context.Context, dir string) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	texts, replace := map[string]string{}, map[string]string{}
	for _, e := range m.Edit {
		path := filepath.Join(root, filepath.FromSlash(e.File))
		if _, ok := texts[path]; !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			texts[path] = string(b)
		}
		if n := strings.Count(texts[path], e.Old); n != 1 {
			return "", fmt.Errorf(
				"mutant %s: %q stands %d times in %s: the source has changed, change the mutant",
				m.Name, e.Old, n, e.File)
		}
		texts[path] = strings.Replace(texts[path], e.Old, e.New, 1)
	}
	for path, text := range texts {
		file := filepath.Join(dir, fmt.Sprintf("mutant%d.go", len(replace)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[path] = file
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, errors.Join(err, os.WriteFile(overlay, b, 0o600))
}

// commitAtOnce takes away that a COMMIT without an answer is run again by its keys.
var commitAtOnce = []Edit{
	{"migrations/sqldb/tx.go", "		unknown = unknown || (atCommit && class == ClassDown)\n",
		"		unknown = unknown || (atCommit && class == ClassDown)\n		if unknown {\n" +
			"			return fmt.Errorf(\"%w: %w\", ErrUnknown, err)\n		}\n"},
	{"migrations/sqldb/group.go", "len(batch) == 1 || errors.Is(err, ErrUnavailable)",
		"len(batch) == 1 || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown)"},
}

// staysBehind takes away that connections leave a server that does not lead any more.
var staysBehind = Edit{"migrations/sqldb/conn.go", "	case time.Since(c.looked) < lookAgain:\n",
	"	case time.Since(c.looked) >= 0:\n"}

// Mutants are the mistakes.
var Mutants = slices.Concat(shopMutants, gateMutants, redisMutants, queueMutants, replicaMutants)

// shopMutants are those that a run without a gate catches.
var shopMutants = []Mutant{
	// What shops do wrong with closes, callbacks and stock.
	{"close-by-nil", "a close is believed when the call gave no error, whatever was answered", []Edit{
		{"order/close.go", "		if attempt == nil && reply.Answer != payment.ClosePaid {\n",
			"		if true {\n"}}},
	{"ack-before-commit", "a callback is acknowledged although its payment could not be written", []Edit{
		{"order/orderhttp/notify.go",
			"		if err != nil {\n			return err\n		}\n		if outcome == outcomeV2 {",
			"		if errors.Is(err, payment.ErrBadSignature) || errors.Is(err, payment.ErrMalformed) {\n" +
				"			return err\n		}\n		if outcome == outcomeV2 {"}}},
	{"stock-before-proof", "stock comes back when the close is asked for, not when it is proven", []Edit{
		{"order/apply.go", "	if cell.Effect == EffectReturnStock {\n",
			"	if cell.Effect == EffectReturnStock || cell.To == StateClosing {\n"}}},
	{"no-cas", "the state is read without a lock and written without saying what it was believed to be", []Edit{
		{"order/store_orders.go", "ORDER BY order_no\nFOR UPDATE`", "ORDER BY order_no`"},
		{"order/store_events.go", "INSERT INTO order_events", "INSERT IGNORE INTO order_events"},
		{"order/store_orders.go", "\"\\nWHERE state = ?\"", "\"\\nWHERE (state = ? OR 1 = 1)\""},
		{"order/apply.go", "		if n != int64(len(nos)) {\n", "		if n < 0 {\n"}}},
	{"random-flow-key", "a return has a random part in its key and is not unique", []Edit{
		{"stock/return.go", "kind: KindReturn, ref: ref, skuID: l.SkuID, delta: l.Out})",
			"kind: KindReturn, ref: ref + fmt.Sprint(at.UnixNano()%97), skuID: l.SkuID, delta: l.Out})"}}},
	// What they believe without looking.
	{"no-amount-check", "a payment of another amount makes the order paid", []Edit{
		{"order/command.go", "	case t.Total != e.after.Total:", "	case t.Total < 0:"}}},
	{"no-timestamp-check", "a callback of an hour ago is believed", []Edit{
		{"payment/wechat/keys.go", "skew > maxClockSkew || skew < -maxClockSkew", "skew > 1000*maxClockSkew"}}},
	// What they make of a COMMIT whose answer was lost.
	{"commit-error-new-id", "a COMMIT without an answer is done again under a new key", append([]Edit{
		{"order/place.go", "	return s.counted(placed, sure(&ticket, err))\n",
			"	if errors.Is(err, sqldb.ErrUnknown) {\n" +
				"		p.RequestID = no\n" +
				"		return s.Place(ctx, p)\n" +
				"	}\n" +
				"	return s.counted(placed, sure(&ticket, err))\n"}}, commitAtOnce...)},
	{"refused-without-lock", "a repeat is refused while its first try is half written", []Edit{
		{"order/store_orders.go", "byRequest(len(members))+lock, args", "byRequest(len(members))+lock[:0], args"}}},
	{"commit-error-failure", "a COMMIT without an answer is told as a refusal", append([]Edit{
		{"order/place.go", "	return s.counted(placed, sure(&ticket, err))\n",
			"	if errors.Is(err, sqldb.ErrUnknown) {\n" +
				"		return Placed{}, &InsufficientError{Items: []stock.Short{{SkuID: p.Lines[0].SkuID, " +
				"Requested: p.Lines[0].Quantity}}}\n	}\n" +
				"	return s.counted(placed, sure(&ticket, err))\n"}}, commitAtOnce...)},
	{"page-fails-together", "a locked row fails the batch or page that meets it", []Edit{
		{"migrations/sqldb/errors.go", "(my.Number == mysqlLockWait || my.Number == mysqlNoWait ||",
			"(my.Number == 0 ||"}}},
	{"rest-counts-waits", "a page beside customers rests from waiting for a lock, as long as that took", []Edit{
		{"order/lanes.go", "	if errors.Is(err, sqldb.ErrLocked) {\n		return 0\n	}\n", ""},
		{"order/lanes.go", "min(politePause*took, mostRest)", "politePause * took"},
		{"order/lanes.go", "	\"errors\"\n", ""},
		{"order/lanes.go", "var errTooMany = errors.New(", "var errTooMany = fmt.Errorf("},
		{"order/lanes.go", "import (\n	\"context\"\n", "import (\n	\"context\"\n	\"fmt\"\n"}}},
	// What they do wrong with timeouts.
	{"sweep-without-cursor", "the sweep looks at its first row only", []Edit{
		{"scheduler/sweep.go", "		more := do(page)\n", "		more := do(page[:1]) && false\n"},
		{"scheduler/line.go", "		if len(page) == 0 {\n			return false\n		}\n",
			"		if len(page) == 0 || n > 1 {\n" +
				"			return false\n		}\n		page = page[:1]\n"}}},
	{"page-not-counted", "a page of timeouts is written without counting its rows", []Edit{
		{"order/apply.go", "		if n != int64(len(nos)) {\n", "		if n != int64(len(nos)) && !b.believed {\n"},
		{"order/store_events.go", "INSERT INTO order_events", "INSERT IGNORE INTO order_events"}}},
	{"page-unproven", "a page of timeouts ends with those that WeChat Pay did not answer about", []Edit{
		{"order/timeout.go", "		if results[i].proven == closeClosed {\n",
			"		if results[i].proven != closePaid {\n"}}},
	{"rely-on-the-queue", "there is no sweep: what the queue loses is lost", []Edit{
		{"scheduler/sweep.go", "	takes, patience := s.redisTakes(ctx), time",
			"	if true {\n		return\n	}\n	takes, patience := s.redisTakes(ctx), time"}}},
	{"sweep-trusts-redis", "a Redis that answers takes tasks, and the age of a task explains why it waits", []Edit{
		{"scheduler/sweep.go", "takes, patience := s.redisTakes(ctx), time",
			"takes, patience := s.Queue != nil && s.Queue.redis.Ping(ctx).Err() == nil, time"},
		{"scheduler/sweep.go", "		if !was.at.IsZero() && now.Sub(was.at)",
			"		if was.at.IsZero() || now.Sub(was.at)"}}},
	{"stock-read-modify-write", "the shelf is written as it was read, less what was taken", []Edit{
		{"stock/shelf.go", "			taken[id] = it.taken\n", "			taken[id] = it.left\n"},
		{"stock/shelf.go", "SET available = available - ` + sum", "SET available = ` + sum"},
		{"stock/shelf.go", "  AND opens_at <= ?\n  AND closed_until <= ?\n  AND available >= ` + sum\n",
			"  AND opens_at <= ?\n  AND closed_until <= ?`\n"},
		{"stock/shelf.go", "sqldb.Args(ids), []any{s.now, s.now}, args, guardArgs)...)",
			"sqldb.Args(ids), []any{s.now, s.now}, guardArgs)...)"},
		{"stock/shelf.go", "if s, err = readShelf(ctx, tx, ids, \"\\nFOR UPDATE\"); err",
			"if s, err = readShelf(ctx, tx, ids, \"\"); err"}}},
	// What they do wrong with money that comes late, goes back or stands in a bill.
	{"paid-over-closed", "money that comes for a closed order makes it paid", []Edit{
		{"order/machine.go", "		return moveAnd(StateLate, EffectOweRefund)\n",
			"		return move(StatePaid)\n"}}},
	{"new-refund-number", "a refund that is sent again has a new number", []Edit{
		{"order/refund.go", "		OutRefundNo: row.OutRefundNo, TransactionID: row",
			"		OutRefundNo: fmt.Sprint(row.OutRefundNo, \"-T\", row.Tries), TransactionID: row"}}},
	{"reconcile-again", "what the bill has found is booked again at every run", []Edit{
		{"payment/reconcile/heal.go", "TradeSuccess, TransactionID: d.Ref,",
			"TradeSuccess, TransactionID: fmt.Sprint(d.Ref, \"-\", u.no),"}}},
	{"attempts-from-the-reading-pool", "what is to be closed is read elsewhere, and its proof is believed", []Edit{
		{"order/store_attempts.go", "func findNewest(ctx context.Context, tx *sqldb.Tx, ",
			"func findNewest(ctx context.Context, tx querier, "},
		{"order/apply.go", "findNewest(ctx, tx, nos)", "findNewest(ctx, b.s.db, nos)"},
		{"order/assert.go", "	b.assertProofs(&found)\n", ""}, staysBehind}},
	// What they make of a server that is not the one any more, or a client that is not there.
	{"reads-stay-behind", "after a switchover what is shown comes from the old primary", []Edit{staysBehind}},
	{"no-session-timeout", "the locks of a host that died stay for the server's eight hours", []Edit{
		{"migrations/sqldb/open.go", "		cfg.Params[name] = seconds(deadAfter)\n",
			"		cfg.Params[name] = seconds(8 * time.Hour)\n"}}},
	// The replica is a map that keeps the first row it was given.
	{"read-from-a-replica", "the door decides by what a replica says that lags behind", []Edit{
		{"order/store_orders.go", "		entries[o.OrderNo] = &entry{before: o, after: o}\n",
			"		if v, ok := replica.LoadOrStore(o.OrderNo, o); ok {\n			o = v.(Order)\n		}\n" +
				"		entries[o.OrderNo] = &entry{before: o, after: o}\n"},
		{"order/store_orders.go", "// lockOrders reads orders", "var replica sync.Map\n\n// lockOrders reads orders"},
		{"order/store_orders.go", "	\"strings\"\n	\"time\"\n", "	\"strings\"\n	\"sync\"\n	\"time\"\n"}}},
}

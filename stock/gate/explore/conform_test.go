package explore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
)

// A goroutine that stays behind is a connection or a transaction that nobody ends.
func TestMain(m *testing.M) { sqldbtest.NoLeaks(m) }

// deep is a world by the rules of package stock, with a pool that is deep enough for its grants.
var deep = Model{Name: "deep", Local: true, Marks: true, Unread: true, Share: true,
	Units: 300, Wants: [maxBuyers]int16{60, 300}, Grants: []int16{80}, Rows: 2, Moves: 2, Tries: 1}

// tickTime is one tick: reopenTicks of them are stock.ReopenAfter.
const tickTime = stock.ReopenAfter / time.Duration(reopenTicks)

// scene is what a transaction meets in the database, and how it is answered: two paths that bring the same scene show
// the same of the code.
type scene struct {
	pool   int16
	closed int8
	rows   [maxRows]Row
	orders [maxBuyers]Order
	step   Step
}

// sceneOf gives the scene of a step; false for one that is no transaction.
func sceneOf(s *State, st Step) (scene, bool) {
	switch st.Kind {
	case StepGrant, StepPlace, StepLate, StepCancel, StepClose, StepNotice, StepReopen:
	default:
		return scene{}, false
	}
	sc := scene{s.Pool, s.Closed, s.Rows, s.Orders, st}
	for i := range sc.rows {
		sc.rows[i].Home = 0
	}
	if sc.step.Proc, sc.step.Lost = 0, false; st.Kind == StepLate { // nobody hears of it
		sc.step.Kind = StepPlace
	}
	if sc.step.Kind == StepPlace {
		sc.step.Answer = AnswerNone
	}
	return sc, true
}

// The model would show nothing of a program that does other steps than it. So every transaction that it knows, in every
// state of the database that it can meet there, is run by the code, on the shortest path to it, and after each one
// pool, buckets, moves, mark, orders and answers are compared. Without ORDERD_TEST_LONG=1 it is one path of eight, on
// MariaDB of forty.
func TestTheCodeDoesTheStepsOfTheModel(t *testing.T) {
	m := deep
	res := m.Explore(limit)
	if res.Err != nil {
		t.Fatal(m.explain(res))
	}
	paths := cover(&m, &res)
	t.Logf("%d states, %d steps, %d paths", res.States, res.Transitions, len(paths))
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		every := map[sqldb.Engine]int{sqldb.SQLite: 64, sqldb.MySQL: 160}[db.Engine()] // whose commits take longer
		if os.Getenv("ORDERD_TEST_LONG") == "1" {
			every = 1
		}
		for i := 0; i < len(paths); i += every {
			if err := replay(t, db, &m, fmt.Sprint("s", i), paths[i]); err != nil {
				t.Fatalf("path %d: %v", i, err)
			}
		}
	})
}

// cover gives paths that have every scene in them, the longest first.
func cover(m *Model, res *Result) (paths [][]Step) {
	seen := map[scene]bool{}
	for at := len(res.nodes) - 1; at >= 0; at-- {
		from := &res.nodes[at].state
		m.steps(from, func(st Step, _ State) {
			if sc, is := sceneOf(from, st); !is || seen[sc] {
				return
			}
			path := append(res.path(at), st)
			paths = append(paths, path)
			s := m.first()
			for _, st := range path {
				if sc, is := sceneOf(&s, st); is {
					seen[sc] = true
				}
				s = m.next(&s, st)
			}
		})
	}
	return paths
}

// next gives the state that a step leads to.
func (m *Model) next(s *State, st Step) (to State) {
	m.steps(s, func(other Step, next State) {
		if other == st {
			to = next
		}
	})
	to.settle()
	return to
}

// shop is one path's SKU in the database.
type shop struct {
	db    *sqldb.DB
	admin *stock.Admin
	m     *Model
	sku   string
	now   time.Time
	// opening is closed_until of a reopening that the model waits for.
	opening int64
}

// replay runs the steps of a path by the code, and gives the first difference.
func replay(t *testing.T, db *sqldb.DB, m *Model, sku string, path []Step) error {
	t.Helper()
	x := &shop{db: db, m: m, sku: sku, now: time.UnixMilli(1_800_000_000_000)}
	units := int64(m.Units)
	x.admin = stock.NewAdmin(db, func() time.Time { return x.now })
	_, _, err := x.admin.Put(t.Context(), stock.Put{SkuID: sku, Title: sku, PriceFen: 1, Quantity: &units})
	if err == nil {
		_, err = x.admin.SetGate(t.Context(), stock.GateChange{SkuID: sku, Mode: stock.GateLocal, Actor: "a",
			Reason: "r"})
	}
	if err != nil {
		t.Fatal(err)
	}
	s := m.first()
	for i, st := range path {
		next := m.next(&s, st)
		err := x.do(t.Context(), &s, &next, st)
		if _, is := sceneOf(&s, st); err == nil && is {
			err = x.compare(t.Context(), &next)
		}
		if err != nil {
			return fmt.Errorf("%w\nafter\n%s\nthe model has %s", err, shown(path[:i+1]), next)
		}
		s = next
	}
	return nil
}

// shown prints steps.
func shown(path []Step) string {
	lines := make([]string, len(path))
	for i, st := range path {
		lines[i] = st.String()
	}
	return strings.Join(lines, "\n")
}

// id is the bucket of the model in the database.
func (x *shop) id(bucket int8) int64 {
	n := int64(0)
	for _, c := range x.sku[1:] {
		n = 10*n + int64(c-'0')
	}
	return 10*n + int64(bucket)
}

// orderNo is the order of a buyer.
func (x *shop) orderNo(buyer int8) string { return fmt.Sprint(x.sku, "-", buyer) }

// do runs one step and compares what it says. What happens in memory alone is the model's.
func (x *shop) do(ctx context.Context, s, next *State, st Step) error {
	switch st.Kind {
	case StepGrant:
		got, err := x.grant(ctx, s, st.Proc, st.Bucket)
		if err != nil || got != int64(st.N) {
			return fmt.Errorf("granted %d of %d: %w", got, st.N, err)
		}
	case StepNotice:
		if got, err := x.grant(ctx, s, st.Proc, st.Bucket); got != 0 || err != nil && !errors.Is(err, stock.ErrFenced) {
			return fmt.Errorf("granted %d to a closed bucket: %w", got, err)
		}
	case StepPlace, StepLate:
		return x.place(ctx, s, next, st)
	case StepCancel:
		return x.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := stock.ReturnAll(ctx, tx, []string{x.orderNo(st.Buyer)}, stock.RefClose, x.now)
			return err
		})
	case StepClose:
		return x.admin.CloseBuckets(ctx, []int64{x.id(st.Bucket)}, x.now)
	case StepReopen:
		var err error
		if x.opening, err = x.admin.Reopen(ctx, x.sku); err != nil || x.opening == 0 {
			return fmt.Errorf("opened %d: %w", x.opening, err)
		}
	case StepTick:
		x.now = x.now.Add(tickTime)
		if s.Closed != 0 && next.Closed == 0 && x.opening != 0 { // the wait of the model is over
			_, err := x.admin.Sell(ctx, x.sku, x.opening)
			x.opening = 0
			return err
		}
	case StepRaise, StepTake, StepForbid, StepDoubt, StepVanish, StepCrash:
	default:
		return fmt.Errorf("no code for %q", st.Kind)
	}
	return nil
}

// grant asks for what the model's processes ask for. One that is fenced is not run again.
func (x *shop) grant(ctx context.Context, s *State, proc, bucket int8) (units int64, err error) {
	g := stock.Grant{Bucket: x.id(bucket), SkuID: x.sku, Home: fmt.Sprint("p", proc), Seq: int64(s.row(bucket).Seq) + 1,
		Want: int64(x.m.Grants[0]), At: x.now}
	fenced := false
	err = x.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		units, err = g.Move(ctx, tx)
		if fenced = errors.Is(err, stock.ErrFenced); fenced {
			return errStop
		}
		return err
	})
	if fenced {
		return 0, stock.ErrFenced
	}
	return units, err
}

// errStop ends a transaction without a second run.
var errStop = errors.New("stop")

// place places as package order does: a line with a ticket asks nothing of the pool until a run was fenced.
func (x *shop) place(ctx context.Context, s, next *State, st Step) error {
	no, line := x.orderNo(st.Buyer), stock.Line{SkuID: x.sku, Quantity: int64(x.m.Wants[st.Buyer])}
	want := stock.Want{Units: map[string]int64{x.sku: line.Quantity}, At: x.now}
	var from []int64
	if st.Bucket != 0 {
		from = []int64{x.id(st.Bucket)}
		want.Units[x.sku], want.Buckets = 0, from
	}
	answer := AnswerOrdered
	var news stock.News
	runs := 0
	err := x.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if runs++; runs > 2 {
			return errStop
		}
		var flows int
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM stock_flows WHERE order_no = ?`, no).Scan(&flows)
		if err != nil || flows > 0 {
			return err
		}
		shelf, err := stock.Open(ctx, tx, want)
		if err != nil {
			return err
		}
		if answer = AnswerOrdered; shelf.Take(no, []stock.Line{line}, from) != nil {
			answer = AnswerShort
		}
		err = shelf.Commit(ctx, tx, x.now)
		if errors.Is(err, stock.ErrFenced) {
			want.Fenced, want.Units[x.sku] = true, line.Quantity
		}
		news = shelf.News()
		return err
	})
	if err != nil {
		return fmt.Errorf("placing: %w", err)
	}
	if st.Kind == StepPlace && answer != st.Answer {
		return fmt.Errorf("the code's answer is %d", answer)
	}
	return x.compareNews(s, next, st, news)
}

// compareNews wants to be told of every bucket that was closed, and of a ticket that was worth nothing.
func (x *shop) compareNews(s, next *State, st Step, news stock.News) error {
	told := map[int64]bool{}
	for _, id := range news.Fenced {
		told[id] = true
	}
	for i := range s.Rows {
		if s.Rows[i].State != next.Rows[i].State && !told[x.id(int8(i+1))] {
			return fmt.Errorf("bucket %d was recalled, and the batch does not say so: %v", i+1, news)
		}
	}
	fresh := s.Orders[st.Buyer].State == OrderNone
	if fresh && st.Bucket != 0 && !x.m.guard(s.row(st.Bucket), x.m.Wants[st.Buyer]) && !told[x.id(st.Bucket)] {
		return fmt.Errorf("bucket %d was fenced, and the batch does not say so: %v", st.Bucket, news)
	}
	return nil
}

// compare holds the database against the state of the model.
func (x *shop) compare(ctx context.Context, s *State) error {
	var available, until, flows int64
	err := x.db.QueryRowContext(ctx, `SELECT available, closed_until, (
  SELECT SUM(delta)
  FROM stock_flows f
  WHERE f.sku_id = s.sku_id)
FROM skus s
WHERE sku_id = ?`, x.sku).Scan(&available, &until, &flows)
	if err != nil {
		return err
	}
	closed := SoldOut
	if stock.Reopening(until) { // the model has one number for both of its steps
		until = until - 1<<62 + stock.ReopenAfter.Milliseconds()
	}
	if until != stock.SoldOut {
		closed = int8(max(0, until-sqldb.Millis(x.now)) / tickTime.Milliseconds())
	}
	if available != int64(s.Pool) || closed != s.Closed {
		return fmt.Errorf("the code has %d in the pool, closed for %d ticks", available, closed)
	}
	remaining := int64(0)
	for i := range s.Rows {
		row, err := x.bucket(ctx, int8(i+1))
		if err != nil {
			return err
		}
		if r := s.Rows[i]; r.State != row.State || r.Remaining != row.Remaining {
			return fmt.Errorf("the code has bucket %d as %+v", i+1, row)
		}
		if r := s.Rows[i]; r.Seq != row.Seq || r.State != RowNone && r.Home != row.Home {
			return fmt.Errorf("the code has bucket %d as %+v", i+1, row)
		}
		remaining += int64(row.Remaining)
	}
	if available+remaining != flows {
		return fmt.Errorf("pool and buckets have %d, the flows %d", available+remaining, flows)
	}
	return x.compareOrders(ctx, s)
}

// bucket reads a bucket as the model writes it, and fails when its moves and flows do not add up to it.
func (x *shop) bucket(ctx context.Context, bucket int8) (Row, error) {
	var state, home string
	var remaining, seq, moves, last, out int64
	err := x.db.QueryRowContext(ctx, `SELECT state, home, remaining, seq, (
  SELECT SUM(delta)
  FROM stock_moves m
  WHERE m.bucket_id = b.bucket_id), (
  SELECT COUNT(*)
  FROM stock_moves m
  WHERE m.bucket_id = b.bucket_id
    AND m.seq BETWEEN 1 AND b.seq), (
  SELECT COALESCE(SUM(delta), 0)
  FROM stock_flows f
  WHERE f.bucket_id = b.bucket_id)
FROM stock_buckets b
WHERE bucket_id = ?`, x.id(bucket)).Scan(&state, &home, &remaining, &seq, &moves, &last, &out)
	if errors.Is(err, sql.ErrNoRows) {
		return Row{}, nil
	}
	if err == nil && (moves+out != remaining || last != seq) {
		err = fmt.Errorf("bucket %d: %d remaining, moves of %d, flows of %d; %d moves to number %d", bucket, remaining,
			moves, out, last, seq)
	}
	states := map[string]RowState{"open": RowOpen, "closed": RowClosed}
	row := Row{State: states[state], Remaining: int16(remaining), Seq: int8(seq)}
	if home == "p1" {
		row.Home = 1
	}
	if row.State == RowClosed {
		row.Seq-- // the model does not count the move that closes
	}
	return row, err
}

// compareOrders wants flows of exactly those who have an order, and all of them back of those who have cancelled it.
func (x *shop) compareOrders(ctx context.Context, s *State) error {
	for b, o := range s.Orders {
		var flows int
		var held int64
		err := x.db.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(-SUM(delta), 0)
FROM stock_flows
WHERE order_no = ?`, x.orderNo(int8(b))).Scan(&flows, &held)
		if err != nil {
			return err
		}
		want := map[OrderState]int64{OrderPlaced: int64(x.m.Wants[b])}[o.State]
		if held != want || flows != int(o.State) { // none, placed: one flow, cancelled: two
			return fmt.Errorf("the code has %d flows of buyer %d, who holds %d", flows, b, held)
		}
	}
	return nil
}

// A comparison that cannot fail shows nothing: where the model does something wrong, the code must differ from it.
func TestTheCodeDiffersFromAWrongModel(t *testing.T) {
	db := sqldbtest.SQLite(t)
	paths := 0
	for _, fault := range []Fault{FaultNoRecall, FaultFencedShort, FaultRecallOpen, FaultCloseForgets,
		FaultCloseKeepsSum, FaultSellsClosed, FaultReopenAtOnce, FaultGrantSoldOut, FaultGrantClosed} {
		m := deep
		m.Faults, m.Astray = fault, true
		res := m.Explore(near)
		found := false
		for _, path := range cover(&m, &res) {
			if paths++; replay(t, db, &m, fmt.Sprint("s", paths), path) != nil {
				found = true
				break
			}
		}
		if !found {
			t.Errorf("fault %d: the code does the same in %d states", fault, res.States)
		}
	}
}

// near is how many states of a wrong model are walked: those next to the start.
const near = 3000

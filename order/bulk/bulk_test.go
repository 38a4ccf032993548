package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// shop is a fixture with runs.
type shop struct {
	*ordertest.Fixture
	*bulk.Runs
	t *testing.T
}

func newShop(t *testing.T, db *sqldb.DB, shape func(*order.Config)) *shop {
	t.Helper()
	f := ordertest.NewWith(t, db, shape)
	f.SKU(t, "mug", 1000)
	s := &shop{Fixture: f, t: t}
	s.Runs = s.another()
	return s
}

func plain(*order.Config) {}

// another is another process.
func (s *shop) another() *bulk.Runs {
	s.t.Helper()
	r, err := bulk.New(bulk.Config{DB: s.DB, Orders: s.Service, Now: s.Clock.Now, LookEvery: time.Millisecond})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// orders places n unpaid orders, whose trades are open.
func (s *shop) orders(n int) (all []string) {
	s.t.Helper()
	for i := range n {
		s.Clock.Advance(time.Second)
		o := s.PlaceOne(s.t, fmt.Sprintf("r%d-%d", i, s.Clock.Now().Unix()), "mug", 1)
		s.Prepaid(s.t, o.OrderNo)
		all = append(all, o.OrderNo)
	}
	return all
}

// refunds pays n orders and asks for their refund as who.
func (s *shop) refunds(n int, who order.Cause) (all []string) {
	s.t.Helper()
	for range n {
		s.Clock.Advance(time.Second)
		o := s.PaidOne(s.t, fmt.Sprint("p", s.Clock.Now().Unix()), "mug", 1)
		ask := ordertest.Ask(o.OrderNo, "k"+o.OrderNo, 0)
		ask.Cause = who
		if who.Actor.Type == order.ActorOperator {
			ask.CustomerID = ""
		}
		all = append(all, s.MustAsk(s.t, ask).OutRefundNo)
	}
	return all
}

// ask is a request for a run.
func (s *shop) ask(kind bulk.Kind, count int) *bulk.Ask {
	s.t.Helper()
	a := &bulk.Ask{ID: bulk.NewID(s.Clock.Now()), Kind: kind, Count: int64(count), Actor: "fin", Reason: "sold out"}
	s.look(a)
	return a
}

// look has the person of a request see what there is now.
func (s *shop) look(a *bulk.Ask) {
	s.t.Helper()
	p, err := s.Look(s.t.Context(), a.Kind, &a.Filter)
	if err != nil {
		s.t.Fatal(err)
	}
	a.Seen = p.Seen
}

// started is a run that is written down.
func (s *shop) started(kind bulk.Kind, count int) bulk.Run {
	s.t.Helper()
	run, err := s.Start(s.t.Context(), s.ask(kind, count))
	if err != nil {
		s.t.Fatal(err)
	}
	return run
}

// worked is a run at its end.
func (s *shop) worked(r *bulk.Runs, id string) bulk.Run {
	s.t.Helper()
	run, err := r.Work(s.t.Context(), id, func(bulk.Run) {})
	if err != nil {
		s.t.Fatal(err)
	}
	return run
}

// counts compares what came of the rows of a run.
func (s *shop) counts(run *bulk.Run, done, changed, failed int64) {
	s.t.Helper()
	if run.State != bulk.StateDone || run.EndedAt.IsZero() || run.Waits() != 0 ||
		[3]int64{run.Done, run.Changed, run.Failed} != [3]int64{done, changed, failed} {
		s.t.Errorf("%+v, want %d done, %d changed, %d failed", run, done, changed, failed)
	}
	for state, want := range map[bulk.RowState]int64{bulk.RowDone: done, bulk.RowChanged: changed,
		bulk.RowFailed: failed, bulk.RowWaiting: 0, bulk.RowDoing: 0} {
		if rows := s.rows(run.ID, state); int64(len(rows)) != want {
			s.t.Errorf("%s: %+v, want %d", state, rows, want)
		}
	}
}

// rows are the rows of a run in a state.
func (s *shop) rows(id string, state bulk.RowState) (all []bulk.Row) {
	s.t.Helper()
	for after := int64(0); ; {
		rows, next, err := s.Rows(s.t.Context(), id, state, after, 2)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, rows...)
		if after = next; next == 0 {
			return all
		}
	}
}

// by counts what a run has left in the timeline of an order, by its name.
func (s *shop) by(run *bulk.Run, orderNo, event string) (n int) {
	s.t.Helper()
	events, err := s.Timeline(s.t.Context(), orderNo)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range events {
		if e := &events[i]; e.Cause == (order.Cause{Actor: e.Cause.Actor, Type: "bulk", ID: run.ID}) &&
			e.Actor == (order.Actor{Type: order.ActorOperator, ID: run.Actor}) && e.Event == event {
			n++
		}
	}
	return n
}

// What a person counted is what is closed: not one that changed since, not one that came since, and not another number.
func TestARunClosesWhatWasCounted(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, plain), t.Context()
		s.PaidOne(t, "paid", "mug", 1)
		open := s.orders(7)
		p, err := s.Look(ctx, bulk.KindClose, &bulk.Filter{})
		if err != nil || p.Count != 7 || p.Sum != 700 || len(p.First) != 5 || p.First[0].Ref != open[6] {
			t.Fatalf("%+v, %v", p, err)
		}
		a := s.ask(bulk.KindClose, 6)
		var count *bulk.CountError
		if _, err := s.Start(ctx, a); !errors.As(err, &count) || count.Count != 7 {
			t.Fatal(err)
		}
		if _, err := s.Runs.Find(ctx, a.ID); !errors.Is(err, bulk.ErrNotFound) {
			t.Fatalf("something was done: %v", err)
		}
		a.Count = 7
		run, err := s.Start(ctx, a)
		if err != nil || run.Total != 7 || run.Sum != 700 || run.State != bulk.StateRunning {
			t.Fatalf("%+v, %v", run, err)
		}
		if _, err := s.AddNote(ctx, order.Note{OrderNo: open[2], Text: "wait", Cause: ordertest.Finance,
			IfVersion: whole(s, open[2]).Version}); err != nil {
			t.Fatal(err)
		}
		later := s.orders(1)[0]
		run = s.worked(s.Runs, run.ID)
		s.counts(&run, 6, 1, 0)
		if rows := s.rows(run.ID, bulk.RowChanged); rows[0].Ref != open[2] {
			t.Errorf("%+v", rows)
		}
		for i, no := range append(open, later) {
			want, events := order.StateClosed, 1
			if i == 2 || i == 7 {
				want, events = order.StatePending, 0
			}
			if got := s.State(t, no); got != want || s.by(&run, no, "close.requested") != events {
				t.Errorf("order %d is %s, %d events", i, got, s.by(&run, no, "close.requested"))
			}
		}
		s.repeated(a, &run)
	})
}

// whole is an order.
func whole(s *shop, no string) order.Order {
	s.t.Helper()
	o, err := s.Service.Find(s.t.Context(), no)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// repeated asks for a run that has ended once more, and for others by its id.
func (s *shop) repeated(a *bulk.Ask, run *bulk.Run) {
	s.t.Helper()
	closes := s.WeChat.Closes
	if again, err := s.Start(s.t.Context(), a); err != nil || again != *run {
		s.t.Errorf("%+v, %v", again, err)
	}
	for what, change := range map[string]func(*bulk.Ask){
		"filter": func(a *bulk.Ask) { a.Filter.Orders.CustomerID = "c" },
		"kind":   func(a *bulk.Ask) { a.Kind = bulk.KindAsk },
		"actor":  func(a *bulk.Ask) { a.Actor = "fin2" },
		"reason": func(a *bulk.Ask) { a.Reason = "other" },
		"count":  func(a *bulk.Ask) { a.Count++ },
	} {
		other := *a
		change(&other)
		if _, err := s.Start(s.t.Context(), &other); !errors.Is(err, bulk.ErrReused) {
			s.t.Errorf("%s: %v", what, err)
		}
	}
	if all, _, err := s.Runs.List(s.t.Context(), "", 0); err != nil || len(all) != 1 || s.WeChat.Closes != closes {
		s.t.Errorf("%d runs, %d closes, %v", len(all), s.WeChat.Closes-closes, err)
	}
}

// What is asked for twice would be sent out twice, or closed twice in the books, when the process that did it died
// before it said so: whoever follows sees what was done and does the rest.
func TestWhoDiesIsFollowed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newShop(t, db, plain)
		open := s.orders(3)
		refunds := s.refunds(3, ordertest.Customer)
		for _, k := range []struct {
			kind   bulk.Kind
			filter bulk.Filter
			refs   []string
		}{
			{bulk.KindAsk, bulk.Filter{Orders: order.Filter{State: order.StatePending}}, open},
			{bulk.KindClose, bulk.Filter{}, open},
			{bulk.KindApprove, bulk.Filter{}, refunds},
		} {
			for _, acts := range []bool{false, true} {
				s.followed(k.kind, k.filter, k.refs, acts)
				switch k.kind {
				case bulk.KindApprove:
					refunds = s.refunds(3, ordertest.Customer)
				case bulk.KindClose:
					open = s.orders(3)
				}
				k.refs = map[bool][]string{true: refunds, false: open}[k.kind == bulk.KindApprove]
			}
		}
	})
}

// followed has a process die in the first row of a run.
func (s *shop) followed(kind bulk.Kind, f bulk.Filter, refs []string, acts bool) {
	s.t.Helper()
	ctx, closes, queries := s.t.Context(), s.WeChat.Closes, s.WeChat.Queries
	a := s.ask(kind, len(refs))
	a.Filter = f
	s.look(a)
	run, err := s.Start(ctx, a)
	if err != nil {
		s.t.Fatal(kind, err)
	}
	ref, settle, err := s.Claimed(ctx, run.ID, acts)
	if err != nil || ref != refs[len(refs)-1] {
		s.t.Fatal(kind, ref, err)
	}
	other := s.another()
	if err := other.Pass(ctx); err != nil { // the one before may be there still
		s.t.Fatal(err)
	}
	if rows := s.rows(run.ID, bulk.RowWaiting); len(rows) != 2 {
		s.t.Errorf("%s: another process took a run that is held: %+v", kind, rows)
	}
	s.Clock.Advance(bulk.HoldFor + time.Second)
	run = s.worked(other, run.ID)
	s.counts(&run, 3, 0, 0)
	if err := settle(); err != nil { // it was not dead
		s.t.Fatal(err)
	}
	if again, err := s.Runs.Find(ctx, run.ID); err != nil || again != run {
		s.t.Errorf("%+v, %v", again, err)
	}
	for _, ref := range refs {
		switch kind {
		case bulk.KindClose:
			if n := s.by(&run, ref, "close.requested"); n != 1 || s.State(s.t, ref) != order.StateClosed {
				s.t.Errorf("%s %s: %d events", ref, s.State(s.t, ref), n)
			}
		case bulk.KindApprove:
			r, err := s.FindRefund(ctx, ref)
			if err != nil || r.State != order.RefundStateOwed || len(r.Approvals) != 1 {
				s.t.Errorf("%+v, %v", r, err)
			}
		case bulk.KindAsk:
		}
	}
	want := map[bulk.Kind][2]int{bulk.KindClose: {3, 3}, bulk.KindAsk: {0, 3}}[kind]
	if kind == bulk.KindAsk && acts { // asking twice is asking once
		want[1]++
	}
	if got := [2]int{s.WeChat.Closes - closes, s.WeChat.Queries - queries}; got != want {
		s.t.Errorf("%s, %v: closes and queries %v, want %v", kind, acts, got, want)
	}
}

// Whoever stops a service must not wait for ten thousand rows, nor lose the one that is under way.
func TestAShutdownEndsAfterTheRow(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newShop(t, db, plain)
		open := s.orders(4)
		run := s.started(bulk.KindClose, 4)
		ctx, stop := context.WithCancel(t.Context())
		s.WeChat.Before = func(string, string) error { stop(); return nil }
		s.Runs.Run(ctx)
		s.WeChat.Before = nil
		if rows := s.rows(run.ID, bulk.RowDone); len(rows) != 1 || s.State(t, open[3]) != order.StateClosed {
			t.Errorf("%+v, %s", rows, s.State(t, open[3]))
		}
		run = s.worked(s.another(), run.ID) // at once: the clock stands
		s.counts(&run, 4, 0, 0)
	})
}

// One refund of the person's own must not keep the others from going out, and one that takes two people must not go by
// the word of one.
func TestAnApprovalOfTheOwnRefundFails(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newShop(t, db, func(c *order.Config) { c.RefundTwoPersons = 500 })
		theirs := s.refunds(2, ordertest.Customer)
		own := s.refunds(1, ordertest.Finance)[0]
		big := s.PaidOne(t, "big", "mug", 6)
		large := s.MustAsk(t, ordertest.Ask(big.OrderNo, "k", 1)).OutRefundNo // a part of what takes two together
		decided := s.refunds(1, ordertest.Customer)[0]
		run := s.started(bulk.KindApprove, 4)
		s.MustDecide(t, decided, order.RefundEventReject, ordertest.Finance2)
		run = s.worked(s.Runs, run.ID)
		s.counts(&run, 2, 1, 1)
		failed, changed := s.rows(run.ID, bulk.RowFailed), s.rows(run.ID, bulk.RowChanged)
		if failed[0].Ref != own || failed[0].Detail != order.ErrSelfApproval.Error() || changed[0].Ref != decided {
			t.Errorf("%+v %+v", failed, changed)
		}
		for _, no := range theirs {
			if got := s.RefundState(t, no); got != order.RefundStateOwed {
				t.Errorf("%s is %s", no, got)
			}
		}
		for _, no := range []string{own, large} {
			if got := s.RefundState(t, no); got != order.RefundStatePending {
				t.Errorf("%s is %s", no, got)
			}
		}
		// The limit is lower by the time that it is done.
		run = s.started(bulk.KindApprove, 1)
		lower := s.Restarted(t, func(c *order.Config) { c.RefundTwoPersons = 50 })
		r, err := bulk.New(bulk.Config{DB: s.DB, Orders: lower.Service, Now: s.Clock.Now, LookEvery: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if run = s.worked(r, run.ID); run.State != bulk.StateStopped || run.Note != bulk.ErrSecond.Error() {
			t.Errorf("%+v", run)
		}
		if _, err := r.Resume(t.Context(), run.ID, "fin2", "I have looked"); err != nil {
			t.Fatal(err)
		}
		run = s.worked(r, run.ID)
		s.counts(&run, 0, 0, 1)
		f, err := s.FindRefund(t.Context(), own)
		if rows := s.rows(run.ID, bulk.RowFailed); err != nil || len(f.Approvals) != 0 ||
			rows[0].Detail != bulk.ErrTwo.Error() {
			t.Errorf("%+v, %+v, %v", rows, f, err)
		}
	})
}

// A run that cannot be stopped goes on with a mistake, and who has lost the role would act on for an hour.
func TestARunIsStopped(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, plain), t.Context()
		open := s.orders(3)
		a := s.ask(bulk.KindClose, 3)
		a.Actor = "li"
		if err := operators.Create(ctx, db, "li", operators.Operator, "cli:root", s.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		run, err := s.Start(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		s.WeChat.Before = func(op, _ string) error { // in the middle of the first row
			if op != "close" {
				return nil
			}
			s.WeChat.Before = nil
			_, err := s.Stop(ctx, run.ID, "wang", "too many")
			return err
		}
		run = s.worked(s.Runs, run.ID)
		if run.State != bulk.StateStopped || run.Note != "wang: too many" || run.Done != 1 || run.EndedAt.IsZero() {
			t.Fatalf("%+v", run)
		}
		if err := s.another().Pass(ctx); err != nil || s.State(t, open[0]) != order.StatePending {
			t.Errorf("it went on: %s, %v", s.State(t, open[0]), err)
		}
		if err := operators.Disable(ctx, db, "li", "cli:root", s.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		if again, err := s.Start(ctx, a); err != nil || again != run { // a retry of a machine must not go on
			t.Fatalf("%+v, %v", again, err)
		}
		if run, err = s.Resume(ctx, run.ID, "zhao", "go on"); err != nil || run.State != bulk.StateRunning ||
			!run.EndedAt.IsZero() || run.Note != "zhao: go on" {
			t.Fatalf("%+v, %v", run, err)
		}
		run = s.worked(s.Runs, run.ID)
		if run.State != bulk.StateStopped || run.Note != operators.ErrNoLonger.Error() || run.Done != 1 {
			t.Errorf("%+v", run)
		}
		a = s.ask(bulk.KindClose, 2)
		if run, err = s.Start(ctx, a); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stop(ctx, run.ID, "wang", "wait"); err != nil {
			t.Fatal(err)
		}
		if run, err = s.Resume(ctx, run.ID, "wang", "now"); err != nil || run.State != bulk.StateRunning {
			t.Fatalf("%+v, %v", run, err)
		}
		run = s.worked(s.another(), run.ID)
		s.counts(&run, 2, 0, 0)
		if after, err := s.Resume(ctx, run.ID, "wang", "late"); err != nil || after != run {
			t.Errorf("%+v, %v", after, err)
		}
		if _, err := s.Resume(ctx, "none", "wang", "x"); !errors.Is(err, bulk.ErrNotFound) {
			t.Error(err)
		}
		if after, err := s.Stop(ctx, run.ID, "wang", "late"); err != nil || after != run {
			t.Errorf("%+v, %v", after, err)
		}
	})
}

// An answer that does not come must not look like a deed, nor a moment without the rate of calls like a failure.
func TestARunAndAWeChatPayThatDoesNotAnswer(t *testing.T) {
	s, ctx := newShop(t, sqldbtest.SQLite(t), plain), t.Context()
	open := s.orders(2)
	run := s.started(bulk.KindAsk, 2)
	limited := true
	s.WeChat.Before = func(_, no string) error {
		switch {
		case order.OrderNoOf(no) == open[0]:
			return ordertest.ErrLost("query")
		case limited:
			return &payment.GatewayError{Op: "query", Kind: payment.KindRateLimited}
		}
		return nil
	}
	if err := s.Pass(ctx); payment.KindOf(err) != payment.KindRateLimited {
		t.Fatal(err)
	}
	if rows := s.rows(run.ID, bulk.RowDoing); len(rows) != 1 || rows[0].Ref != open[1] ||
		rows[0].Detail != bulk.Limited {
		t.Errorf("%+v", rows)
	}
	if n, err := s.Passed(ctx, run.ID); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	limited = false
	run = s.worked(s.another(), run.ID)
	s.counts(&run, 1, 0, 1)
	if rows := s.rows(run.ID, bulk.RowFailed); rows[0].Ref != open[0] || rows[0].Detail != bulk.NoAnswer {
		t.Errorf("%+v", rows)
	}
	s.WeChat.Before = func(string, string) error { return ordertest.ErrLost("close") }
	run = s.started(bulk.KindClose, 2)
	run = s.worked(s.Runs, run.ID)
	s.WeChat.Before = nil
	s.counts(&run, 2, 0, 0)
	rows, state := s.rows(run.ID, bulk.RowDone), s.State(t, open[0])
	if rows[0].Detail != bulk.ClosingYet || state != order.StateClosing {
		t.Errorf("%+v, %s", rows, state)
	}
}

// narrow finds no more than two orders.
type narrow struct{ *order.Service }

func (n narrow) Select(ctx context.Context, f order.Filter, prepaid bool, _ int) ([]order.Selected, bool, error) {
	return n.Service.Select(ctx, f, prepaid, 2)
}

// Who leaves the filter out by a slip of the hand must not close everything, nor is there an end to reading it.
func TestWhatIsNoRun(t *testing.T) {
	s, ctx := newShop(t, sqldbtest.SQLite(t), plain), t.Context()
	s.orders(2)
	few, err := bulk.New(bulk.Config{DB: s.DB, Orders: narrow{s.Service}, Now: s.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []bulk.Kind{bulk.KindClose, bulk.KindAsk} {
		if p, err := few.Look(ctx, kind, &bulk.Filter{}); err != nil || p.Count != 2 {
			t.Errorf("%s: %+v, %v", kind, p, err)
		}
	}
	s.orders(1)
	for _, kind := range []bulk.Kind{bulk.KindClose, bulk.KindAsk} {
		if _, err := few.Look(ctx, kind, &bulk.Filter{}); !errors.Is(err, bulk.ErrTooMany) {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := few.Start(ctx, s.ask(kind, 3)); !errors.Is(err, bulk.ErrTooMany) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	var bad *order.ValidationError
	for what, wrong := range map[string]func(*bulk.Ask) error{
		"id":     func(a *bulk.Ask) error { a.ID = "one"; return bulk.ErrID },
		"none":   func(a *bulk.Ask) error { a.Filter.Orders.State, a.Count = order.StatePaid, 0; return bulk.ErrNone },
		"reason": func(a *bulk.Ask) error { a.Reason = ""; return nil },
		"filter": func(a *bulk.Ask) error { a.Filter.Orders.CustomerID = strings.Repeat("x", 2000); return nil },
		"slow":   func(a *bulk.Ask) error { a.Filter.Orders.SkuID = "mug"; return nil },
	} {
		a := s.ask(bulk.KindClose, 3)
		want := wrong(a)
		if _, err := s.Start(ctx, a); want == nil && !errors.As(err, &bad) || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if all, _, err := s.Runs.List(ctx, "", 0); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// Lists and claims that read whole tables would take the database from the orders.
func TestRunsAreReadByIndex(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newShop(t, db, plain)
		s.orders(20)
		var ids []string
		for range 20 {
			run := s.started(bulk.KindAsk, 20)
			ids = append(ids, run.ID)
			s.Clock.Advance(time.Second)
		}
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, bulk.ListQuery, "~", 51)
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, bulk.RowsQuery, ids[3], 5, 51)
		sqldbtest.ReadsPageBy(t, db, "ix_bulk_rows_state", false, bulk.RowsInQuery, ids[3], "failed", 5, 51)
		sqldbtest.ReadsPageBy(t, db, "ix_bulk_runs_state", false, bulk.FreeQuery, "x", 5, 200)
		sqldbtest.ReadsPageBy(t, db, "ix_bulk_rows_state", false, bulk.RowsInQuery, ids[3], "waiting", 0, 1)
		sqldbtest.ReadsByIndex(t, db, bulk.AskedAgain, ids[3])
		slices.Reverse(ids)
		var listed []string
		for cursor := ""; ; {
			page, next, err := s.Runs.List(t.Context(), cursor, 7)
			if err != nil {
				t.Fatal(err)
			}
			for i := range page {
				listed = append(listed, page[i].ID)
			}
			if cursor = next; next == "" {
				break
			}
		}
		if !slices.Equal(listed, ids) {
			t.Errorf("%v, want %v", listed, ids)
		}
	})
}

// A hundred refunds that one person may approve each are money that two have to: one person alone moves none of it, nor
// by stopping and going on, nor with a token of theirs; the second is another.
func TestABulkOfALargeSumTakesTwoPeople(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, ctx := newShop(t, db, func(c *order.Config) { c.RefundTwoPersons = 250 }), t.Context()
		all := s.refunds(3, ordertest.Customer) // 100 each
		for _, who := range []string{"cli:root", operators.Bootstrap} {
			a := s.ask(bulk.KindApprove, 3)
			a.Actor = who
			if run, err := s.Start(ctx, a); !errors.Is(err, operators.ErrShell) {
				t.Errorf("%s starts it alone: %+v %v", who, run, err)
			}
		}
		run := s.started(bulk.KindApprove, 3)
		if run.State != bulk.StateStopped || run.Note != bulk.ErrSecond.Error() {
			t.Fatalf("%+v", run)
		}
		if same := s.worked(s.Runs, run.ID); same.State != bulk.StateStopped {
			t.Errorf("%+v", same)
		}
		for who, want := range map[string]error{"fin": bulk.ErrSecond, "cli:root": operators.ErrShell,
			operators.Bootstrap: operators.ErrShell} {
			if _, err := s.Resume(ctx, run.ID, who, "go"); !errors.Is(err, want) {
				t.Errorf("%s has it go on: %v", who, err)
			}
		}
		if err := operators.Create(ctx, db, "vic", operators.Viewer, operators.Bootstrap,
			s.Clock.Now().Add(-48*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resume(ctx, run.ID, "vic", "go"); !errors.Is(err, operators.ErrNoLonger) {
			t.Errorf("a viewer has it go on: %v", err)
		}
		for _, no := range all {
			if got := s.RefundState(t, no); got != order.RefundStatePending {
				t.Errorf("by one person %s is %s", no, got)
			}
		}
		if run, err := s.Resume(ctx, run.ID, "fin2", "I have looked"); err != nil || run.State != bulk.StateRunning {
			t.Fatalf("%+v %v", run, err)
		}
		if run, err := s.Stop(ctx, run.ID, "fin", "wait"); err != nil || run.State != bulk.StateStopped {
			t.Fatalf("%+v %v", run, err)
		}
		if _, err := s.Resume(ctx, run.ID, "fin", "go"); !errors.Is(err, bulk.ErrSecond) {
			t.Errorf("who started it has it go on: %v", err)
		}
		if _, err := s.Resume(ctx, run.ID, "fin2", "go"); err != nil {
			t.Fatal(err)
		}
		run = s.worked(s.Runs, run.ID)
		s.counts(&run, 3, 0, 0)
		s.refunds(2, ordertest.Customer)
		if run := s.started(bulk.KindApprove, 2); run.State != bulk.StateRunning { // 200
			t.Errorf("%+v", run)
		}
		s.AssertVerified(t)
	})
}

package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/payment"
	"orderd/stock/gate"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// go-redis knocks once a second at a node that is dead, and sees only then that it was closed.
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		goleak.IgnoreTopFunction("orderd/migrations/sqldb/sqldbtest/servers.(*child).Start.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"), goleak.IgnoreAnyFunction("os.(*Process).Wait"))
}

// shop is scripted orders: due until they are run.
type shop struct {
	mu     sync.Mutex
	due    map[string]time.Time
	ran    map[string]int
	early  int
	late   time.Duration                     // the most
	answer func(orderNo string, n int) error // nil for done

	closing   map[string]bool // asked about, or in line
	looks     int             // for pending orders
	refundDue map[string]time.Time
	refundRan map[string]int
	again     func(no string, n int) time.Time // when a refund wants to be looked at next; zero: never
	pageLimit int                              // 0: more than any test has
	prepaid   map[string]bool                  // a prepay was sent for these
	asks      []order.Ask
	asked     []string                                  // to AskPaid
	askAnswer order.AskOutcome                          // of AskPaid; "" for open
	calls     []string                                  // to ClaimDue and CloseClaimed, with the number of orders
	become    func(e gate.Entry, n int) ([]byte, error) // of what waits in a queue, at its n-th try
}

// Refund is scripted: whoever claims it sets the next wake-up before the call.
func (s *shop) Refund(_ context.Context, no string, _ order.Cause) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.refundDue[no]
	switch {
	case !ok && s.refundRan[no] == 0:
		return order.ErrRefundNotFound
	case !ok:
		return nil
	case time.Now().Before(at):
		s.early++
		return &order.NotDueError{At: at}
	}
	s.refundRan[no]++
	delete(s.refundDue, no)
	if s.again != nil {
		if next := s.again(no, s.refundRan[no]); !next.IsZero() {
			s.refundDue[no] = next
		}
	}
	return nil
}

// Ended: what this shop knows and what is not due any more.
func (s *shop) Ended(_ context.Context, refunds bool, numbers []string) (ended []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	due, ran := s.due, s.ran
	if refunds {
		due, ran = s.refundDue, s.refundRan
	}
	for _, no := range numbers {
		if _, open := due[no]; !open && ran[no] > 0 {
			ended = append(ended, no)
		}
	}
	return ended, nil
}

func (s *shop) DueRefunds(_ context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return page(s.refundDue, after, until, limit), nil
}

// scheduled counts the tasks of slots that wait for their time.
func scheduled(t *testing.T, client redis.UniversalClient) (n int64) {
	t.Helper()
	for _, queue := range slotQueues {
		in, _ := client.ZCard(t.Context(), "asynq:{"+queue+"}:scheduled").Result()
		n += in
	}
	return n
}

func newShop(due map[string]time.Time) *shop {
	return &shop{due: due, ran: map[string]int{}, closing: map[string]bool{}, refundDue: map[string]time.Time{},
		refundRan: map[string]int{}}
}

func (s *shop) Expire(_ context.Context, no string, _ order.Cause) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.due[no]
	if !ok {
		if s.ran[no] == 0 {
			return order.ErrNotFound
		}
		return nil
	}
	if time.Now().Before(at) {
		s.early++
		return &order.NotDueError{At: at}
	}
	s.ran[no]++
	s.late = max(s.late, time.Since(at))
	if s.answer != nil {
		if err := s.answer(no, s.ran[no]); err != nil {
			var closing *order.ClosingError
			if errors.As(err, &closing) {
				s.due[no], s.closing[no] = closing.At, true
			}
			return err
		}
	}
	delete(s.due, no)
	return nil
}

// DueAsks gives the trades that are due, the oldest first.
func (s *shop) DueAsks(_ context.Context, limit int) ([]order.Ask, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []order.Ask
	for _, a := range s.asks {
		if len(due) < limit && !a.At.After(time.Now()) {
			due = append(due, a)
		}
	}
	return due, nil
}

// ClaimAsks gives those that are still as they were read, and has them asked again much later.
func (s *shop) ClaimAsks(_ context.Context, asks []order.Ask) (got []order.Ask, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range asks {
		for i := range s.asks {
			if s.asks[i] != a {
				continue
			}
			if s.asks[i].At = a.At.Add(time.Hour); a.Waits {
				got = append(got, a)
			}
		}
	}
	return got, nil
}

// AskPaid notes who was asked about, and gives the answer of the test.
func (s *shop) AskPaid(_ context.Context, asks []order.Ask, _ order.Cause) []order.AskOutcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	outcomes := make([]order.AskOutcome, len(asks))
	for i, a := range asks {
		s.asked = append(s.asked, a.OutTradeNo)
		outcomes[i] = cmp.Or(s.askAnswer, order.AskOpen)
	}
	return outcomes
}

func (s *shop) PageLimit(context.Context) int { return cmp.Or(s.pageLimit, 2000) }

// ClaimDue claims every order of the page: what becomes of each is said when it is closed.
func (s *shop) ClaimDue(_ context.Context, due []order.Due, _ order.Cause) ([]order.Claim, []error) {
	s.called("claim", len(due))
	claims := make([]order.Claim, len(due))
	for i := range due {
		claims[i].Due = due[i]
	}
	return claims, make([]error, len(due))
}

func (s *shop) called(what string, orders int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprint(what, " ", orders))
}

func (s *shop) CloseClaimed(ctx context.Context, claims []order.Claim, why order.Cause) []error {
	s.called("close", len(claims))
	return expireEach(ctx, claims, why, s.Expire)
}

func expireEach(ctx context.Context, claims []order.Claim, why order.Cause,
	expire func(context.Context, string, order.Cause) error) []error {
	errs := make([]error, len(claims))
	for i, c := range claims {
		errs[i] = expire(ctx, c.Key, why)
		if errors.Is(errs[i], order.ErrNotFound) || errors.As(errs[i], new(*order.NotDueError)) {
			errs[i] = nil // somebody else has its turn
		}
	}
	return errs
}

func (s *shop) AwaitClose(_ context.Context, due []order.Due, _ order.Cause) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range due {
		if _, ok := s.due[d.Key]; ok {
			s.closing[d.Key] = true
		}
	}
	return make([]error, len(due))
}

func (s *shop) DueOrders(_ context.Context, state order.State, after order.DueCursor, until time.Time,
	limit int) ([]order.Due, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == order.StatePending {
		s.looks++
	}
	in := map[string]time.Time{}
	for no, at := range s.due {
		if s.closing[no] == (state == order.StateClosing) {
			in[no] = at
		}
	}
	due := page(in, after, until, limit)
	for i := range due {
		due[i].State = state
	}
	return due, nil
}

// WaitingOrders gives the closing ones, by what prepaid says of them.
func (s *shop) WaitingOrders(_ context.Context, prepaid bool, after order.DueCursor, until time.Time,
	limit int) ([]order.Due, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := map[string]time.Time{}
	for no, at := range s.due {
		if s.closing[no] && s.prepaid[no] == prepaid {
			in[no] = at
		}
	}
	due := page(in, after, until, limit)
	for i := range due {
		due[i].State = order.StateClosing
	}
	return due, nil
}

// PlaceQueued asks the test what becomes of a placement; without one it is an order.
func (s *shop) PlaceQueued(_ context.Context, e gate.Entry) ([]byte, error) {
	s.mu.Lock()
	s.ran[e.OrderNo]++
	n, become := s.ran[e.OrderNo], s.become
	s.mu.Unlock()
	if become == nil {
		return nil, nil
	}
	return become(e, n)
}

func page(due map[string]time.Time, after order.DueCursor, until time.Time, limit int) []order.Due {
	var all []order.Due
	for no, at := range due {
		if at.After(until) || at.Before(after.At) || (at.Equal(after.At) && no <= after.Key) {
			continue
		}
		all = append(all, order.Due{Key: no, At: at})
	}
	slices.SortFunc(all, func(a, b order.Due) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key))
	})
	return all[:min(limit, len(all))]
}

func (s *shop) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.due)
}

// patience is how long anything may take on a busy machine before a test fails: nothing but what hangs does. It is
// less than the ten minutes for which tasks in Redis may explain why the sweep waits.
const patience = 3 * time.Minute

// wait waits until something is done.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(10 * time.Millisecond) // polling, not timing
	}
}

// newOptions fills in what a test left out of o, and prepares a queue when there is a URL.
func newOptions(t *testing.T, url string, s *shop, o Options) Options {
	t.Helper()
	if o.Orders == nil {
		o.Orders = s
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log, o.Poll = slog.New(slog.DiscardHandler), 50*time.Millisecond
	if url != "" {
		client, err := Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		o.Queue = NewQueue(client, time.Now, o.Log, nil)
		t.Cleanup(o.Queue.Close)
	}
	return o
}

// newWorker prepares a queue, when there is a URL, and a worker over orders.
func newWorker(t *testing.T, url string, s *shop, o Options) (*Queue, *Worker) {
	t.Helper()
	o = newOptions(t, url, s, o)
	w, err := NewWorker(o)
	if err != nil {
		t.Fatal(err)
	}
	return o.Queue, w
}

func run(t *testing.T, w *Worker) {
	t.Helper()
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

// start runs a queue and a worker over orders with a sweep of 300 ms.
func start(t *testing.T, url string, s *shop) (*Queue, *Worker) {
	t.Helper()
	q, w := newWorker(t, url, s, Options{SweepEvery: 300 * time.Millisecond, CloseRate: 10_000})
	run(t, w)
	return q, w
}

func mini(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.RunT(t)
	m.ClockTTL(true)
	return m
}

// Without rounding up asynq runs a task up to a second early, and an order would be asked about for nothing.
func TestOnTimeNeverEarly(t *testing.T) {
	now := time.Now()
	s := newShop(map[string]time.Time{})
	for i := range 20 {
		s.due[fmt.Sprint("o", i)] = now.Add(time.Duration(500+i*50) * time.Millisecond)
	}
	at := map[string]time.Time{}
	for no, d := range s.due {
		at[no] = d
	}
	q, _ := start(t, "redis://"+mini(t).Addr(), s)
	for _, d := range at {
		q.WakeAt(d)
	}
	wait(t, "all due orders run", func() bool { return s.left() == 0 })
	if s.early != 0 {
		t.Errorf("%d early runs", s.early)
	}
}

// looklook's and blnk's bugs (peers 28, 29): the deadline lived in Redis alone. With Redis never there, every order
// must still end, and placing must not wait.
func TestRedisAwayFromTheStart(t *testing.T) {
	s := newShop(map[string]time.Time{"o1": time.Now().Add(300 * time.Millisecond), "o2": time.Now()})
	q, _ := start(t, "redis://127.0.0.1:1", s)
	begin := time.Now()
	for range 100 {
		q.WakeAt(time.Now())
	}
	if took := time.Since(begin); took > 2*time.Second { // each of a hundred would try to connect for longer
		t.Errorf("handing over took %s", took)
	}
	wait(t, "orders end without Redis", func() bool { return s.left() == 0 })
}

// The same without any queue configured.
func TestNoQueueAtAll(t *testing.T) {
	s := newShop(map[string]time.Time{"o1": time.Now()})
	start(t, "", s)
	wait(t, "orders end without a queue", func() bool { return s.left() == 0 })
}

// FLUSHALL and a kill in the middle forget every wake-up; the orders must end all the same, on a real server.
func TestRedisLosesEverything(t *testing.T) {
	t.Parallel() // it mostly waits
	server := sqldbtest.RedisServer(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	s := newShop(map[string]time.Time{})
	q, w := newWorker(t, server.URL(), s, Options{SweepEvery: 300 * time.Millisecond, CloseRate: 10_000})
	now := time.Now()
	for no, in := range map[string]time.Duration{"a": 1500 * time.Millisecond, "b": 1500 * time.Millisecond,
		"c": 4 * time.Second} {
		s.due[no] = now.Add(in)
		q.WakeAt(s.due[no])
	}
	wait(t, "wake-ups set", func() bool { return scheduled(t, client) >= 2 }) // nobody takes them yet
	run(t, w)
	wait(t, "the sweep knows this Redis", func() bool {
		n, err := client.Exists(t.Context(), epochKey(slotQueues[0])).Result()
		return err == nil && n == 1
	})
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	wait(t, "wake-ups set again", func() bool { return scheduled(t, client) >= 1 || s.left() == 0 })
	wait(t, "a and b end", func() bool { return s.left() <= 1 })
	server.Kill()
	wait(t, "c ends while Redis is dead", func() bool { return s.left() == 0 })
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.due["d"] = time.Now().Add(time.Second)
	s.mu.Unlock()
	wait(t, "d ends after Redis came back empty", func() bool { return s.left() == 0 })
}

// A task that a dead worker took stays "active" under its lease and blocks its id: the sweep must come without one
// (found by probe; asynq #1051).
func TestTaskOfADeadWorker(t *testing.T) {
	m := mini(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer client.Close()
	due := time.Now()
	q := NewQueue(client, time.Now, slog.New(slog.DiscardHandler), nil)
	q.WakeAt(due)
	q.Close()
	// What a kill −9 leaves: the id in "active" without anybody working on it.
	id, queue := slotID(slotOf(due)), "asynq:{"+slotQueue(slotOf(due))+"}:"
	if _, err := m.ZRem(queue+"scheduled", id); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Lpush(queue+"active", id); err != nil {
		t.Fatal(err)
	}
	m.HSet(queue+"t:"+id, "state", "active")
	s := newShop(map[string]time.Time{"o1": due})
	start(t, "redis://"+m.Addr(), s)
	wait(t, "the order ends by the sweep", func() bool { return s.left() == 0 })
}

// WeChat without an answer must be asked again at the time the order says, and not give up.
func TestUnknownIsAskedAgain(t *testing.T) {
	s := newShop(map[string]time.Time{"o1": time.Now()})
	s.answer = func(_ string, n int) error {
		if n < 3 {
			return &order.ClosingError{At: time.Now().Add(200 * time.Millisecond),
				Err: &payment.GatewayError{Op: "close", Kind: payment.KindUnknown}}
		}
		return nil
	}
	start(t, "redis://"+mini(t).Addr(), s)
	wait(t, "asked until it answered", func() bool { return s.left() == 0 })
	if s.ran["o1"] < 3 {
		t.Errorf("asked %d times", s.ran["o1"])
	}
}

// WeBook's and River's bug (peers 34, River #1318): a full page of orders that cannot be helped hid the next one.
func TestPoisonRowsDoNotHideTheNext(t *testing.T) {
	s := newShop(map[string]time.Time{})
	past := time.Now().Add(-time.Hour)
	for i := range sweepPage + 20 {
		s.due[fmt.Sprintf("bad%05d", i)] = past
	}
	s.due["good"] = past.Add(time.Minute)
	s.answer = func(no string, _ int) error {
		if no != "good" {
			return errors.New("cannot be helped")
		}
		return nil
	}
	start(t, "", s)
	wait(t, "the good one behind a full page runs", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ran["good"] == 1
	})
}

// Beside customers a page is claimed, asked about and stored part by part: claimed whole, the claims of its first
// orders would run out while the last ones are asked about, and somebody else would ask about them again.
func TestPagesFollowTheirLimit(t *testing.T) {
	s := newShop(map[string]time.Time{})
	s.pageLimit = 3
	var page []order.Due
	for i := range 8 {
		no := fmt.Sprint("o", i)
		s.due[no] = time.Now().Add(-time.Second)
		page = append(page, order.Due{Key: no, State: order.StatePending, Version: 1, At: s.due[no]})
	}
	refused := errors.New("no permit")
	permits := 0
	c := newCloser(closerParams{Orders: s, Now: time.Now})
	errs := c.closeDue(t.Context(), page, order.Cause{}, func(_ context.Context, n int) error {
		if permits += n; permits > 6 {
			return refused
		}
		return nil
	})
	want := []string{"claim 3", "close 3", "claim 3", "close 3", "claim 2"}
	if !slices.Equal(s.calls, want) || len(errs) != len(page) {
		t.Fatalf("%d answers by %q, not %q", len(errs), s.calls, want)
	}
	for i, err := range errs {
		if (i < 6) != (err == nil) || (i >= 6) != errors.Is(err, refused) {
			t.Errorf("order %d: %v", i, err)
		}
	}
}

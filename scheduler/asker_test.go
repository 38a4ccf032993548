package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
)

// shopWithAsks has n open trades that are due for an ask, and as many that are not open any more.
func shopWithAsks(n int) *shop {
	s := newShop(map[string]time.Time{})
	for i := range n {
		at := time.Now().Add(-time.Minute).Add(time.Duration(i) * time.Millisecond)
		s.asks = append(s.asks, order.Ask{OutTradeNo: fmt.Sprint("open", i), At: at, Waits: true},
			order.Ask{OutTradeNo: fmt.Sprint("gone", i), At: at})
	}
	return s
}

// askedNow gives how often WeChat Pay was asked so far.
func (s *shop) askedNow() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Each open trade that is due must be asked about once, within the rate, by two workers without Redis; and nobody who
// is not open any more.
func TestAskerAsksWhatIsDue(t *testing.T) {
	const rate = 50
	s := shopWithAsks(60)
	shared := &localBucket{Bucket: NewBucket(nil, "", rate, Burst(rate), time.Now)}
	begin := time.Now()
	for range 2 {
		w, err := NewWorker(Options{Orders: s, Now: time.Now, Log: slog.New(slog.DiscardHandler), SweepEvery: time.Hour,
			CloseRate: rate, Closes: shared})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
	}
	wait(t, "all are asked about", func() bool { return len(s.askedNow()) >= 60 })
	if took := time.Since(begin); took < time.Second {
		t.Errorf("60 asks in %s at %d a second", took, rate)
	}
	asked := s.askedNow()
	slices.Sort(asked)
	if got := len(slices.Compact(asked)); got != 60 || slices.ContainsFunc(asked, func(no string) bool {
		return no[:4] == "gone"
	}) {
		t.Errorf("%d of 60 open trades were asked about: %v", got, asked)
	}
}

// WeChat Pay that is asked too often must be left alone, for its closes: a worker asked on at full rate.
func TestAskerPauses(t *testing.T) {
	for _, answer := range []order.AskOutcome{order.AskRateLimited, order.AskUnknown} {
		s := shopWithAsks(1000)
		s.askAnswer = answer
		a := newAsker(askerParams{Orders: s, Observe: nobody{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		a.pass(t.Context())
		if n := len(s.askedNow()); n == 0 || n > (askPagesAtOnce+1)*asksTogether {
			t.Errorf("%s: %d asks", answer, n)
		}
		before := len(s.askedNow())
		a.pass(t.Context())
		if n := len(s.askedNow()); n != before {
			t.Errorf("%s: %d more asks in the pause", answer, n-before)
		}
	}
}

// Ten thousand open trades take all of the rate that they get; a close that comes due must not wait behind them.
// Whoever comes last leaves half of the burst, and gets nothing while closes take what there is.
func TestClosesGoBeforeAsks(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		const rate, burst = 100, 20
		c := newHandClock()
		closes := NewBucket(db, "close", rate, burst, c.at(0))
		asks := closes.Spare()
		take := func(l Limiter, n int) int {
			t.Helper()
			got, wait, err := l.Take(t.Context(), n)
			if err != nil || got < n && wait <= 0 {
				t.Fatal(got, wait, err)
			}
			return got
		}
		if got := take(asks, 1000); got != burst/2 {
			t.Errorf("asks got %d of a burst of %d", got, burst)
		}
		if got := take(closes, 1000); got != burst/2 {
			t.Errorf("closes got %d after asks had taken all that they get", got)
		}
		for range 50 { // closes take all that comes
			c.move(50 * time.Millisecond)
			if got := take(asks, 1000); got != 0 {
				t.Fatalf("asks got %d before closes that wait", got)
			}
			if got := take(closes, 1000); got != 5 {
				t.Fatalf("closes got %d of 5", got)
			}
		}
		c.move(time.Second)
		if got := take(asks, 1000); got != burst/2 {
			t.Errorf("asks got %d after a rest", got)
		}
	})
}

// shopThatCounts is a shop that counts how often it is asked whom to ask about.
type shopThatCounts struct {
	*shop
	reads atomic.Int64
}

func (s *shopThatCounts) DueAsks(ctx context.Context, limit int) ([]order.Ask, error) {
	s.reads.Add(1)
	return s.shop.DueAsks(ctx, limit)
}

// At a rate of one close a second, of which closes have just taken all, the asker gets nothing for six seconds. It did
// not wait for them: it read the list and the rate again and again, as fast as the database answers.
func TestAskerWaitsForALowRate(t *testing.T) { synctest.Test(t, asksAtALowRate) }

func asksAtALowRate(t *testing.T) {
	s := &shopThatCounts{shop: shopWithAsks(3)}
	const rate = 1
	closes := &localBucket{Bucket: NewBucket(nil, "", rate, Burst(rate), time.Now)}
	if got, _, err := closes.Take(t.Context(), Burst(rate)); got != Burst(rate) || err != nil {
		t.Fatal(got, err)
	}
	a := newAsker(askerParams{Orders: s, Limiter: closes.Spare(), Observe: nobody{},
		Log: slog.New(slog.DiscardHandler), Now: time.Now})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	a.pass(ctx)
	if n := s.reads.Load(); n > 5 {
		t.Errorf("the list was read %d times in half a second", n)
	}
}

// shopWithABadAsk is a shop in which asks about one trade always come to the same.
type shopWithABadAsk struct {
	*shop
	bad     string
	outcome order.AskOutcome
}

func (s shopWithABadAsk) AskPaid(ctx context.Context, asks []order.Ask, why order.Cause) []order.AskOutcome {
	outcomes := s.shop.AskPaid(ctx, asks, why)
	for i := range asks {
		if asks[i].OutTradeNo == s.bad {
			outcomes[i] = s.outcome
		}
	}
	return outcomes
}

// One damaged order, or one trade about which WeChat Pay gives no usable answer, stopped the asks about all others for
// ten seconds whenever its turn came alone, which under the rate is the rule.
func TestOneBadAskDoesNotPauseTheOthers(t *testing.T) {
	for _, outcome := range []order.AskOutcome{order.AskError, order.AskUnknown} {
		t.Run(string(outcome), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { oneBadAsk(t, outcome) })
		})
	}
}

// oneBadAsk asks about twenty trades, and among them about one that comes to that.
func oneBadAsk(t *testing.T, outcome order.AskOutcome) {
	s := shopWithABadAsk{shop: newShop(map[string]time.Time{}), bad: "bad", outcome: outcome}
	at := time.Now().Add(-time.Minute)
	for i := range 20 { // the burst is for the first of them; from then on it is one by one
		s.asks = append(s.asks, order.Ask{OutTradeNo: fmt.Sprint("open", i), Waits: true,
			At: at.Add(time.Duration(i-10) * time.Millisecond)})
		if i == 10 {
			s.asks = append(s.asks, order.Ask{OutTradeNo: "bad", At: at, Waits: true})
		}
	}
	const rate = 50 // the default
	spared := (&localBucket{Bucket: NewBucket(nil, "", rate, Burst(rate), time.Now)}).Spare()
	a := newAsker(askerParams{Orders: s, Limiter: spared, Observe: nobody{},
		Log: slog.New(slog.DiscardHandler), Now: time.Now})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	a.run(ctx)
	if n := len(s.askedNow()); n != 21 {
		t.Errorf("%d of 21 were asked about in 4 s", n)
	}
}

// WeChat Pay that is away is found out under a rate too, where asks go one by one; and what was answered between says
// that it is not away.
func TestAskerPausesAfterSeveralUnknown(t *testing.T) {
	a := newAsker(askerParams{Observe: nobody{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	ask := func(outcome order.AskOutcome, n int) {
		for range n {
			s := shopWithAsks(1)
			s.askAnswer = outcome
			a.Orders = s
			a.ask(t.Context(), s.asks[:1])
		}
	}
	ask(order.AskUnknown, askUnknowns-1)
	ask(order.AskOpen, 1)
	ask(order.AskUnknown, askUnknowns-1)
	ask(order.AskError, 1)
	ask(order.AskUnknown, askUnknowns-1)
	if a.paused.Load() != 0 {
		t.Fatal("paused, and WeChat Pay had answered between")
	}
	ask(order.AskUnknown, 1)
	if a.paused.Load() == 0 {
		t.Errorf("%d asks without an answer, and no pause", askUnknowns)
	}
}

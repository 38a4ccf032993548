package scheduler

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// lineOf is a shop with orders that wait to be closed, the never prepaid before the others by their deadline, and a
// line of pages of four that serves it.
func lineOf(never, prepaid int) (*shop, *line) {
	s := newShop(map[string]time.Time{})
	s.prepaid = map[string]bool{}
	for i := range never + prepaid {
		no := fmt.Sprintf("never%03d", i)
		if i >= never {
			no = fmt.Sprintf("prepaid%03d", i)
			s.prepaid[no] = true
		}
		s.due[no], s.closing[no] = time.Now().Add(-time.Hour).Add(time.Duration(i)*time.Second), true
	}
	signal := newLineSignal()
	const rate = 16 // a page is a quarter of a second
	failures := &failureTracker{trackerParams: trackerParams{Observe: nobody{}, Log: slog.New(slog.DiscardHandler)}}
	c := newCloser(closerParams{Orders: s, Failures: failures, Line: signal, Limiter: free{}, CloseRate: rate,
		Observe: nobody{}, Now: time.Now})
	return s, newLine(lineParams{Orders: s, Closer: c, Failures: failures, Signal: signal,
		Log: slog.New(slog.DiscardHandler), Now: time.Now})
}

// free has a permit for everybody.
type free struct{ Limiter }

// firstsOf lets a line read until it finds nobody, and gives the first order of every page, in the order of reading.
func firstsOf(t *testing.T, l *line) (firsts []string) {
	t.Helper()
	var places linePlaces
	for n := 1; ; n++ {
		page, err := l.next(t.Context(), &places, n%lineShare != 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return firsts
		}
		firsts = append(firsts, page[0].Key)
	}
}

// 10,000 abandoned carts took 200 seconds of the line while orders that money could come for waited behind them.
// Nor may the carts wait for ever: one page in four is theirs.
func TestLineTakesPayableOrdersFirst(t *testing.T) {
	_, l := lineOf(400, 24)
	firsts := firstsOf(t, l)
	if len(firsts) != 106 {
		t.Fatalf("%d pages of 424 orders", len(firsts))
	}
	for i, no := range firsts {
		want := "prepaid"
		if i%lineShare == lineShare-1 || i >= 7 { // six pages of prepaid orders, one of the others among them
			want = "never"
		}
		if !strings.HasPrefix(no, want) {
			t.Errorf("page %d begins with %s", i+1, no)
		}
	}
}

// An order that may be paid and comes due while the line works on abandoned carts must not wait for its next walk.
func TestLineFindsPayableOrdersMeanwhile(t *testing.T) {
	s, l := lineOf(40, 0)
	var places linePlaces
	for range 2 {
		if page, err := l.next(t.Context(), &places, true); err != nil || !strings.HasPrefix(page[0].Key, "never") {
			t.Fatal(page, err)
		}
	}
	s.due["late"], s.closing["late"], s.prepaid["late"] = time.Now(), true, true
	if page, err := l.next(t.Context(), &places, true); err != nil || page[0].Key != "late" {
		t.Errorf("%+v %v", page, err)
	}
}

// The walk must close everybody who waits, whichever they are.
func TestLineClosesAllThatWait(t *testing.T) {
	s, l := lineOf(50, 13)
	var mu sync.Mutex
	var closed []string
	s.answer = func(no string, _ int) error {
		mu.Lock()
		defer mu.Unlock()
		closed = append(closed, no)
		return nil
	}
	l.Closer.Limiter = nil
	if l.walk(t.Context()) {
		t.Error("the walk stopped before its end")
	}
	slices.Sort(closed)
	if s.left() != 0 || len(slices.Compact(closed)) != 63 {
		t.Errorf("%d of 63 closed, %d left", len(closed), s.left())
	}
}

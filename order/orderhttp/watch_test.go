package orderhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// A hundred buyers who wait for their payment cost the database as much as a hundred who reload; the hundred-and-first
// order is then late.
func TestPollsShareOneWatcher(t *testing.T) {
	m := sqldbtest.MariaDBServer(t)
	if err := m.Create(t.Context(), "polls"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, m.DSN("polls"))
	s := newShop(t, db)
	s.SKU(t, "1001", 1000)
	const polls, orders, seconds = 100, 60, 4
	var nos, who []string
	for i := range orders {
		who = append(who, fmt.Sprint("c", i%20))
		nos = append(nos, s.place(t, who[i], fmt.Sprint("k", i), goodBody).OrderNo)
	}
	done := make(chan int, polls)
	ctx, hangUp := context.WithCancel(t.Context())
	for i := range polls {
		r := httptest.NewRequest("GET", "/v1/orders/"+nos[i%orders]+"?wait=30&since=2", nil).WithContext(ctx)
		r.Header.Set("Authorization", "Bearer "+token(t, who[i%orders], s.Clock.Now()))
		go func() {
			rec := httptest.NewRecorder()
			s.api.ServeHTTP(rec, r)
			if rec.Code == http.StatusOK && !strings.Contains(rec.Body.String(), `"state":"closed"`) {
				rec.Code = 0
			}
			done <- rec.Code
		}()
	}
	// Their first reads are over when a second costs no more than the watcher does.
	before := statements(t, db)
	waitFor(t, "the first reads to end", func() bool {
		was := before
		time.Sleep(time.Second)
		before = statements(t, db)
		return before-was <= 10
	})
	time.Sleep(seconds * time.Second)
	if n := statements(t, db) - before; n > 10*seconds {
		t.Errorf("%d polls cost %d statements in %d s, %d are allowed", polls, n, seconds, 10*seconds)
	}
	// The two who wait for the first order see its end soon, and nobody else is told anything.
	start := time.Now()
	if rec := s.ask(t, who[0], "POST", "/v1/orders/"+nos[0]+"/cancel", ""); rec.Code != http.StatusOK {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	for range 2 {
		expectEnd(t, done, http.StatusOK)
	}
	if took := time.Since(start); took > 10*time.Second { // of the 20 s of the poll
		t.Errorf("the end was seen after %s", took)
	}
	if len(done) != 0 {
		t.Error("a poll ended whose order did not change")
	}
	hangUp()
	for range polls - 2 {
		expectEnd(t, done, 0)
	}
}

// statements is how many the server has been sent since its start.
func statements(t *testing.T, db *sqldb.DB) (n int) {
	t.Helper()
	var name string
	if err := db.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Questions'").Scan(&name, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A watcher that outlives those who wait is a goroutine and five queries a second, for ever, for each of them.
func TestWatcherEndsWithThePolls(t *testing.T) {
	var reads atomic.Int64
	w := newWatcher(func(context.Context, []string) (map[string]int64, error) {
		reads.Add(1)
		return map[string]int64{}, nil
	})
	for range 3 { // it begins anew for those who come later
		_, leaveA := w.wait("A", 1)
		_, leaveB := w.wait("B", 1)
		before := reads.Load()
		waitFor(t, "a look", func() bool { return reads.Load() > before })
		leaveA()
		leaveB()
		waitFor(t, "the watcher to end", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return !w.running && len(w.waiting) == 0
		})
	}
}

// A database that is away must be said to those who wait, and not keep them until their wait is over.
func TestWatcherTellsWhatFails(t *testing.T) {
	w := newWatcher(func(context.Context, []string) (map[string]int64, error) { return nil, sqldb.ErrUnavailable })
	told, leave := w.wait("A", 1)
	defer leave()
	select {
	case err := <-told:
		if !errors.Is(err, sqldb.ErrUnavailable) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody was told")
	}
}

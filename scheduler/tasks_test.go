package scheduler

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"orderd/migrations/sqldb"
	"orderd/order"
)

// Old and new programs run side by side during a deploy: their tasks must be understood both ways (T8).
func TestPayloadVersions(t *testing.T) {
	for in, ok := range map[string]bool{
		`{"v":1,"order_no":"o","version":3}`: true, `{"v":2,"order_no":"o","version":3,"new":"field"}`: true,
		`{"v":1,"order_no":"o"}`:    true,
		`{"v":2,"slot":1800000000}`: true,
		`{"v":2,"slot":1800000000,"from":{"at":1,"order_no":"a"},"to":{"at":2,"order_no":"b"}}`: true,
		`{"v":2,"slot":-1}`: false, `{"v":2,"slot":5,"from":{"at":1}}`: false, `{"v":1}`: false,
		`{"order_no":"o"}`: false, `null`: false, ``: false, `[]`: false,
	} {
		if _, err := decodePayload([]byte(in)); (err == nil) != ok {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// A wrong delay asks WeChat in a tight loop, or leaves an order for hours.
func TestRetryDelays(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_500)
	for name, c := range map[string]struct {
		n        int
		err      error
		min, max time.Duration
		failure  bool
	}{
		"not due": {0, &order.NotDueError{At: now.Add(49 * time.Hour)}, 49 * time.Hour,
			49*time.Hour + time.Second, false},
		"not due, past": {0, &order.NotDueError{At: now.Add(-time.Hour)}, time.Second, time.Second, false},
		"closing": {9, &order.ClosingError{At: now.Add(5 * time.Second), Err: errors.New("x")}, 5 * time.Second,
			6 * time.Second, false},
		"throttled":     {3, errThrottled, 2 * time.Second, 5 * time.Second, false},
		"database away": {30, fmt.Errorf("x: %w", sqldb.ErrUnavailable), time.Second, 3 * time.Second, false},
		"worker died":   {5, asynq.ErrLeaseExpired, time.Second, 3 * time.Second, true},
		"first failure": {0, errors.New("x"), time.Second, time.Second, true},
		"tenth failure": {10, errors.New("x"), maxBackoff / 2, maxBackoff, true},
		"fortieth":      {40, errors.New("x"), maxBackoff / 2, maxBackoff, true},
	} {
		if d := retryDelay(now, c.n, c.err); d < c.min || d > c.max {
			t.Errorf("%s: %s, want %s to %s", name, d, c.min, c.max)
		}
		if isFailure(c.err) != c.failure {
			t.Errorf("%s: counts as a failure: %v", name, !c.failure)
		}
	}
}

// The waits of a task have bounds, whatever the error: a negative one would spin, a long one forget the order.
func TestRetryDelayIsBounded(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_500)
	for n := range 60 {
		for range 50 {
			if d := retryDelay(now, n, errors.New("x")); d < minDelay || d > maxBackoff {
				t.Fatalf("try %d waits %s", n, d)
			}
			if d := retryDelay(now, n, errThrottled); d < 2*time.Second || d > 5*time.Second {
				t.Fatalf("throttled, it waits %s", d)
			}
			at := now.Add(rand.N(2*time.Hour) - time.Hour)
			if d := retryDelay(now, n, &order.NotDueError{At: at}); d < minDelay ||
				(at.After(now) && now.Add(d).Before(at)) || now.Add(d).Sub(at) > 2*time.Second+max(0, now.Sub(at)) {
				t.Fatalf("due in %s, it waits %s", at.Sub(now), d)
			}
		}
	}
}

// Tasks outlive the program that set them. Every payload that a released version ever wrote must be understood, and
// ours must still be what the previous version reads: unknown fields passed over, none renamed (reliability T8).
func TestPayloadsOfEveryVersion(t *testing.T) {
	files, err := filepath.Glob("testdata/payloads/*.json")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := decodePayload(golden)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		now, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(file), "v1-") && string(now) != string(golden) {
			t.Errorf("%s is written as %s now: an older worker would not know it", file, now)
		}
		newer := strings.Replace(string(golden), `{"v":1,`, `{"v":2,"priority":{"a":[1]},`, 1)
		if again, err := decodePayload([]byte(newer)); err != nil || again.key() != p.key() {
			t.Errorf("a newer %s: %+v, %v", file, again, err)
		}
	}
}

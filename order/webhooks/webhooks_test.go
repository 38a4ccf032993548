package webhooks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/webhooks"
	"orderd/payment"
	"orderd/payment/feed"
)

// testKey is long enough for a key.
const testKey = "0123456789abcdef0123456789abcdef"

// shop is a service of webhooks by a clock of the test.
type shop struct {
	*webhooks.Service
	db     *sqldb.DB
	offset atomic.Int64 // of the clock, in nanoseconds
	asked  atomic.Pointer[func()]
	mu     sync.Mutex
	alarms []string
	counts map[string]int
	traced func(e feed.Event) (payment.Trace, error) // nil: none is
}

func (s *shop) traces(_ context.Context, events []feed.Event) ([]payment.Trace, error) {
	traces := make([]payment.Trace, len(events))
	var err error
	for i := range events {
		if s.traced != nil && err == nil {
			traces[i], err = s.traced(events[i])
		}
	}
	return traces, err
}

func (s *shop) now() time.Time {
	if f := s.asked.Swap(nil); f != nil { // once
		(*f)()
	}
	return time.Now().Add(time.Duration(s.offset.Load()))
}

func (s *shop) wait(d time.Duration) { s.offset.Add(int64(d)) }

func (s *shop) Webhook(outcome string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[outcome]++
}

func (s *shop) Alarm(_, _, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alarms = append(s.alarms, detail)
}

// open makes a shop whose webhooks may go to the networks of allow.
func open(t *testing.T, db *sqldb.DB, allow string) *shop {
	t.Helper()
	s := &shop{db: db, counts: map[string]int{}}
	s.Service = s.process(t, allow)
	return s
}

// process makes one more process of the shop.
func (s *shop) process(t *testing.T, allow string, change ...func(*webhooks.Config)) *webhooks.Service {
	t.Helper()
	networks, err := webhooks.ParseAllow(allow)
	if err != nil {
		t.Fatal(err)
	}
	c := webhooks.Config{DB: s.db, Now: s.now, Key: testKey, Allow: networks, Observe: s, Keep: time.Hour * 24 * 30,
		Traces: s.traces}
	for _, f := range change {
		f(&c)
	}
	p, err := webhooks.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// happen writes events into the feed.
func (s *shop) happen(t *testing.T, kind feed.Type, nos ...string) {
	t.Helper()
	events := make([]feed.Event, len(nos))
	for i, no := range nos {
		events[i] = feed.Event{At: s.now(), Type: kind, OrderNo: no, Version: 2, State: "paid"}
	}
	err := s.db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return feed.Insert(ctx, tx, events) })
	if err != nil {
		t.Fatal(err)
	}
}

// receiver is a shop's back end, which checks signatures with the specification's own library.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	secrets []string
	got     []string // order numbers, as they came
	ids     map[string]string
	traces  map[string]string // the headers traceparent, by order
	forged  int
	answer  func(w http.ResponseWriter)
	hold    func() // before what it takes is noted
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{ids: map[string]string{}, traces: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		good := len(r.secrets) > 0
		for _, secret := range r.secrets {
			verifier, err := standardwebhooks.NewWebhook(secret)
			good = good && err == nil && verifier.Verify(body, req.Header) == nil
		}
		var m struct {
			Type string
			Data struct {
				OrderNo string `json:"order_no"`
			}
		}
		if err := json.Unmarshal(body, &m); err != nil || !good {
			r.forged++
		}
		if hold := r.hold; hold != nil {
			r.mu.Unlock()
			hold()
			r.mu.Lock()
		}
		if r.answer == nil {
			r.got = append(r.got, m.Data.OrderNo)
			r.ids[m.Data.OrderNo] = req.Header.Get("webhook-id")
			r.traces[m.Data.OrderNo] = req.Header.Get("traceparent")
		}
		answer := r.answer
		r.mu.Unlock()
		if answer != nil {
			answer(w)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(answer func(w http.ResponseWriter)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// add makes an endpoint of a receiver.
func (s *shop) add(t *testing.T, r *receiver, types ...feed.Type) webhooks.Endpoint {
	t.Helper()
	e, secret, err := s.Add(t.Context(), webhooks.Put{URL: r.URL + "/hook?key=1", Types: types, By: "adam"})
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = []string{secret}
	return e
}

func (s *shop) pass(t *testing.T) {
	t.Helper()
	if err := s.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// expect compares what a receiver took, in whatever order.
func (r *receiver) expect(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := slices.Sorted(slices.Values(r.got))
	if slices.Sort(want); !slices.Equal(got, want) || r.forged > 0 {
		t.Errorf("took %q, %d forged; want %q", got, r.forged, want)
	}
}

const here = "127.0.0.0/8"

// An endpoint is told what it wants from its making on, signed so that the specification's library believes it, once.
func TestEndpointsAreTold(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, all, paid := open(t, db, here), receive(t), receive(t)
		s.happen(t, feed.OrderPaid, "before")
		s.add(t, all)
		s.add(t, paid, feed.OrderPaid)
		s.happen(t, feed.OrderPaid, "a", "b")
		s.happen(t, feed.OrderClosed, "c")
		s.pass(t)
		s.pass(t)
		all.expect(t, "a", "b", "c")
		paid.expect(t, "a", "b")
		if b, err := s.Backlog(t.Context()); err != nil || b.Waiting != 0 || b.On != 2 {
			t.Errorf("%+v, %v", b, err)
		}
	})
}

// Two secrets sign for a day after a rotation, so that a receiver changes when it likes; then the new one alone.
func TestRotation(t *testing.T) {
	s, r := open(t, sqldbtest.SQLite(t), here), receive(t)
	e := s.add(t, r)
	_, secret, err := s.Rotate(t.Context(), e.ID, "adam: leaked", e.SecretVersion())
	if err != nil {
		t.Fatal(err)
	}
	r.secrets = append(r.secrets, secret)
	s.happen(t, feed.OrderPaid, "both")
	s.pass(t)
	r.expect(t, "both")
	s.wait(24*time.Hour + time.Second)
	r.secrets = []string{secret}
	s.happen(t, feed.OrderPaid, "new")
	s.pass(t)
	r.expect(t, "both", "new")
	old, err := open(t, s.db, here).Test(t.Context(), e.ID)
	if err != nil || !old.Taken {
		t.Errorf("%+v, %v", old, err)
	}
	other, err := webhooks.New(webhooks.Config{DB: s.db, Now: s.now, Key: strings.Repeat("x", 32)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Test(t.Context(), e.ID); err == nil || !strings.Contains(err.Error(), "rotate") {
		t.Errorf("under another key: %v", err)
	}
}

// Whose answer was lost presses once more: then nobody has the secret in between, and the receiver's must sign on. Who
// says which secret they mean changes no other; and more than three do not sign.
func TestARotationTwiceKeepsTheReceiversSecret(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r := open(t, db, here), receive(t)
		e := s.add(t, r)
		at := s.now()
		if _, _, err := s.Rotate(t.Context(), e.ID, "adam: leaked", e.SecretVersion()); err != nil { // nobody saw it
			t.Fatal(err)
		}
		s.wait(time.Minute)
		var rotated *webhooks.RotatedError
		if _, _, err := s.Rotate(t.Context(), e.ID, "bea: leaked", e.SecretVersion()); !errors.As(err, &rotated) ||
			rotated.Full || rotated.Why != "adam: leaked" || rotated.At.Sub(at).Abs() > time.Second {
			t.Errorf("the secret that was seen is another: %v", err)
		}
		now, secret, err := s.Rotate(t.Context(), e.ID, "adam: once more", "")
		if err != nil || now.SecretVersion() == e.SecretVersion() {
			t.Fatal(now.SecretVersion(), err)
		}
		s.happen(t, feed.OrderPaid, "the first secret")
		s.pass(t)
		r.expect(t, "the first secret")
		if _, _, err := s.Rotate(t.Context(), e.ID, "bea: x", now.SecretVersion()); !errors.As(err, &rotated) ||
			!rotated.Full {
			t.Errorf("a fourth: %v", err)
		}
		r.secrets = []string{secret}
		s.happen(t, feed.OrderPaid, "the last secret")
		s.wait(24*time.Hour + time.Second)
		s.pass(t)
		r.expect(t, "the first secret", "the last secret")
		if _, _, err := s.Rotate(t.Context(), e.ID, "bea: x", now.SecretVersion()); err != nil {
			t.Errorf("a day later: %v", err)
		}
	})
}

// A form that is sent twice, or two people at once, must not have the back end told everything twice.
func TestAnAddressIsToldOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r := open(t, db, here), receive(t)
		put := webhooks.Put{URL: r.URL, By: "adam"}
		var wg sync.WaitGroup
		var added, refused atomic.Int64
		for range 4 {
			wg.Go(func() {
				_, _, err := s.Add(t.Context(), put)
				switch there := new(webhooks.ThereError); {
				case err == nil:
					added.Add(1)
				case errors.As(err, &there):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		all, err := s.List(t.Context())
		if err != nil || len(all) != 1 || added.Load() != 1 || refused.Load() != 3 {
			t.Fatalf("%d added, %d refused, %d there: %v", added.Load(), refused.Load(), len(all), err)
		}
		other, _, err := s.Add(t.Context(), webhooks.Put{URL: r.URL + "/other", By: "adam"})
		if err != nil {
			t.Fatal(err)
		}
		there := new(webhooks.ThereError)
		if _, err := s.Change(t.Context(), other.ID, put); !errors.As(err, &there) || there.ID != all[0].ID {
			t.Errorf("another is put there: %v", err)
		}
		if _, err := s.Change(t.Context(), all[0].ID, put); err != nil {
			t.Errorf("itself: %v", err)
		}
		if err := s.Remove(t.Context(), all[0].ID, "adam: x"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Change(t.Context(), other.ID, put); err != nil {
			t.Errorf("after it was removed: %v", err)
		}
	})
}

// A worker that dies between the claim and the answer, or before the row of the answer, is followed by another: at
// least once.
func TestWhoDiesIsFollowed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r := open(t, db, here), receive(t)
		s.add(t, r)
		s.happen(t, feed.OrderPaid, "a", "b")
		dead := s.process(t, here)
		due, err := dead.Claimed(t.Context()) // and nothing after it, as after kill -9
		if err != nil || due != 2 {
			t.Fatal(due, err)
		}
		s.wait(9 * time.Second)
		s.pass(t) // its lease and its turn are not over
		r.expect(t)
		s.happen(t, feed.OrderPaid, "c")
		s.wait(2 * time.Second)
		s.pass(t) // the lease is
		r.expect(t, "c")
		s.wait(time.Minute)
		s.pass(t)
		r.expect(t, "a", "b", "c")
	})
}

// An endpoint that is away for hours gets all of it when it is back, by the ladder, under the ids of the first try.
func TestEndpointIsAwayForHours(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r := open(t, db, here), receive(t)
		e := s.add(t, r)
		r.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) })
		s.happen(t, feed.OrderPaid, "a")
		for began := s.now(); s.now().Sub(began) < 2*time.Hour; s.wait(time.Minute) {
			s.pass(t)
		}
		all, err := s.Deliveries(t.Context(), e.ID, 0, 10)
		if err != nil || len(all) != 1 || all[0].Tries != 4 || all[0].Status != 502 ||
			all[0].Problem != "answered 502" {
			t.Fatalf("%+v, %v", all, err)
		}
		if len(s.alarms) != 1 || !strings.Contains(s.alarms[0], "disabled in 119h") {
			t.Errorf("alarms: %q", s.alarms)
		}
		r.answers(nil)
		s.wait(3 * time.Hour)
		s.pass(t)
		r.expect(t, "a")
		if r.ids["a"] != feed.MessageID(all[0].Event.ID) {
			t.Errorf("the id is %q", r.ids["a"])
		}
		if found, err := s.Find(t.Context(), e.ID); err != nil || !found.FailingSince.IsZero() {
			t.Errorf("still failing: %+v, %v", found, err)
		}
	})
}

// Days of failures only, and 410, disable; the others are told of it, and it can be turned on again with what it
// missed.
func TestWhatDisables(t *testing.T) {
	s, r, other := open(t, sqldbtest.SQLite(t), here), receive(t), receive(t)
	e := s.add(t, r)
	s.add(t, other, feed.EndpointClosed)
	r.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) })
	for day := range 6 {
		s.happen(t, feed.OrderPaid, fmt.Sprint("day", day))
		s.pass(t)
		found, err := s.Find(t.Context(), e.ID)
		if err != nil || (found.State == webhooks.StateDisabled) != (day == 5) {
			t.Fatalf("day %d: %+v, %v", day, found, err)
		}
		s.wait(24*time.Hour + time.Second)
	}
	if len(s.alarms) != 5 { // a day after the first failure, every day, and the end
		t.Errorf("alarms: %q", s.alarms)
	}
	s.happen(t, feed.OrderPaid, "unheard")
	s.pass(t)
	if other.ids[""] == "" {
		t.Error("nobody was told")
	}
	r.answers(nil)
	if _, err := s.Enable(t.Context(), e.ID, "adam: mended"); err != nil {
		t.Fatal(err)
	}
	n, err := s.RedeliverSince(t.Context(), e.ID, s.now().Add(-25*time.Hour), "adam: lost")
	if err != nil || n != 2 { // what was never planned for it: the sixth day's was, and of its own end it is not told
		t.Fatal(n, err)
	}
	s.pass(t)
	r.mu.Lock()
	got := slices.Clone(r.got)
	r.mu.Unlock()
	if !slices.Contains(got, "unheard") || !slices.Contains(got, "day5") || slices.Contains(got, "") {
		t.Errorf("took %q", got)
	}
	r.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusGone) })
	s.happen(t, feed.OrderPaid, "gone")
	s.pass(t)
	if found, err := s.Find(t.Context(), e.ID); err != nil || found.State != webhooks.StateDisabled ||
		!strings.Contains(found.Why, "410") {
		t.Errorf("%+v, %v", found, err)
	}
}

// What happened while an endpoint was disabled is not kept for it, whoever else was told meanwhile: it is asked for.
func TestDisabledIsNotTold(t *testing.T) {
	s, r := open(t, sqldbtest.SQLite(t), here), receive(t)
	e := s.add(t, r)
	s.happen(t, feed.OrderPaid, "before")
	s.pass(t)
	if _, err := s.Disable(t.Context(), e.ID, "moved"); err != nil {
		t.Fatal(err)
	}
	s.happen(t, feed.OrderPaid, "meanwhile")
	s.pass(t)
	if found, err := s.Enable(t.Context(), e.ID, "adam: mended"); err != nil || found.State != webhooks.StateOn ||
		found.Why != "adam: mended" {
		t.Fatal(found, err)
	}
	s.happen(t, feed.OrderPaid, "after")
	s.pass(t)
	r.expect(t, "before", "after")
	if n, err := s.RedeliverSince(t.Context(), e.ID, s.now().Add(-time.Minute), "adam: lost"); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	s.pass(t)
	r.expect(t, "before", "after", "before", "meanwhile", "after")
}

// To enable one that is on costs it nothing of what it was not told yet.
func TestEnableTwice(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r := open(t, db, here), receive(t)
		e := s.add(t, r)
		s.happen(t, feed.OrderPaid, "a")
		if _, err := s.Enable(t.Context(), e.ID, "adam: mended"); err != nil {
			t.Fatal(err)
		}
		s.pass(t)
		r.expect(t, "a")
	})
}

// One that is made while a pass is under way is told what happens behind it in that pass.
func TestEndpointComesWithinAPass(t *testing.T) {
	s, r, late := open(t, sqldbtest.SQLite(t), here), receive(t), receive(t)
	s.add(t, r)
	s.pass(t)
	come := func() { // behind the list of endpoints, before the events are read
		s.add(t, late)
		s.happen(t, feed.OrderPaid, "a")
	}
	s.asked.Store(&come)
	s.pass(t)
	s.pass(t)
	r.expect(t, "a")
	late.expect(t, "a")
}

// Many events of many endpoints are planned in parts, all of them in one pass.
func TestManyOfMany(t *testing.T) {
	s, r := open(t, sqldbtest.SQLite(t), here), receive(t)
	const endpoints, events = 20, 120
	for i := range endpoints {
		if _, _, err := s.Add(t.Context(), webhooks.Put{URL: fmt.Sprint(r.URL, "/", i), By: "adam"}); err != nil {
			t.Fatal(err)
		}
	}
	var nos []string
	for i := range events {
		nos = append(nos, fmt.Sprint("o", i))
	}
	s.happen(t, feed.OrderPaid, nos...)
	due, err := s.Claimed(t.Context())
	if err != nil || due != endpoints*webhooks.AtOnce {
		t.Errorf("%d claimed, %v", due, err)
	}
	if n, err := s.Known(t.Context()); n != endpoints*events || err != nil {
		t.Errorf("%d deliveries, %v", n, err)
	}
}

// What a person says of an endpoint counts from the next page on, however much is due.
func TestLaneHearsPeople(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r, moved := open(t, db, here), receive(t), receive(t)
		e := s.add(t, r)
		moved.secrets = r.secrets
		var calls, after atomic.Int64
		r.answers(func(http.ResponseWriter) {
			if calls.Add(1) > 1 {
				return
			}
			if _, err := s.Change(context.Background(), e.ID, webhooks.Put{URL: moved.URL}); err != nil {
				t.Error(err)
			}
		})
		moved.answers(func(http.ResponseWriter) {
			if after.Add(1) > 1 {
				return
			}
			if _, err := s.Disable(context.Background(), e.ID, "enough"); err != nil {
				t.Error(err)
			}
		})
		var nos []string
		for i := range 4 * webhooks.AtOnce {
			nos = append(nos, fmt.Sprint("o", i))
		}
		s.happen(t, feed.OrderPaid, nos...)
		s.pass(t)
		if calls.Load() != webhooks.AtOnce || after.Load() != webhooks.AtOnce {
			t.Errorf("%d calls before the change, %d before it was disabled", calls.Load(), after.Load())
		}
	})
}

// Retry-After is kept, a redirect is not followed, and what is not 2xx is not taken.
func TestAnswers(t *testing.T) {
	s, r := open(t, sqldbtest.SQLite(t), here), receive(t)
	e := s.add(t, r)
	for _, tt := range []struct {
		status  int
		after   string
		least   time.Duration
		problem string
	}{
		{429, "7200", 2 * time.Hour, "answered 429"},
		{503, "99999999", 24 * time.Hour, "answered 503"},
		{302, "", 0, "answered 302: redirects"},
		{400, "x", 0, "answered 400"},
	} {
		r.answers(func(w http.ResponseWriter) {
			w.Header().Set("Location", r.URL+"/elsewhere")
			w.Header().Set("Retry-After", tt.after)
			w.WriteHeader(tt.status)
		})
		s.happen(t, feed.OrderPaid, tt.problem)
		s.pass(t)
		all, err := s.Deliveries(t.Context(), e.ID, 0, 1)
		if err != nil || len(all) != 1 || all[0].Status != tt.status ||
			!strings.HasPrefix(all[0].Problem, tt.problem) ||
			all[0].DueAt.Before(s.now().Add(tt.least-time.Second)) || all[0].DueAt.After(s.now().Add(25*time.Hour)) {
			t.Errorf("%d: %+v, %v", tt.status, all, err)
		}
	}
	r.expect(t) // also nothing elsewhere
}

// Whoever asks why the shop did not take an event reads what its back end said, and how long that took; nobody reads
// a secret there, and nothing moves their terminal. Each try has its own.
func TestAnAnswerIsKept(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r := open(t, db, here), receive(t)
		e := s.add(t, r)
		r.answers(func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte("no\x1b[31m such\r\ncolumn \xff whsec_abcd1234 " + strings.Repeat("长", 2000)))
		})
		s.happen(t, feed.OrderPaid, "n1")
		s.pass(t)
		one := func() webhooks.Delivery {
			t.Helper()
			all, err := s.OfOrder(t.Context(), "n1", 5)
			if err != nil || len(all) != 1 || all[0].Endpoint != e.ID {
				t.Fatal(all, err)
			}
			return all[0]
		}
		d := one()
		if !strings.HasPrefix(d.Answer, "no·[31m such column · whsec_*** 长长") || len(d.Answer) > 1024 ||
			len(d.Answer) < 1000 || d.Status != 500 || d.Took < 0 || d.Took > time.Minute {
			t.Errorf("%d %s %q", d.Status, d.Took, d.Answer)
		}
		r.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) })
		s.wait(time.Hour)
		s.pass(t)
		if d := one(); d.Answer != "" || d.Status != 204 || d.Delivered.IsZero() {
			t.Errorf("after it was taken: %+v", d)
		}
		if all, err := s.OfOrder(t.Context(), "n2", 5); err != nil || len(all) != 0 {
			t.Error(all, err)
		}
		sqldbtest.ReadsPageBy(t, db, "ix_deliveries_order", false, webhooks.OrderQuery, "n1", 5)
	})
}

// What an endpoint says back of us, of its people and of itself is not for the pages of a shop.
func TestAnswersHaveNoSecrets(t *testing.T) {
	for said, kept := range map[string]string{
		"":                                   "",
		" ok \n":                             "ok",
		`{"error":"bad","token":"abc.def"}`:  `{"error":"bad","token":"***"}`,
		"Authorization: Bearer eyJhbGciOi.x": "Authorization: *** ***",
		"want v1,K5oZfzN95Z9UVu1EsfQmfVNQ=":  "want v1,***",
		"db_password=hunter2&user=li":        "db_password=***&user=li",
		"Set-Cookie: sid=1; the end":         "Set-Cookie: ***",
		"Cookie: a=1; b=SECRET":              "Cookie: ***",
		"X-Api-Key: abc.def":                 "X-Api-Key: ***",
		"{'token': 'abc'}":                   "{'token': '***'}",
		`{\"token\":\"abc\"}`:                `{\"token\":\"***\"}`,
		`tokens:["abc"]`:                     `tokens:["***"]`,
		"dial postgres://u:pw@h/db":          "dial postgres://u:***@h/db",
		"a\u202eb":                           "a·b",
		"tokens are fine":                    "tokens are fine",
	} {
		if got := webhooks.AnswerOf([]byte(said)); got != kept {
			t.Errorf("%q: %q, want %q", said, got, kept)
		}
	}
}

// One that does not answer delays no other, and what waits for it stays in the database.
func TestSlowBesideQuick(t *testing.T) {
	s, slow, quick := open(t, sqldbtest.SQLite(t), here), receive(t), receive(t)
	s.add(t, slow)
	s.add(t, quick)
	var nos []string
	for i := range 200 {
		nos = append(nos, fmt.Sprintf("o%03d", i))
	}
	held, release := make(chan struct{}, 1000), make(chan struct{})
	slow.answers(func(http.ResponseWriter) {
		held <- struct{}{}
		<-release
	})
	s.happen(t, feed.OrderPaid, nos...)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	await(t, func() bool {
		quick.mu.Lock()
		defer quick.mu.Unlock()
		return len(quick.got) == len(nos) && len(held) > 0
	})
	if n := len(held); n > webhooks.AtOnce {
		t.Errorf("%d calls to one endpoint are under way", n)
	}
	close(release)
	stop()
	running.Wait()
	quick.expect(t, nos...)
}

// await waits for something that other goroutines do.
func await(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !what(); {
		if time.Now().After(deadline) {
			t.Fatal("not within two minutes")
		}
		sqldb.Sleep(t.Context(), time.Millisecond)
	}
}

// Thousands that wait for an endpoint arrive, each once, and no process holds more than a page of them.
func TestThousandsWait(t *testing.T) {
	s, r := open(t, sqldbtest.SQLite(t), here), receive(t)
	s.add(t, r)
	const n = 3000
	var nos []string
	for i := range n {
		nos = append(nos, fmt.Sprintf("o%05d", i))
	}
	r.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) })
	s.happen(t, feed.OrderPaid, nos...)
	s.pass(t)
	if b, err := s.Backlog(t.Context()); err != nil || b.Waiting != n || s.counts["failed"] != webhooks.AtOnce {
		t.Fatalf("%+v, %v, %v", b, err, s.counts)
	}
	r.answers(nil)
	s.wait(time.Minute)
	s.pass(t) // the first page says that it is back
	s.wait(time.Minute)
	s.pass(t)
	r.expect(t, nos...)
}

// A person sees what was sent, and sends one again; what is wrong is said.
func TestPeople(t *testing.T) {
	s, r := open(t, sqldbtest.SQLite(t), here), receive(t)
	for url, field := range map[string]string{"": "url", "shop.example/x": "url", "ftp://shop.example/": "url",
		"https://u:p@shop.example/": "url"} {
		var bad *webhooks.InvalidError
		if _, _, err := s.Add(t.Context(), webhooks.Put{URL: url}); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%q: %v", url, err)
		}
	}
	var bad *webhooks.InvalidError
	_, _, err := s.Add(t.Context(), webhooks.Put{URL: r.URL, Types: []feed.Type{"order.eaten"}})
	if !errors.As(err, &bad) || bad.Field != "types" || !strings.Contains(bad.Detail, "order.paid") {
		t.Error(err)
	}
	e := s.add(t, r)
	s.happen(t, feed.OrderPaid, "a")
	s.pass(t)
	all, err := s.Deliveries(t.Context(), e.ID, 0, 10)
	if err != nil || len(all) != 1 || all[0].Delivered.IsZero() || !all[0].DueAt.IsZero() {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := s.Redeliver(t.Context(), e.ID, all[0].Event.ID, "adam: lost"); err != nil {
		t.Fatal(err)
	}
	if err := s.Redeliver(t.Context(), e.ID, 99, "adam: lost"); !errors.Is(err, webhooks.ErrNoEvent) {
		t.Error(err)
	}
	s.pass(t)
	r.expect(t, "a", "a")
	if err := s.Remove(t.Context(), e.ID, "adam: gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(t.Context(), e.ID); !errors.Is(err, webhooks.ErrNotFound) {
		t.Error(err)
	}
	if left, err := s.List(t.Context()); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}

// Nothing goes where the shop did not allow it, whatever a name means at the moment of the call.
func TestWhereWebhooksMayGo(t *testing.T) {
	s, r := open(t, sqldbtest.SQLite(t), ""), receive(t)
	e := s.add(t, r)
	tried, err := s.Test(t.Context(), e.ID)
	if err != nil || tried.Taken || tried.Status != 0 || !strings.Contains(tried.Problem, "ORDERD_WEBHOOK_ALLOW") {
		t.Errorf("%+v, %v", tried, err)
	}
	for _, tt := range []struct {
		address, allow string
		plain, may     bool
	}{
		{"203.0.114.7:443", "", false, true},
		{"[2600:1f18::1]:443", "", false, true},
		{"203.0.114.7:80", "", true, false},
		{"203.0.114.7:80", "203.0.114.0/24", true, true},
		{"127.0.0.1:443", "", false, false},
		{"[::1]:443", "", false, false},
		{"[::ffff:127.0.0.1]:443", "", false, false},
		{"[::ffff:10.0.0.1]:443", "10.0.0.0/8", false, true},
		{"10.1.2.3:443", "", false, false},
		{"10.1.2.3:443", "10.1.0.0/16, 192.168.1.1", false, true},
		{"192.168.1.2:443", "10.1.0.0/16, 192.168.1.1", false, false},
		{"100.64.0.1:443", "", false, false},
		{"[fd12::1]:443", "", false, false},
		{"169.254.169.254:443", "", false, false},
		{"169.254.169.254:443", "0.0.0.0/0", false, false},
		{"100.100.100.200:443", "0.0.0.0/0", false, false},
		{"[fd00:ec2::254]:443", "::/0", false, false},
		{"[fd20:ce::254]:443", "::/0", false, false},
		{"192.0.0.192:443", "0.0.0.0/0", false, false},
		{"168.63.129.16:443", "0.0.0.0/0", false, false},
		{"[64:ff9b::a9fe:a9fe]:443", "::/0", false, false},
		{"[2002:a9fe:a9fe::1]:443", "::/0", false, false},
		{"[64:ff9b::a01:203]:443", "64:ff9b::/96", false, true},
		{"[2002:a01:203::1]:443", "2002::/16", false, true},
		{"[fe80::1%eth0]:443", "::/0", false, false},
		{"0.0.0.0:443", "0.0.0.0/0", false, false},
		{"[64:ff9b::7f00:1]:443", "", false, false},
		{"[2002:7f00:1::]:443", "", false, false},
		{"255.255.255.255:443", "0.0.0.0/0", false, false},
	} {
		allow, err := webhooks.ParseAllow(tt.allow)
		if err != nil {
			t.Fatal(err)
		}
		if err := webhooks.MayDial(tt.address, allow, tt.plain); (err == nil) != tt.may {
			t.Errorf("%s with %q: %v", tt.address, tt.allow, err)
		}
	}
	if _, err := webhooks.ParseAllow("10.0.0.0/33"); err == nil {
		t.Error("a network of 33 bits is taken")
	}
}

// What has ended is forgotten after a while; what waits, and what is young, is not.
func TestOldDeliveriesGo(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s, r := open(t, db, here), receive(t)
		e := s.add(t, r)
		ended := func(nos ...string) {
			t.Helper()
			s.happen(t, feed.OrderPaid, nos...)
			_, err := s.Claimed(t.Context())
			if err == nil {
				err = db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					_, err := tx.ExecContext(ctx, `UPDATE webhook_deliveries
SET due_at = NULL
WHERE order_no <> 'waits'`)
					return err
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		nos := []string{"waits"}
		for i := range 2 * webhooks.PruneRows {
			nos = append(nos, fmt.Sprint("old", i))
		}
		ended(nos...)
		s.wait(31 * 24 * time.Hour)
		ended("young")
		if err := s.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		all, err := s.Deliveries(t.Context(), e.ID, 0, 10)
		if err != nil || len(all) != 2 || all[0].Event.OrderNo != "young" || all[1].Event.OrderNo != "waits" {
			t.Errorf("%d: %+v, %v", len(all), all, err)
		}
		// Nobody knows when a disabled one is enabled: what waits for it is kept as long as its event is.
		ended(nos[1:]...)
		if _, err := s.Disable(t.Context(), e.ID, "adam: moved"); err != nil {
			t.Fatal(err)
		}
		if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE webhook_deliveries
SET due_at = 1`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if known, err := s.Known(t.Context()); known != len(nos) || err != nil { // "young" and the thousand
			t.Errorf("%d deliveries of a disabled endpoint are kept, want the %d of less than a month, %v", known,
				len(nos), err)
		}
		s.wait(31 * 24 * time.Hour)
		if err := s.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if known, err := s.Known(t.Context()); known != 0 || err != nil {
			t.Errorf("%d old deliveries of a disabled endpoint stay, %v", known, err)
		}
		if _, err := s.Enable(t.Context(), e.ID, "adam: mended"); err != nil {
			t.Fatal(err)
		}
		ended("after")
		if err := errors.Join(s.Remove(t.Context(), e.ID, "adam: gone"), s.Prune(t.Context())); err != nil {
			t.Fatal(err)
		}
		if known, err := s.Known(t.Context()); known != 0 || err != nil {
			t.Errorf("%d deliveries of a removed endpoint stay, %v", known, err)
		}
	})
}

// What is sent is in the trace of what brought it about, each with a parent of its own; where nobody knows it, the shop
// is told all the same.
func TestWebhooksAreTraced(t *testing.T) {
	const header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	s, r := open(t, sqldbtest.SQLite(t), here), receive(t)
	s.add(t, r)
	s.traced = func(e feed.Event) (payment.Trace, error) {
		return payment.ParseTrace(map[string]string{"a": header, "b": header}[e.OrderNo]), nil
	}
	s.happen(t, feed.OrderPaid, "a", "b", "without")
	s.pass(t)
	s.traced = func(feed.Event) (payment.Trace, error) { return payment.Trace{}, errors.New("away") }
	s.happen(t, feed.OrderPaid, "unknown")
	s.pass(t)
	r.expect(t, "a", "b", "without", "unknown")
	a, b := r.traces["a"], r.traces["b"]
	if want := payment.ParseTrace(header); payment.ParseTrace(a) != want || payment.ParseTrace(b) != want || a == b ||
		r.traces["without"] != "" || r.traces["unknown"] != "" {
		t.Errorf("%q", r.traces)
	}
}

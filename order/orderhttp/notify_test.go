package orderhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
)

// till is a scripted payment/wechat and order.Service in one.
type till struct {
	parse    func(http.Header, []byte) (payment.Notification, error)
	settled  func(context.Context, payment.Trade, order.Cause) (order.Settlement, error)
	refunded func(context.Context, payment.Refund, order.Cause) (order.RefundSettled, error)
	refund   func([]byte) (payment.RefundNotification, error)
	echo     func() (payment.Echo, error)
	forgets  error
	heard    []payment.Echo
	parses   atomic.Int64
	settles  atomic.Int64
}

func (f *till) ParseNotification(h http.Header, body []byte) (payment.Notification, error) {
	f.parses.Add(1)
	if f.parse == nil {
		return payment.Notification{ID: "n-1", Trade: payment.Trade{OutTradeNo: someOrder + "-01",
			State: payment.TradeSuccess}}, nil
	}
	return f.parse(h, body)
}

func (f *till) Settle(ctx context.Context, trade payment.Trade, cause order.Cause) (order.Settlement, error) {
	f.settles.Add(1)
	if f.settled == nil {
		return order.Settlement{Settled: order.SettledApplied}, nil
	}
	return f.settled(ctx, trade, cause)
}

func (f *till) IsV2Refund([]byte) bool { return false }

func (f *till) IsEcho(body []byte) bool {
	return f.echo != nil && bytes.HasPrefix(body, []byte("echo"))
}

func (f *till) ParseEcho(http.Header, []byte) (payment.Echo, error) { return f.echo() }

func (f *till) Heard(_ context.Context, e payment.Echo) error {
	f.heard = append(f.heard, e)
	return f.forgets
}

func (f *till) ParseRefund(h http.Header, body []byte) (payment.RefundNotification, error) {
	f.parses.Add(1)
	if f.refund != nil {
		return f.refund(body)
	}
	if f.parse != nil {
		_, err := f.parse(h, body)
		return payment.RefundNotification{ID: "n-1"}, err
	}
	return payment.RefundNotification{ID: "n-1", Refund: payment.Refund{OutRefundNo: "R1",
		Status: payment.RefundSuccess, Amount: 1}}, nil
}

func (f *till) SettleRefund(ctx context.Context, r payment.Refund, cause order.Cause) (order.RefundSettled, error) {
	f.settles.Add(1)
	if f.refunded == nil {
		return order.RefundSettled{OutRefundNo: r.OutRefundNo, Outcome: order.RefundOutcomeApplied}, nil
	}
	return f.refunded(ctx, r, cause)
}

func newTill(t testing.TB, f *till, change ...func(*NotifyOptions)) (*echo.Echo, *counted, *bytes.Buffer) {
	t.Helper()
	seen, log := &counted{}, &bytes.Buffer{}
	o := NotifyOptions{Notifications: f, Settler: f, Echoes: f, Now: time.Now, Observe: seen,
		Log: slog.New(slog.NewTextHandler(log, nil))}
	for _, c := range change {
		c(&o)
	}
	e, err := NewNotify(o)
	if err != nil {
		t.Fatal(err)
	}
	return e, seen, log
}

func post(e http.Handler, body string) *httptest.ResponseRecorder {
	return postTo(e, PathNotifyPayment, body)
}

func postTo(e http.Handler, path, body string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, httptest.NewRequest("POST", path, strings.NewReader(body)))
	return rec
}

// A 2xx for what is not committed loses a payment; a 5xx for what is makes WeChat come for a day.
func TestNotificationAnswers(t *testing.T) {
	for _, row := range []struct {
		name     string
		parse    error
		settled  order.Settled
		settle   error
		status   int
		outcome  string
		settles  int64
		complain bool
	}{
		{"applied", nil, order.SettledApplied, nil, 204, "applied", 1, false},
		{"late", nil, order.SettledOwed, nil, 204, "owed", 1, false},
		{"wrong amount", nil, order.SettledHeld, nil, 204, "held", 1, false},
		{"repeat", nil, order.SettledRepeated, nil, 204, "repeated", 1, false},
		{"forged", fmt.Errorf("serial: %w", payment.ErrBadSignature), "", nil, 401, "unsigned", 0, true},
		{"probe", payment.ErrProbe, "", nil, 401, "probe", 0, false},
		{"not JSON", fmt.Errorf("x: %w", payment.ErrMalformed), "", nil, 400, "malformed", 0, true},
		{"parser broken", errors.New("plaintext canary"), "", nil, 500, "failed", 0, true},
		{"not paid", nil, "", order.ErrNotPaid, 400, "malformed", 1, true},
		{"bad facts", nil, "", fmt.Errorf("settle: %w", payment.ErrMalformed), 400, "malformed", 1, true},
		{"database away", nil, "", sqldb.ErrUnavailable, 500, "failed", 1, true},
		{"commit unknown", nil, "", sqldb.ErrUnknown, 500, "failed", 1, true},
		{"overloaded", nil, "", sqldb.ErrOverloaded, 500, "failed", 1, true},
		{"out of time", nil, "", context.DeadlineExceeded, 500, "failed", 1, true},
	} {
		f := &till{}
		if row.parse != nil {
			f.parse = func(http.Header, []byte) (payment.Notification, error) {
				return payment.Notification{},
					row.parse
			}
		}
		var cause order.Cause
		f.settled = func(_ context.Context, _ payment.Trade, c order.Cause) (order.Settlement, error) {
			cause = c
			return order.Settlement{Settled: row.settled}, row.settle
		}
		e, seen, log := newTill(t, f)
		rec := post(e, `{"body":"canary"}`)
		if rec.Code != row.status || f.settles.Load() != row.settles ||
			!slices.Equal(seen.outcomes(), []string{row.outcome}) {
			t.Errorf("%s: %d, settled %d times, counted %v", row.name, rec.Code, f.settles.Load(), seen.notified)
		}
		if good := rec.Code == 204; good != (rec.Body.Len() == 0) ||
			(!good && !strings.HasPrefix(rec.Body.String(), `{"code":"FAIL","message":"`)) {
			t.Errorf("%s: body %q", row.name, rec.Body)
		}
		if (log.Len() > 0) != row.complain || strings.Contains(log.String()+rec.Body.String(), "canary") {
			t.Errorf("%s: logged %s, answered %s", row.name, log, rec.Body)
		}
		want := order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification", ID: "n-1"}
		if row.settles > 0 && cause != want {
			t.Errorf("%s: cause %+v", row.name, cause)
		}
	}
}

// What is looked at before its size is known can fill the memory.
func TestLargeNotificationIsNotParsed(t *testing.T) {
	f := &till{}
	e, seen, _ := newTill(t, f)
	if rec := post(e, strings.Repeat("x", maxBody+1)); rec.Code != 413 || !strings.Contains(rec.Body.String(), "FAIL") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	r := httptest.NewRequest("POST", PathNotifyPayment,
		io.MultiReader(strings.NewReader(strings.Repeat("x", maxBody+1))))
	r.ContentLength = -1
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, r)
	if rec.Code != 413 || f.parses.Load() != 0 || !slices.Equal(seen.outcomes(), []string{"too_large", "too_large"}) {
		t.Errorf("%d, parsed %d times, %v", rec.Code, f.parses.Load(), seen.notified)
	}
	if rec := post(e, strings.Repeat("x", maxBody)); rec.Code != 204 {
		t.Errorf("64 KiB exactly: %d", rec.Code)
	}
}

// The signature is over raw bytes: a middleware that touches them breaks every payment.
func TestNotificationReachesTheParserUntouched(t *testing.T) {
	body := " {\"a\" : 1}\r\n\x00\xff"
	f := &till{}
	f.parse = func(h http.Header, got []byte) (payment.Notification, error) {
		if string(got) != body || h.Get("Wechatpay-Serial") != "S" {
			t.Errorf("%q, %v", got, h)
		}
		return payment.Notification{ID: "bad id\n"}, nil
	}
	f.settled = func(_ context.Context, _ payment.Trade, c order.Cause) (order.Settlement, error) {
		if c.ID == "" || strings.ContainsAny(c.ID, " \n") {
			t.Errorf("cause %q", c.ID)
		}
		return order.Settlement{Settled: order.SettledApplied}, nil
	}
	e, _, _ := newTill(t, f)
	r := httptest.NewRequest("POST", PathNotifyPayment, strings.NewReader(body))
	r.Header.Set("Wechatpay-Serial", "S")
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, r)
	if rec.Code != 204 {
		t.Error(rec.Code)
	}
}

// WeChat waits five seconds; and when it hangs up, the payment is to be booked all the same.
func TestNotificationBudget(t *testing.T) {
	f := &till{}
	f.settled = func(ctx context.Context, _ payment.Trade, _ order.Cause) (order.Settlement, error) {
		if at, ok := ctx.Deadline(); !ok || time.Until(at) > notifyBudget {
			t.Errorf("deadline %s, %v", at, ok)
		}
		return order.Settlement{Settled: order.SettledApplied}, ctx.Err()
	}
	e, seen, _ := newTill(t, f)
	gone, hangUp := context.WithCancel(context.Background())
	hangUp()
	e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", PathNotifyPayment,
		strings.NewReader("{}")).WithContext(gone))
	if !slices.Equal(seen.outcomes(), []string{"applied"}) {
		t.Errorf("%v", seen.notified)
	}
}

// More at once than a batch holds only make one another late.
func TestNotificationsAreBounded(t *testing.T) {
	const parallel, all = 3, 12
	var now, most atomic.Int64
	release := make(chan struct{})
	f := &till{}
	f.settled = func(context.Context, payment.Trade, order.Cause) (order.Settlement, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return order.Settlement{Settled: order.SettledApplied}, nil
	}
	e, seen, _ := newTill(t, f, func(o *NotifyOptions) { o.Parallel = parallel })
	codes := make(chan int, all)
	for range all {
		go func() { codes <- post(e, "{}").Code }()
	}
	waitFor(t, "the slots to fill", func() bool { return now.Load() == parallel })
	close(release)
	for range all {
		if code := <-codes; code != 204 {
			t.Error(code)
		}
	}
	if most.Load() > parallel || len(seen.outcomes()) != all {
		t.Errorf("%d at once, %d counted", most.Load(), len(seen.outcomes()))
	}
}

// The public listener must carry nothing but WeChat's address.
func TestNotifyListenerHasNothingElse(t *testing.T) {
	f := &till{}
	e, _, _ := newTill(t, f)
	var routes []string
	for _, r := range e.Routes() {
		routes = append(routes, r.Method+" "+r.Path)
	}
	slices.Sort(routes)
	if !slices.Equal(routes, []string{"GET /healthz", "POST " + PathNotifyPayment, "POST " + PathNotifyRefund}) {
		t.Errorf("%v", routes)
	}
	for path, want := range map[string]int{"/v1/orders": 404, PathNotifyPayment + "/": 404,
		"/wechat/v3/notify/bill": 404, "/metrics": 404} {
		rec := httptest.NewRecorder()
		e.ServeHTTP(rec, httptest.NewRequest("POST", path, nil))
		if rec.Code != want {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, httptest.NewRequest("GET", PathNotifyPayment, nil))
	if rec.Code != 405 || f.parses.Load() > 0 {
		t.Errorf("GET: %d", rec.Code)
	}
}

// A panic at the till must be a 500: WeChat comes again, and others are served.
func TestNotificationPanic(t *testing.T) {
	f := &till{settled: func(context.Context, payment.Trade, order.Cause) (order.Settlement, error) { panic("x") }}
	e, _, log := newTill(t, f)
	if rec := post(e, "{}"); rec.Code != 500 || !strings.Contains(rec.Body.String(), "FAIL") ||
		strings.Count(log.String(), "request failed") != 1 {
		t.Errorf("%d %s %s", rec.Code, rec.Body, log)
	}
}

// A refund's notification is acknowledged after its commit and by nothing else; what is not WeChat's word changes
// nothing.
func TestRefundNotificationAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		parse   error
		settled order.RefundSettled
		err     error
		want    int
		outcome string
	}{
		"applied":  {nil, order.RefundSettled{Outcome: order.RefundOutcomeApplied}, nil, 204, "applied"},
		"repeated": {nil, order.RefundSettled{Outcome: order.RefundOutcomeRepeated}, nil, 204, "repeated"},
		"held": {nil, order.RefundSettled{Outcome: order.RefundOutcomeHeld, Reason: "amount"}, nil, 204,
			"held"},
		"database away": {nil, order.RefundSettled{}, sqldb.ErrUnavailable, 500, "failed"},
		"too slow":      {nil, order.RefundSettled{}, context.DeadlineExceeded, 500, "failed"},
		"too odd":       {nil, order.RefundSettled{}, payment.ErrMalformed, 400, "malformed"},
		"forged":        {payment.ErrBadSignature, order.RefundSettled{}, nil, 401, "unsigned"},
		"probe":         {payment.ErrProbe, order.RefundSettled{}, nil, 401, "probe"},
		"malformed":     {payment.ErrMalformed, order.RefundSettled{}, nil, 400, "malformed"},
		"gopay":         {errors.New("canary plaintext"), order.RefundSettled{}, nil, 500, "failed"},
	} {
		f := &till{refunded: func(_ context.Context, _ payment.Refund, cause order.Cause) (order.RefundSettled, error) {
			if cause.Type != "notification" || cause.Actor.Type != order.ActorWeChat || cause.ID != "n-1" {
				t.Errorf("%s: cause %+v", name, cause)
			}
			return c.settled, c.err
		}}
		if c.parse != nil {
			f.parse = func(http.Header, []byte) (payment.Notification, error) { return payment.Notification{}, c.parse }
		}
		e, seen, log := newTill(t, f)
		rec := postTo(e, PathNotifyRefund, "{}")
		if rec.Code != c.want || !slices.Equal(seen.outcomes(), []string{c.outcome}) ||
			!slices.Equal(seen.kinds, []string{"refund"}) {
			t.Errorf("%s: %d, %v of %v", name, rec.Code, seen.outcomes(), seen.kinds)
		}
		if good := rec.Code == 204; good != (rec.Body.Len() == 0) ||
			(!good && !strings.HasPrefix(rec.Body.String(), `{"code":"FAIL","message":"`)) {
			t.Errorf("%s: body %q", name, rec.Body)
		}
		if (c.parse != nil) != (f.settles.Load() == 0) || strings.Contains(rec.Body.String()+log.String(), "canary") {
			t.Errorf("%s: settled %d times, %s %s", name, f.settles.Load(), rec.Body, log)
		}
	}
}

// The bounds of the listener must hold for refunds too: size before parsing, the budget, a sender that hung up, a
// panic.
func TestRefundNotificationIsBounded(t *testing.T) {
	f := &till{refunded: func(ctx context.Context, _ payment.Refund, _ order.Cause) (order.RefundSettled, error) {
		if at, ok := ctx.Deadline(); !ok || time.Until(at) > notifyBudget {
			t.Errorf("deadline %s, %v", at, ok)
		}
		return order.RefundSettled{Outcome: order.RefundOutcomeApplied}, ctx.Err()
	}}
	e, seen, _ := newTill(t, f)
	if rec := postTo(e, PathNotifyRefund, strings.Repeat("x", maxBody+1)); rec.Code != 413 || f.parses.Load() != 0 {
		t.Errorf("too large: %d, parsed %d times", rec.Code, f.parses.Load())
	}
	gone, hangUp := context.WithCancel(context.Background())
	hangUp()
	e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", PathNotifyRefund,
		strings.NewReader("{}")).WithContext(gone))
	if !slices.Equal(seen.outcomes(), []string{"too_large", "applied"}) {
		t.Errorf("%v", seen.outcomes())
	}
	f.refunded = func(context.Context, payment.Refund, order.Cause) (order.RefundSettled, error) { panic("x") }
	if rec := postTo(e, PathNotifyRefund, "{}"); rec.Code != 500 || !strings.Contains(rec.Body.String(), "FAIL") {
		t.Errorf("panic: %d %s", rec.Code, rec.Body)
	}
}

// Payments and refunds share the slots: a flood of the one kind must not double what is worked on at once.
func TestRefundNotificationsShareTheSlots(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	var now, most atomic.Int64
	work := func() {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		inside <- struct{}{}
		<-leave
		now.Add(-1)
	}
	f := &till{
		settled: func(context.Context, payment.Trade, order.Cause) (order.Settlement, error) {
			work()
			return order.Settlement{Settled: order.SettledApplied}, nil
		},
		refunded: func(context.Context, payment.Refund, order.Cause) (order.RefundSettled, error) {
			work()
			return order.RefundSettled{Outcome: order.RefundOutcomeApplied}, nil
		}}
	e, _, _ := newTill(t, f, func(o *NotifyOptions) { o.Parallel = 1 })
	const each = 8
	codes := make(chan int, 2*each)
	for range each {
		for _, path := range []string{PathNotifyPayment, PathNotifyRefund} {
			go func() { codes <- postTo(e, path, "{}").Code }()
		}
	}
	for range 2 * each { // each comes in only after the one before has left
		<-inside
		leave <- struct{}{}
		if code := <-codes; code != 204 {
			t.Error(code)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d at once", most.Load())
	}
}

// A callback of a test is acknowledged when it is noted and not before: else doctor never sees what came. One that does
// not decrypt is noted too, and refused as every other is.
func TestEchoIsNotedBeforeItIsAnswered(t *testing.T) {
	good := payment.Echo{ID: "n-1", Message: "m"}
	for name, c := range map[string]struct {
		echo    payment.Echo
		parse   error
		forgets error
		status  int
		outcome string
		heard   []payment.Echo
	}{
		"taken": {echo: good, status: 204, outcome: "echo", heard: []payment.Echo{good}},
		"database away": {echo: good, forgets: sqldb.ErrUnavailable, status: 500, outcome: "failed",
			heard: []payment.Echo{good}},
		"another key": {echo: payment.Echo{ID: "n-1"}, parse: payment.ErrMalformed, status: 400, outcome: "malformed",
			heard: []payment.Echo{{ID: "n-1"}}},
		"no envelope": {parse: payment.ErrMalformed, status: 400, outcome: "malformed"},
		"forged":      {parse: payment.ErrBadSignature, status: 401, outcome: "unsigned"},
		"probe":       {parse: payment.ErrProbe, status: 401, outcome: "probe"},
	} {
		for _, path := range []string{PathNotifyPayment, PathNotifyRefund} {
			f := &till{echo: func() (payment.Echo, error) { return c.echo, c.parse }, forgets: c.forgets}
			e, seen, _ := newTill(t, f)
			got := postTo(e, path, "echo")
			if got.Code != c.status || !slices.Equal(f.heard, c.heard) || f.settles.Load() != 0 ||
				!slices.Equal(seen.outcomes(), []string{c.outcome}) {
				t.Errorf("%s at %s: %d, %v, %v", name, path, got.Code, f.heard, seen.outcomes())
			}
		}
	}
}

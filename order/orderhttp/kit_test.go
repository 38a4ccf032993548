package orderhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"orderd/order"
	"orderd/stock"
)

// The waiting for the shared database server ends with the process, net/http's
// for the end of a connection that it cut half a second later.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("orderd/migrations/sqldb/sqldbtest/servers.(*child).Start.func1"),
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	epoch  = time.Date(2026, 11, 20, 13, 42, 5, 120e6, time.UTC)
)

const (
	someOrder = "01JD4ZABCDEFGHJKMNPQRSTVWX"
	goodBody  = `{"items":[{"sku_id":"1001","quantity":2}]}`
)

// script is an Orders that answers as told and remembers who called what. What
// is not scripted fails the test that calls it.
type script struct {
	t  testing.TB
	mu sync.Mutex

	calls    []string
	placed   func(order.Placement) (order.Placed, error)
	prepaid  func(order.PrepayRequest) (order.Prepayment, error)
	canceled func(order.CancelRequest) (order.Order, error)
	synced   func(string, order.Cause) (order.Order, error)
	found    func(customer, no string) (order.Order, error)
	waiting  func(customer, no string) (order.Queued, error) // nil: nothing waits
	listed   func(order.Filter) ([]order.Order, string, error)
	skus     []stock.SKU
	shelfErr error
	asked    func(order.AskRefund) (order.AskedRefund, error)
	refund   func(customer, no string) (order.Refund, error)
}

func (s *script) called(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what)
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

func (s *script) unscripted(what string) error {
	s.t.Errorf("%s was called, nobody expected it", what)
	return fmt.Errorf("%s is not scripted", what)
}

func (s *script) Place(_ context.Context, p order.Placement) (order.Placed, error) {
	s.called("place")
	if s.placed == nil {
		return order.Placed{}, s.unscripted("Place")
	}
	return s.placed(p)
}

func (s *script) Prepay(_ context.Context, r order.PrepayRequest) (order.Prepayment, error) {
	s.called("prepay")
	if s.prepaid == nil {
		return order.Prepayment{}, s.unscripted("Prepay")
	}
	return s.prepaid(r)
}

func (s *script) Cancel(_ context.Context, r order.CancelRequest) (order.Order, error) {
	s.called("cancel")
	if s.canceled == nil {
		return order.Order{}, s.unscripted("Cancel")
	}
	return s.canceled(r)
}

func (s *script) Sync(_ context.Context, no string, cause order.Cause) (order.Order, error) {
	s.called("sync")
	if s.synced == nil {
		return order.Order{}, s.unscripted("Sync")
	}
	return s.synced(no, cause)
}

func (s *script) FindOwn(ctx context.Context, customer, no string) (order.Order, error) {
	s.called("find")
	if err := ctx.Err(); err != nil {
		return order.Order{}, err
	}
	if s.found == nil {
		return order.Order{}, s.unscripted("FindOwn")
	}
	return s.found(customer, no)
}

// FindQueued is no call of a customer: it is asked about every order that is not found.
func (s *script) FindQueued(_ context.Context, customer, no string) (order.Queued, error) {
	if s.waiting == nil {
		return order.Queued{}, order.ErrNotFound
	}
	return s.waiting(customer, no)
}

// Versions are those of the scripted orders; it is no call of a customer.
func (s *script) Versions(ctx context.Context, nos []string) (map[string]int64, error) {
	s.called("versions")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	versions := map[string]int64{}
	for _, no := range nos {
		o, err := s.found("", no)
		if err != nil {
			return nil, err
		}
		versions[no] = o.Version
	}
	return versions, nil
}

func (s *script) List(_ context.Context, f order.Filter) ([]order.Order, string, error) {
	s.called("list")
	if s.listed == nil {
		return nil, "", s.unscripted("List")
	}
	return s.listed(f)
}

func (s *script) AskRefund(_ context.Context, r order.AskRefund) (order.AskedRefund, error) {
	s.called("ask refund")
	if s.asked == nil {
		return order.AskedRefund{}, s.unscripted("AskRefund")
	}
	return s.asked(r)
}

func (s *script) FindOwnRefund(_ context.Context, customer, no string) (order.Refund, error) {
	s.called("find refund")
	if s.refund == nil {
		return order.Refund{}, s.unscripted("FindOwnRefund")
	}
	return s.refund(customer, no)
}

func (s *script) FindMany(_ context.Context, ids []string) ([]stock.SKU, error) {
	s.called("shelf")
	var found []stock.SKU
	for _, k := range s.skus {
		for _, id := range ids {
			if k.SkuID == id {
				found = append(found, k)
			}
		}
	}
	return found, s.shelfErr
}

// ticker is a clock that the tests move.
type ticker struct {
	mu  sync.Mutex
	now time.Time
}

func (c *ticker) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *ticker) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a listener on a script.
type world struct {
	*script
	clock *ticker
	echo  *echo.Echo

	// undescribed says that the script answers what the service does not, such as an
	// operator's error to a customer: it is not held against the document.
	undescribed bool
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{script: &script{t: t}, clock: &ticker{now: epoch}}
	v, err := NewSecretVerifier(secret, w.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Orders: w.script, SKUs: w.script, Tokens: v, Now: w.clock.Now, OpenAPI: []byte("openapi: 3.1.0\n")}
	for _, c := range change {
		c(&o)
	}
	if w.echo, err = New(o); err != nil {
		t.Fatal(err)
	}
	return w
}

func token(t testing.TB, customer string, now time.Time) string {
	t.Helper()
	tok, err := MintToken(secret, customer, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// ask sends one request as customer c1; headers come in pairs and replace the
// usual ones, an empty value leaves one out.
func (w *world) ask(t testing.TB, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token(t, "c1", w.clock.Now()))
	r.Header.Set("Accept-Language", "en")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost && path == "/v1/orders" {
		r.Header.Set(headerKey, "k1")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	rec := httptest.NewRecorder()
	if w.undescribed {
		w.echo.ServeHTTP(rec, r)
	} else {
		described(t, w.echo).ServeHTTP(rec, r)
	}
	saidInChinese(t, rec)
	return rec
}

// numbers are what a sentence about a field must not lose in another language, and so are
// the words that it gives to write: those in capitals, and those with an underscore.
var numbers = regexp.MustCompile(`\d+|\b\w+_\w+\b|\b[A-Z]{3,}\b`)

// saidInChinese fails the test when a problem has a field whose English has no Chinese,
// or one that says less.
func saidInChinese(t testing.TB, rec *httptest.ResponseRecorder) {
	t.Helper()
	var p Problem
	if rec.Code != http.StatusUnprocessableEntity || json.Unmarshal(rec.Body.Bytes(), &p) != nil {
		return
	}
	for _, e := range p.Errors {
		if strings.ContainsFunc(e.Detail, func(r rune) bool { return r > 0x3000 }) {
			continue // it was asked for in Chinese
		}
		zh, known := inChinese(e.Detail)
		if !known {
			t.Errorf("%q has no Chinese", e.Detail)
		}
		for _, n := range numbers.FindAllString(e.Detail, -1) {
			if known && !strings.Contains(zh, n) {
				t.Errorf("%q says %s, and its Chinese does not: %q", e.Detail, n, zh)
			}
		}
	}
}

// problemOf reads a problem and checks what every problem must have.
func problemOf(t testing.TB, rec *httptest.ResponseRecorder) Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatalf("status %d, not a problem: %q", rec.Code, rec.Body)
	}
	h := rec.Header()
	if got := h.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	if p.Status != rec.Code || p.Type != "/problems/"+kindOf(p.Code).slug() || p.Title == "" || p.Detail == "" ||
		p.Instance == "" {
		t.Errorf("incomplete problem: %s", rec.Body)
	}
	if p.RequestID == "" || p.RequestID != h.Get(headerRequestID) {
		t.Errorf("request_id %q, header %q", p.RequestID, h.Get(headerRequestID))
	}
	if p.Retryable != (h.Get("Retry-After") != "") {
		t.Errorf("retryable %v, Retry-After %q", p.Retryable, h.Get("Retry-After"))
	}
	if h.Get("Cache-Control") != "no-store" {
		t.Errorf("a problem may be kept: %q", h.Get("Cache-Control"))
	}
	return p
}

func wantProblem(t testing.TB, rec *httptest.ResponseRecorder, status int, code Code) Problem {
	t.Helper()
	p := problemOf(t, rec)
	if rec.Code != status || p.Code != code {
		t.Errorf("answered %d %s, want %d %s: %s", rec.Code, p.Code, status, code, rec.Body)
	}
	return p
}

func pendingOrder() order.Order {
	return order.Order{
		OrderNo: someOrder, CustomerID: "c1", State: order.StatePending, Version: 1, Total: 29800,
		Items:     []order.Item{{LineNo: 1, SkuID: "1001", Quantity: 2, UnitPrice: 14900}},
		CreatedAt: epoch, UpdatedAt: epoch, ExpireAt: epoch.Truncate(time.Second).Add(30*time.Minute + time.Second),
		PlacedCause: "secret-cause",
		Attempts:    []order.Attempt{},
	}
}

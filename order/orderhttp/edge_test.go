package orderhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
)

// counted is an Observer that remembers.
type counted struct {
	mu       sync.Mutex
	requests []string
	notified []string
	kinds    []string // of notified, one each
	cut      int
}

func (c *counted) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut++
}

func (c *counted) Request(route, method string, status int, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, fmt.Sprintf("%s %s %d", method, route, status))
}

func (c *counted) Notified(kind, outcome string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds = append(c.kinds, kind)
	c.notified = append(c.notified, outcome)
}

func (c *counted) outcomes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.notified)
}

// Without one id on every side nobody finds the request that a customer complains about;
// a hostile one must not get into logs.
func TestRequestID(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"a", "7c1-x_y.Z", strings.Repeat("a", 64)} {
		if got := w.ask(t, "GET", "/healthz", "", headerRequestID, id).Header().Get(headerRequestID); got != id {
			t.Errorf("%q became %q", id, got)
		}
	}
	seen := map[string]bool{}
	for _, id := range []string{"", "a b", "a\nb", "é", strings.Repeat("a", 65), `"x"`, "a;b"} {
		got := w.ask(t, "GET", "/healthz", "", headerRequestID, id).Header().Get(headerRequestID)
		if !regexp.MustCompile(`^[0-9A-Z]{26}$`).MatchString(got) || seen[got] {
			t.Errorf("%q became %q", id, got)
		}
		seen[got] = true
	}
}

// Labels with paths in them would fill the memory of whoever counts.
func TestObserverSeesRoutesNotPaths(t *testing.T) {
	seen := &counted{}
	w := newWorld(t, func(o *Options) { o.Observe = seen })
	w.found = func(string, string) (order.Order, error) { return pendingOrder(), nil }
	w.ask(t, "GET", "/v1/orders/"+someOrder, "")
	w.ask(t, "GET", "/v1/orders/"+someOrder, "", "Authorization", "")
	w.ask(t, "GET", "/no/such/"+someOrder, "")
	w.ask(t, "BREW", "/v1/orders", "")
	want := []string{"GET /v1/orders/:order_no 200", "GET /v1/orders/:order_no 401", "GET  404", "OTHER /v1/orders 405"}
	if !slices.Equal(seen.requests, want) {
		t.Errorf("%q", seen.requests)
	}
}

// A client that hangs up is not our failure: an alarm on 5xx must not ring.
func TestHungUpClientIsNotAFailure(t *testing.T) {
	seen, log := &counted{}, &bytes.Buffer{}
	w := newWorld(t, func(o *Options) { o.Observe, o.Log = seen, slog.New(slog.NewTextHandler(log, nil)) })
	ctx, hangUp := context.WithCancel(context.Background())
	w.found = func(string, string) (order.Order, error) {
		hangUp()
		return order.Order{}, fmt.Errorf("find order: %w", context.Canceled)
	}
	r, err := http.NewRequestWithContext(ctx, "GET", "/v1/orders/"+someOrder, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token(t, "c1", epoch))
	w.echo.ServeHTTP(discard{}, r)
	if !slices.Equal(seen.requests, []string{"GET /v1/orders/:order_no 499"}) || log.Len() > 0 {
		t.Errorf("%q, logged %s", seen.requests, log)
	}
}

// An answer that ends in the middle as if it were whole is taken for the whole, and without a line in the log nobody
// ever learns of it: the connection is ended, and it is logged and counted once, whatever ended it.
func TestACutAnswerIsNoticed(t *testing.T) {
	for name, end := range map[string]func() error{
		"an error": func() error { return errors.New("the database is away") },
		"a panic":  func() error { panic("no such row") },
		"an abort": func() error { panic(http.ErrAbortHandler) },
	} {
		seen, log := &counted{}, &bytes.Buffer{}
		e := newEcho(EdgeOptions{Now: time.Now, Observe: seen, Log: slog.New(slog.NewTextHandler(log, nil))})
		e.GET("/rows", func(c echo.Context) error {
			for range 100 {
				if _, err := c.Response().Write(bytes.Repeat([]byte("row\n"), 1000)); err != nil {
					return err
				}
			}
			return end()
		})
		addr, s := serve(t, e, nil)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/rows", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(headerRequestID, "the-cut-one")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the client sees %v", name, err)
		}
		if err := s.Shutdown(t.Context()); err != nil { // when it has returned all is logged
			t.Error(err)
		}
		if strings.Count(log.String(), "answer cut short") != 1 || !strings.Contains(log.String(), "the-cut-one") ||
			!strings.Contains(log.String(), "level=ERROR") || seen.cut != 1 ||
			!slices.Equal(seen.requests, []string{"GET /rows 200"}) {
			t.Errorf("%s: %q, %d, %s", name, seen.requests, seen.cut, log)
		}
	}
}

// A client that goes away in the middle is no failure of ours.
func TestAClientThatLeavesIsNotCut(t *testing.T) {
	seen, log := &counted{}, &bytes.Buffer{}
	e := newEcho(EdgeOptions{Now: time.Now, Observe: seen, Log: slog.New(slog.NewTextHandler(log, nil))})
	e.GET("/rows", func(c echo.Context) error {
		for {
			if _, err := c.Response().Write(bytes.Repeat([]byte("row\n"), 10000)); err != nil {
				return err
			}
		}
	})
	addr, s := serve(t, e, nil)
	conn := dial(t, addr, "GET /rows HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := conn.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if seen.cut != 0 || log.Len() > 0 || !slices.Equal(seen.requests, []string{"GET /rows 499"}) {
		t.Errorf("%q, %d, %s", seen.requests, seen.cut, log)
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// Bodies, tokens and openids in a log are a leak with a long life.
func TestLogsHoldNoSecrets(t *testing.T) {
	log := &bytes.Buffer{}
	w := newWorld(t, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	w.prepaid = func(r order.PrepayRequest) (order.Prepayment, error) {
		return order.Prepayment{}, fmt.Errorf("store the prepay answer: it broke")
	}
	tok := token(t, "c1", epoch)
	w.ask(t, "POST", "/v1/orders/"+someOrder+"/prepay?x=query-canary",
		`{"trade_type":"JSAPI","payer":{"openid":"o6_canary"}}`,
		"Authorization", "Bearer "+tok, "User-Agent", "agent-canary\r\n")
	w.ask(t, "POST", "/v1/orders", `{"remark":"body-canary"`, "Idempotency-Key", "key-canary")
	if !strings.Contains(log.String(), "it broke") || !strings.Contains(log.String(), someOrder) {
		t.Errorf("the failure is not logged: %s", log)
	}
	if strings.Contains(log.String(), "canary") || strings.Contains(log.String(), tok) {
		t.Errorf("logged: %s", log)
	}
}

// A handler that is stuck in the database must be told to stop, or the answer comes after three seconds.
func TestHandlersHaveABudget(t *testing.T) {
	w := newWorld(t)
	var left time.Duration
	deadline := func(ctx context.Context) {
		at, ok := ctx.Deadline()
		if !ok {
			t.Error("no deadline")
		}
		left = time.Until(at)
	}
	o := Options{Orders: watch{w.script, deadline}, SKUs: w.script, Now: w.clock.Now}
	var err error
	if o.Tokens, err = NewSecretVerifier(secret, w.clock.Now); err != nil {
		t.Fatal(err)
	}
	if w.echo, err = New(o); err != nil {
		t.Fatal(err)
	}
	w.ask(t, "GET", "/v1/orders/"+someOrder, "")
	if left <= 0 || left > 3*time.Second {
		t.Errorf("a read has %s", left)
	}
	w.ask(t, "GET", "/v1/orders/"+someOrder+"?wait=30", "")
	if left <= 0 || left > 3*time.Second {
		t.Errorf("a look of a poll has %s", left)
	}
}

type watch struct {
	*script
	deadline func(context.Context)
}

func (w watch) FindOwn(ctx context.Context, _, _ string) (order.Order, error) {
	w.deadline(ctx)
	return order.Order{}, order.ErrNotFound
}

// serve runs a listener as in production, with shorter times.
func serve(t *testing.T, h http.Handler, change func(*http.Server)) (addr string, server *http.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Server(h)
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout < MaxWait || s.IdleTimeout == 0 ||
		s.MaxHeaderBytes == 0 {
		t.Errorf("unbounded: %+v", s)
	}
	s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if change != nil {
		change(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close() // Serve's end is what is checked
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return l.Addr().String(), s
}

func dial(t *testing.T, addr, send string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	return c
}

// A few slow clients must not hold connections for ever, nor keep others from being served.
func TestSlowClientsAreEnded(t *testing.T) {
	w := newWorld(t)
	addr, _ := serve(t, w.echo, func(s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout = 300*time.Millisecond,
			600*time.Millisecond
	})
	head := "POST /v1/orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nAuthorization: Bearer " + token(t, "c1",
		epoch) + "\r\n"
	var slow []net.Conn
	for range 150 { // 300 at once
		slow = append(slow, dial(t, addr, head), dial(t, addr, head+"Content-Length: 100\r\n\r\n{"))
	}
	c := dial(t, addr, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if answer, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
		t.Errorf("%v %s", err, answer)
	}
	for _, c := range slow {
		if answer, err := io.ReadAll(c); os.IsTimeout(err) || bytes.HasPrefix(answer, []byte("HTTP/1.1 2")) {
			t.Errorf("a slow client was kept: %v %s", err, answer)
		}
	}
	if w.count() > 0 {
		t.Errorf("called %v", w.calls)
	}
}

// Ten megabytes must be refused by their announcement, headers without end by their size.
func TestOversizeOnTheWire(t *testing.T) {
	w := newWorld(t)
	addr, _ := serve(t, w.echo, nil)
	head := "POST /v1/orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nAuthorization: Bearer " + token(t, "c1",
		epoch) + "\r\n"
	for send, want := range map[string]int{
		head + "Content-Length: 10485760\r\n\r\n":               413, // and not a byte of it
		head + "X: " + strings.Repeat("x", 32<<10) + "\r\n\r\n": 431,
	} {
		resp, err := http.ReadResponse(bufio.NewReader(dial(t, addr, send)), nil)
		if err != nil {
			t.Error(err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d, want %d", resp.StatusCode, want)
		}
	}
}

// A shutdown that waits half a minute for pollers is killed before it is done.
func TestShutdownEndsPolls(t *testing.T) {
	stopping := make(chan struct{})
	w := newWorld(t, func(o *Options) { o.Stopping = stopping })
	w.found = func(string, string) (order.Order, error) { return pendingOrder(), nil }
	addr, s := serve(t, w.echo, nil)
	c := dial(t, addr, "GET /v1/orders/"+someOrder+"?wait=30&since=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+
		token(t, "c1", epoch)+"\r\n\r\n")
	waitFor(t, "the poll to begin", func() bool { return w.count() > 0 })
	close(stopping)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // of the 30 of the poll
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if answer, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
		t.Errorf("%v %s", err, answer)
	}
}

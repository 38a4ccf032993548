package orderhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/order"
	"orderd/stock"
	"orderd/stock/gate"
)

// saleShop is a shop whose process has a gate, which the test's routes and the gate's loop share.
type saleShop struct {
	*shop
	gate *gate.Gate
}

// newSaleShop is a shop with 10 of SKU 1001 and a gate that is kept until the test ends.
func newSaleShop(t *testing.T, db *sqldb.DB) *saleShop {
	t.Helper()
	return newSaleShopOn(t, db, db, nil)
}

// newSaleShopOn is newSaleShop whose gate has a way of its own to the database, and this home for
// gates in mode redis; nil: none.
func newSaleShopOn(t *testing.T, db, gates *sqldb.DB, shared gate.Shared) *saleShop {
	t.Helper()
	var g *gate.Gate
	s := newShopWith(t, db, func(c *order.Config) {
		g = gate.New(gate.Config{DB: gates, Now: c.Now, Home: t.Name(), NoAuto: true, Shared: shared})
		c.Gate, c.Queue = g, g.Queue()
	})
	s.SKU(t, "1001", 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.Run(ctx, s.Service)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return &saleShop{s, g}
}

// set sets the gate of SKU 1001 and waits until the process knows it.
func (s *saleShop) set(t *testing.T, c stock.GateChange) {
	t.Helper()
	s.setMode(t, stock.GateLocal, c)
}

// setMode is set of this mode.
func (s *saleShop) setMode(t *testing.T, mode stock.GateMode, c stock.GateChange) {
	t.Helper()
	c.SkuID, c.Mode, c.Actor, c.Reason = "1001", mode, "cli:test", "a test"
	if _, err := s.Admin.SetGate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the gate to be known", func() bool { return s.gate.Knows("1001") })
}

const oneOf1001 = `{"items":[{"sku_id":"1001","quantity":1}]}`

// A buyer who is told too early a time comes too early, and one who is told none comes every second: before its start a
// sale answers 503 with the start, in Retry-After rounded up and in opens_at exactly, whether the database says it or
// memory, and sells from then on.
func TestSaleNotStarted(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newSaleShop(t, db)
		now := s.Clock.Now()
		opens := now.Add(90*time.Second + 250*time.Millisecond).Truncate(time.Millisecond)
		s.set(t, stock.GateChange{OpensAt: opens, PerCustomer: 2})

		ask := func() *http.Response {
			rec := s.ask(t, "c", "POST", "/v1/orders", oneOf1001, headerKey, "k")
			p := wantProblem(t, rec, 503, CodeSaleNotStarted)
			if !p.Retryable || p.OpensAt != rfc3339(opens) || len(p.Items) != 1 || p.Items[0].SkuID != "1001" {
				t.Errorf("%s", rec.Body)
			}
			if got := rec.Header().Get("Retry-After"); got != "91" {
				t.Errorf("Retry-After is %s, the sale begins in 90.25 s", got)
			}
			return rec.Result()
		}
		first := ask()
		waitFor(t, "memory to say it", func() bool { return s.refusedFromMemory(t) })
		if again := ask(); again.StatusCode != first.StatusCode {
			t.Error("memory and database differ")
		}
		var v StockView
		rec := s.ask(t, "c", "GET", "/v1/skus/1001/stock", "")
		if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || v.OpensAt != rfc3339(opens) ||
			v.PerCustomer != 2 {
			t.Errorf("what is shown of the SKU: %s", rec.Body)
		}

		// Whoever comes at the very moment is sold to, and not told that all is gone.
		s.Clock.Set(opens)
		s.place(t, "c", "k", oneOf1001)
		rec = s.ask(t, "c", "GET", "/v1/skus/1001/stock", "")
		if strings.Contains(rec.Body.String(), "opens_at") {
			t.Errorf("a sale that has begun is shown as to come: %s", rec.Body)
		}
	})
}

// refusedFromMemory reports that the gate refuses a stranger without the database.
func (s *saleShop) refusedFromMemory(t *testing.T) bool {
	t.Helper()
	return s.gate.Refuse(&gate.Claim{CustomerID: "nobody", RequestID: "x",
		Lines: []stock.Line{{SkuID: "1001", Quantity: 1}}}) != nil
}

// A customer with a script would buy the whole sale; who meets the limit has to see it, and what he has.
func TestCustomerLimitOfASale(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newSaleShop(t, db)
		s.set(t, stock.GateChange{PerCustomer: 2})
		for _, key := range []string{"k1", "k2"} {
			s.place(t, "c", key, oneOf1001)
		}
		rec := s.ask(t, "c", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":2}]}`, headerKey, "k3")
		p := wantProblem(t, rec, 409, CodeCustomerLimit)
		if p.Retryable || p.Held == nil || *p.Held != 2 || p.Limit == nil || *p.Limit != 2 || p.Requested == nil ||
			*p.Requested != 2 || p.Detail != "本次活动每人限购 2 件,您已有 2 件,本次需要 2 件。" {
			t.Errorf("%s", rec.Body)
		}
		s.place(t, "d", "k1", oneOf1001)
		s.place(t, "c", "k1", oneOf1001) // a repeat, and no third unit
	})
}

// A refusal from memory that reads otherwise than one from the database is another case to every client, which would
// handle one of the two.
func TestSoldOutReadsTheSameFromMemory(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newSaleShop(t, db)
		s.set(t, stock.GateChange{})
		if rec := s.ask(t, "c", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":10}]}`, headerKey,
			"k"); rec.Code != 201 {
			t.Fatal(rec.Code, rec.Body)
		}
		ask := func() string {
			rec := s.ask(t, "d", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":3}]}`, headerKey, "k",
				headerRequestID, "r")
			wantProblem(t, rec, 409, CodeStockInsufficient)
			return rec.Body.String()
		}
		database := ask() // nothing is marked before it
		if !strings.Contains(database, `"available":0`) {
			t.Errorf("%s", database)
		}
		waitFor(t, "memory to refuse", func() bool { return s.refusedFromMemory(t) })
		if memory := ask(); memory != database {
			t.Errorf("the database says\n%s\nmemory says\n%s", database, memory)
		}
	})
}

// A refusal that asks the database is one more for it to answer, just when everybody is refused: from memory it sends
// no statement at all, from the token to the body, and is given while nobody can reach the database.
func TestRefusalFromMemorySendsNoStatement(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	s := newSaleShopOn(t, sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "shop")),
		sqldbtest.Open(t, server.TCPDSN(server.Addr, "shop")), nil)
	s.set(t, stock.GateChange{})
	s.place(t, "c", "k", `{"items":[{"sku_id":"1001","quantity":10}]}`)
	refused := func(customer string) {
		t.Helper()
		wantProblem(t, s.ask(t, customer, "POST", "/v1/orders", oneOf1001, headerKey, "k"), 409, CodeStockInsufficient)
	}
	before := proxy.Commands()
	refused("first")
	if proxy.Commands() == before {
		t.Fatal("the database refuses without a command: nothing is counted")
	}
	waitFor(t, "memory to refuse", func() bool { return s.refusedFromMemory(t) })
	// Nothing may run beside them: the repeat of the order that sold it out still asks.
	before = proxy.Commands()
	for i := range 500 {
		refused(fmt.Sprint("d", i))
	}
	if n := proxy.Commands() - before; n != 0 {
		t.Errorf("500 refusals sent %d commands", n)
	}
	s.place(t, "c", "k", `{"items":[{"sku_id":"1001","quantity":10}]}`)
	if proxy.Commands() == before {
		t.Error("the repeat of an order was answered without the database")
	}
	proxy.Down(true)
	for i := range 50 {
		refused(fmt.Sprint("e", i))
	}
	proxy.Down(false) // the books are verified at the end
}

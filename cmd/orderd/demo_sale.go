package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"orderd/cmd/screen"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/stock"
)

// The sale of `orderd demo --sale`.
const (
	saleBuyers    = 1000
	saleShare     = 10 // buyers for each ticket
	saleProcesses = 8  // at most; each is a whole orderd
	saleSKU       = "ticket"
	// saleArrival is the time in which the buyers come, salePayWithin the time they have to pay:
	// longer than the demo, so that what is sold stays sold.
	saleArrival, salePayWithin = 3 * time.Second, 10 * time.Minute
	// salePresses is how often a buyer who was told "sold out" presses the button again, with a
	// new request each time, and salePause the time between.
	salePresses, salePause = 3, 300 * time.Millisecond
	// saleTries bounds the repeats of one request that had no answer or a 503.
	saleTries, saleTryPause = 100, 50 * time.Millisecond
	// saleBound is for everything from the first buyer to the last.
	saleBound = 45 * time.Second
	// saleLoss is the part of the tickets after which the embedded Redis is emptied, and saleFilled
	// bounds the wait for the first units in it.
	saleLoss, saleFilled = 5, 10 * time.Second
)

// runSale shows a flash sale: many buyers, few tickets, over one process or several on one
// database and one Redis, which loses everything in the middle when it is the embedded one. It ends
// well only if every ticket was sold once, everybody else was told so, and whoever has a ticket was
// told of it whenever he asked. Otherwise it is errBroken.
func (c demoCmd) runSale(ctx context.Context, a *app, t *terminal) error {
	tickets := int64(c.Orders / saleShare)
	_, _, err := a.stock.Put(ctx, stock.Put{SkuID: saleSKU, Title: "Concert ticket", PriceFen: 68000,
		Quantity: &tickets})
	if err != nil {
		return err
	}
	if _, err := a.stock.SetGate(ctx, stock.GateChange{SkuID: saleSKU, Mode: stock.GateRedis, Actor: "cli:demo",
		Reason: "a flash sale"}); err != nil {
		return err
	}
	pods, err := a.startPods(ctx, c.Processes-1)
	defer func() { pods.stop() }()
	if err != nil {
		return err
	}
	conns := &http.Transport{MaxIdleConnsPerHost: buyerConns, MaxConnsPerHost: buyerConns}
	crowd := &saleCrowd{secret: []byte(a.JWTSecret), n: c.Orders, line: t.progress(),
		http: &http.Client{Timeout: buyerTimeout, Transport: conns}}
	for _, p := range append([]saleDoors{{api: a.API, admin: a.Admin}}, pods.doors()...) {
		crowd.api, crowd.admin = append(crowd.api, dialable(p.api)), append(crowd.admin, dialable(p.admin))
	}
	bounded, cancel := context.WithTimeout(ctx, saleBound)
	defer cancel()
	if err := a.awaitBucket(bounded); err != nil {
		return err
	}
	if a.mini != nil {
		crowd.loseAt, crowd.lose = tickets/saleLoss, a.mini.FlushAll
	}
	if err := crowd.come(bounded); err != nil {
		return err
	}
	counts, err := crowd.counts(ctx)
	if err != nil {
		return err
	}
	pods.stop() // what they still held is back before the books are read
	return c.judgeSale(ctx, a, crowd, tickets, counts, t)
}

// awaitBucket waits until units of the sale are in Redis: a process makes that so within a second.
func (a *app) awaitBucket(ctx context.Context) error {
	for end := time.Now().Add(saleFilled); ; {
		buckets, err := a.stock.OpenBuckets(ctx)
		if err != nil || len(buckets) > 0 {
			return err
		}
		if time.Now().After(end) || !sqldb.Sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("no ticket came to Redis within %s: see demo.log", saleFilled)
		}
	}
}

// saleCrowd is the buyers, with what they were told.
type saleCrowd struct {
	api, admin []string // of each process
	secret     []byte
	n          int
	line       *screen.Progress
	http       *http.Client
	lose       func() // what Redis has, once, when so many tickets are sold; nil: it is not lost
	loseAt     int64

	gone, sold, soldOut, presses, repeated, waits, lost atomic.Int64
}

// come lets everybody in and waits until the last has gone. The errors of all are joined.
func (s *saleCrowd) come(ctx context.Context) error {
	defer s.http.CloseIdleConnections()
	defer s.line.End()
	errs := make([]error, s.n)
	var all sync.WaitGroup
	for i := range s.n {
		all.Go(func() {
			defer s.gone.Add(1)
			if sqldb.Sleep(ctx, time.Duration(i)*saleArrival/time.Duration(s.n)) {
				errs[i] = s.visit(ctx, i)
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	for {
		select {
		case <-ended:
			return errors.Join(append(errs, ctx.Err())...)
		case <-time.After(100 * time.Millisecond):
			s.line.Show("%d of %d buyers have gone · %d tickets sold · %d told sold out", s.gone.Load(), s.n,
				s.sold.Load(), s.soldOut.Load())
		}
	}
}

// visit is one buyer: he asks for a ticket, and again after a refusal. Who has one asks again
// with the same key, at the next process, when many have been refused already: he must be told
// of his ticket and not that it is sold out.
func (s *saleCrowd) visit(ctx context.Context, i int) error {
	token, err := orderhttp.MintToken(s.secret, fmt.Sprint("buyer-", i), time.Now(), time.Hour)
	if err != nil {
		return err
	}
	for press := range 1 + salePresses {
		key := fmt.Sprint("press-", press)
		s.presses.Add(1)
		no, err := s.ask(ctx, i+press, token, key)
		if err != nil {
			return fmt.Errorf("buyer %d: %w", i, err)
		}
		if no != "" {
			if s.sold.Add(1) == s.loseAt {
				s.lose()
				s.lost.Add(1)
			}
			sqldb.Sleep(ctx, saleArrival)
			again, err := s.ask(ctx, i+press+1, token, key)
			if err == nil && again != no {
				err = fmt.Errorf("%w: buyer %d has order %s and is told of %q", errBroken, i, no, again)
			}
			s.repeated.Add(1)
			return err
		}
		if press == 0 {
			s.soldOut.Add(1)
		}
		sqldb.Sleep(ctx, salePause)
	}
	return nil
}

// ask places an order of one ticket at a process and gives its number, "" when it is sold out.
// What had no answer, or a 503, is asked again with the same key.
func (s *saleCrowd) ask(ctx context.Context, process int, token, key string) (orderNo string, err error) {
	const body = `{"items":[{"sku_id":"` + saleSKU + `","quantity":1}]}`
	for range saleTries {
		status, answer, err := s.post(ctx, s.api[process%len(s.api)], token, key, body)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err != nil || status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
			s.waits.Add(1)
			sqldb.Sleep(ctx, saleTryPause)
		case status == http.StatusCreated && answer.OrderNo != "":
			return answer.OrderNo, nil
		case status == http.StatusConflict && answer.Code == orderhttp.CodeStockInsufficient:
			return "", nil
		default:
			return "", fmt.Errorf("placing answered %d %s", status, answer.Code)
		}
	}
	return "", fmt.Errorf("no answer in %d tries", saleTries)
}

// saleAnswer is what matters of an order or a problem.
type saleAnswer struct {
	OrderNo string         `json:"order_no"`
	Code    orderhttp.Code `json:"code"`
}

// post sends one request.
func (s *saleCrowd) post(ctx context.Context, api, token, key, body string) (status int, a saleAnswer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+api+"/v1/orders",
		bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, a, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := s.http.Do(req)
	if err != nil {
		return 0, a, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	return res.StatusCode, a, err
}

// saleCounts is what the gates of all processes have counted.
type saleCounts struct {
	memory int64 // refusals that asked no database
	redis  int64 // tickets that were set aside in Redis
}

// counts reads them.
func (s *saleCrowd) counts(ctx context.Context) (sum saleCounts, err error) {
	for _, admin := range s.admin {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
		if err != nil {
			return sum, err
		}
		res, err := s.http.Do(req)
		if err != nil {
			return sum, err
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			return sum, err
		}
		sum.add(string(text))
	}
	s.http.CloseIdleConnections()
	return sum, nil
}

// add adds what one process says, in the text format of Prometheus.
func (c *saleCounts) add(metrics string) {
	for line := range strings.Lines(metrics) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, ok := new(big.Rat).SetString(value) // whole, but a million is 1e+06
		if !ok {
			continue
		}
		name, labels, _ := strings.Cut(series, "{")
		switch {
		case !strings.HasSuffix(name, "orderd_gate_decisions_total"):
		case strings.Contains(labels, `code="sold_out"`):
			c.memory += n.Num().Int64()
		case strings.Contains(labels, `code="taken"`) && strings.Contains(labels, `mode="redis"`):
			c.redis += n.Num().Int64()
		}
	}
}

// judgeSale makes the table from the rows and holds it against what the buyers were told.
func (c demoCmd) judgeSale(ctx context.Context, a *app, s *saleCrowd, tickets int64, counts saleCounts,
	t *terminal) error {
	books, err := a.orders.StockAccount(ctx, saleSKU)
	if err != nil {
		return err
	}
	orders, units, err := countSale(ctx, a.orders)
	if err != nil {
		return err
	}
	oversold := max(units-tickets, 0)
	err = screen.Table(t.Out, func(w io.Writer) {
		screen.Printf(w, "\n")
		for _, row := range []struct {
			name string
			n    int64
		}{
			{"processes", int64(c.Processes)},
			{"buyers", int64(s.n)},
			{"tickets", tickets},
			{"sold", units},
			{"of them set aside in Redis", counts.redis},
			{"times Redis lost everything, in the middle", s.lost.Load()},
			{"buyers told sold out", s.soldOut.Load()},
			{"presses of the button", s.presses.Load()},
			{"of them told sold out from memory, no statement", counts.memory},
			{"asked again with a ticket in hand, told of it", s.repeated.Load()},
			{"asked again for want of an answer", s.waits.Load()},
			{"oversold", oversold},
			{"left in the pool", books.Available},
			{"left in buckets (allocated)", books.Allocated},
		} {
			screen.Printf(w, "%s:\t%d\n", row.name, row.n)
		}
	})
	if err != nil {
		return err
	}
	r, err := a.audit.Verify(ctx, nil)
	if err != nil {
		return err
	}
	broken := 0
	for _, check := range r.Checks {
		if check.Count > 0 {
			broken++
			screen.Printf(t.Out, "BROKEN %s: %s %v\n", check.ID, check.Meaning, check.Violations)
		}
	}
	screen.Printf(t.Out, "\nverify: %d of %d invariants hold\n", len(r.Checks)-broken, len(r.Checks))
	switch {
	case broken > 0 || units != tickets || orders != s.sold.Load() || books.Available != 0 || books.Allocated != 0:
		return fmt.Errorf("%w: the sale is not exact: %d orders with %d of %d tickets, the buyers were told of %d",
			errBroken, orders, units, tickets, s.sold.Load())
	case s.sold.Load()+s.soldOut.Load() != int64(s.n):
		return fmt.Errorf("%w: %d buyers have a ticket, %d were told sold out, %d came", errBroken, s.sold.Load(),
			s.soldOut.Load(), s.n)
	case counts.memory == 0 || counts.redis == 0 || s.lose != nil && s.lost.Load() == 0:
		return fmt.Errorf("the sale is exact, but the run shows less than it should: %+v", counts)
	}
	screen.Printf(t.Out, "every ticket was sold once\n")
	return nil
}

// countSale counts the orders that hold a ticket, and their tickets.
func countSale(ctx context.Context, orders *order.Service) (n, units int64, err error) {
	for cursor := ""; ; {
		page, next, err := orders.List(ctx, order.Filter{Limit: summaryPage, Cursor: cursor})
		if err != nil {
			return 0, 0, err
		}
		for _, o := range page {
			whole, err := orders.Find(ctx, o.OrderNo)
			if err != nil {
				return 0, 0, err
			}
			if whole.State == order.StateClosed {
				continue
			}
			n++
			for _, it := range whole.Items {
				units += it.Quantity
			}
		}
		if cursor = next; next == "" {
			return n, units, nil
		}
	}
}

// Package ordertest gives a Service on a database with a scripted WeChat Pay,
// a clock that stands until it is moved, and tasks that remember.
package ordertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

// The merchant of every fixture.
const (
	MchID = "1900000001"
	AppID = "wx0000000000000001"
)

// Clock stands until it is moved.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now gives the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Set puts the clock to a time.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// WeChat is a scripted gateway: a ledger of trades like WeChat's, with one
// lock, so that exactly one of paid and closed wins.
type WeChat struct {
	mu     sync.Mutex
	trades map[string]*trade
	burned map[string]bool
	paid   int

	// Before runs before a call is handled, outside the lock: a test lets
	// things happen there. An error is the call's answer, and nothing happened.
	Before func(op, outTradeNo string) error
	// After runs after a call was handled: an error loses the answer.
	After func(op, outTradeNo string) error
	// Closes and Queries count calls.
	Closes, Queries, Prepays int
}

type trade struct {
	payment.Trade
	params payment.Attempt
}

var _ payment.Gateway = (*WeChat)(nil)

// ErrLost is a gateway error that says nothing about what happened.
func ErrLost(op string) error {
	return &payment.GatewayError{Op: op, Kind: payment.KindUnknown, Err: context.DeadlineExceeded}
}

func (w *WeChat) call(op, no string, do func() error) error {
	if w.Before != nil {
		if err := w.Before(op, no); err != nil {
			return err
		}
	}
	w.mu.Lock()
	err := do()
	w.mu.Unlock()
	if err == nil && w.After != nil {
		err = w.After(op, no)
	}
	return err
}

// Prepay opens a trade.
func (w *WeChat) Prepay(_ context.Context, a payment.Attempt) (p payment.Prepaid, err error) {
	err = w.call("prepay", a.OutTradeNo, func() error {
		w.Prepays++
		t, ok := w.trades[a.OutTradeNo]
		switch {
		case w.burned[a.OutTradeNo], ok && t.params != a:
			return rejected("prepay", "INVALID_REQUEST")
		case ok && t.State == payment.TradeClosed:
			return rejected("prepay", "ORDERCLOSED")
		case ok && t.Paid():
			return rejected("prepay", "ORDERPAID")
		}
		w.trades[a.OutTradeNo] = &trade{params: a, Trade: payment.Trade{OutTradeNo: a.OutTradeNo, State: payment.TradeNotPay,
			AppID: AppID, MchID: MchID, TradeType: string(a.TradeType), Total: a.Amount}}
		p = payment.Prepaid{PrepayID: fmt.Sprintf("wx%06d", w.Prepays), CodeURL: "weixin://wxpay/" + a.OutTradeNo}
		return nil
	})
	return p, err
}

func rejected(op, code string) error {
	return &payment.GatewayError{Op: op, Kind: payment.KindRejected, Status: 400, Code: code}
}

// Query tells the state of a trade.
func (w *WeChat) Query(_ context.Context, no string) (t payment.Trade, err error) {
	err = w.call("query", no, func() error {
		w.Queries++
		if tr, ok := w.trades[no]; ok {
			t = tr.Trade
			return nil
		}
		t = payment.Trade{OutTradeNo: no, State: payment.TradeNotFound}
		return nil
	})
	return t, err
}

// Close closes a trade; an unknown number is burned.
func (w *WeChat) Close(_ context.Context, no string) (r payment.CloseReply, err error) {
	err = w.call("close", no, func() error {
		w.Closes++
		r = payment.CloseReply{Answer: payment.CloseAccepted, Status: 204, RequestID: "req"}
		t, ok := w.trades[no]
		switch {
		case !ok:
			w.burned[no] = true
		case t.Paid():
			r = payment.CloseReply{Answer: payment.ClosePaid, Status: 400, Code: "ORDERPAID"}
		default:
			t.State = payment.TradeClosed
		}
		return nil
	})
	return r, err
}

// Pay lets the buyer pay. It fails when the trade is not open, unless forced:
// then money comes against all promises.
func (w *WeChat) Pay(no string, force bool) (payment.Trade, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.trades[no]
	if !ok || (t.State != payment.TradeNotPay && !force) {
		return payment.Trade{}, errors.New("the trade cannot be paid")
	}
	w.paid++
	t.State, t.TransactionID, t.Currency, t.PayerTotal = payment.TradeSuccess, fmt.Sprintf("42%08d", w.paid), payment.CNY, t.Total
	t.SuccessTime = time.UnixMilli(1_800_000_000_000).UTC()
	return t.Trade, nil
}

// Put sets a trade as WeChat would report it.
func (w *WeChat) Put(t payment.Trade) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trades[t.OutTradeNo] = &trade{Trade: t}
}

// Trade gives a trade as WeChat knows it.
func (w *WeChat) Trade(no string) (payment.Trade, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.trades[no]
	if !ok {
		return payment.Trade{}, false
	}
	return t.Trade, true
}

// Tasks remembers what it was asked.
type Tasks struct {
	mu      sync.Mutex
	Set     map[string][]time.Time
	Dropped map[string]int
}

// CloseAt remembers a wake-up.
func (q *Tasks) CloseAt(orderNo string, _ int64, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.Set[orderNo] = append(q.Set[orderNo], at)
}

// Drop remembers that a wake-up is no longer needed.
func (q *Tasks) Drop(orderNo string, _ time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.Dropped[orderNo]++
}

// Fixture is a service and its world.
type Fixture struct {
	*order.Service
	DB     *sqldb.DB
	WeChat *WeChat
	Clock  *Clock
	Tasks  *Tasks
	Admin  *stock.Admin
}

// New makes a service on db with 30 minutes to pay and no grace. Verify runs at
// the end of the test and must find nothing.
func New(t testing.TB, db *sqldb.DB) *Fixture {
	t.Helper()
	f := &Fixture{DB: db, Clock: &Clock{now: time.UnixMilli(1_800_000_000_000).UTC()},
		WeChat: &WeChat{trades: map[string]*trade{}, burned: map[string]bool{}},
		Tasks:  &Tasks{Set: map[string][]time.Time{}, Dropped: map[string]int{}}}
	f.Admin = stock.NewAdmin(db, f.Clock.Now)
	s, err := order.New(order.Config{DB: db, Gateway: f.WeChat, Tasks: f.Tasks, Now: f.Clock.Now,
		MchID: MchID, AppID: AppID, NotifyURL: "https://shop.example/wechat/v3/notify/payment", Grace: -1})
	if err != nil {
		t.Fatal(err)
	}
	f.Service = s
	t.Cleanup(func() {
		f.AssertVerified(t)
		s.Close()
	})
	return f
}

// AssertVerified fails the test when an invariant is broken.
func (f *Fixture) AssertVerified(t testing.TB) {
	t.Helper()
	r, err := f.Verify(context.Background(), nil)
	if err != nil {
		t.Error(err)
		return
	}
	for _, c := range r.Checks {
		if c.Count > 0 {
			t.Errorf("%s: %d broken: %v", c.ID, c.Count, c.Violations)
		}
	}
}

// SKU puts a SKU of 100 fen for sale; quantity −1 is unlimited.
func (f *Fixture) SKU(t testing.TB, id string, quantity int64) {
	t.Helper()
	if _, _, err := f.Admin.Put(t.Context(), stock.Put{SkuID: id, Title: id, PriceFen: 100, Quantity: &quantity}); err != nil {
		t.Fatal(err)
	}
}

// Available gives what is on the shelf.
func (f *Fixture) Available(t testing.TB, id string) int64 {
	t.Helper()
	sku, err := f.Admin.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return sku.Available
}

// Place places an order of the customer "c" for quantity of one SKU.
func (f *Fixture) PlaceOne(t testing.TB, request, sku string, quantity int64) order.Order {
	t.Helper()
	placed, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: request,
		Lines: []stock.Line{{SkuID: sku, Quantity: quantity}}})
	if err != nil {
		t.Fatal(err)
	}
	return placed.Order
}

// Prepaid prepays an order as Native and gives its out_trade_no.
func (f *Fixture) Prepaid(t testing.TB, orderNo string) string {
	t.Helper()
	p, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: orderNo, CustomerID: "c", TradeType: payment.Native, Cause: Customer})
	if err != nil {
		t.Fatal(err)
	}
	return p.OutTradeNo
}

// State gives the committed state.
func (f *Fixture) State(t testing.TB, orderNo string) order.State {
	t.Helper()
	o, err := f.Find(t.Context(), orderNo)
	if err != nil {
		t.Fatal(err)
	}
	return o.State
}

// Causes for tests.
var (
	Customer  = order.Cause{Actor: order.Actor{Type: order.ByCustomer, ID: "c"}, Type: "request", ID: "r"}
	Scheduler = order.Cause{Actor: order.Actor{Type: order.ByScheduler, ID: "w"}, Type: "task", ID: "t"}
	Notified  = order.Cause{Actor: order.Actor{Type: order.ByWeChat}, Type: "notification", ID: "n"}
)

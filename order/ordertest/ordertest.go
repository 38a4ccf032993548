// Package ordertest gives a Service on a database with a scripted WeChat Pay,
// a clock that stands until it is moved, and tasks that remember.
package ordertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/payment"
	"orderd/stock"
)

// The merchant of every fixture.
const (
	MchID = "1900000001"
	AppID = "wx0000000000000001"
)

// Clock stands until it is moved. It may be used from many goroutines.
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

// Advance moves the clock by d. Nothing wakes up by it: timers of a service go by real
// time.
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
	mu sync.Mutex
	// trades are by out_trade_no; burned are the numbers that were closed before
	// anybody prepaid them, and can never be prepaid again.
	trades map[string]*trade
	burned map[string]bool
	// paid counts payments, for transaction ids that no two have.
	paid int

	// refunds and asked are by out_refund_no: what WeChat has, and with which
	// parameters it was first asked.
	refunds map[string]*payment.Refund
	asked   map[string]payment.RefundRequest
	// RefundStatus is the state that a new refund gets; default PROCESSING. Set it
	// before the call.
	RefundStatus payment.RefundStatus
	// Refuse answers a new refund with a definite no of this code, such as NOT_ENOUGH.
	// Repeats of one that was taken still get their answer.
	Refuse string
	// Refunded counts calls that asked for money back.
	Refunded int
	// Now stamps accepted refunds.
	Now func() time.Time

	// Before runs before a call is handled, outside the lock: a test lets things happen
	// there. An error is the call's answer, and nothing happened. op is prepay, query,
	// close, refund or refund_query, the second argument the number of the trade or
	// refund.
	Before func(op, outTradeNo string) error
	// After runs after a call was handled: an error loses the answer, while what was
	// asked for has happened.
	After func(op, outTradeNo string) error
	// Closes, Queries and Prepays count calls that were handled.
	Closes, Queries, Prepays int
}

// trade is a trade and the parameters it was opened with: a repeat must have the same
// ones.
type trade struct {
	payment.Trade
	params payment.Attempt
}

var _ payment.Gateway = (*WeChat)(nil)

// ErrLost is a gateway error that says nothing about what happened: a request whose
// answer was lost.
func ErrLost(op string) error {
	return &payment.GatewayError{Op: op, Kind: payment.KindUnknown, Err: context.DeadlineExceeded}
}

// call handles one call by do, between Before and After.
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

// Prepay opens a trade, or repeats its opening with the same parameters. Other
// parameters, a closed or a paid trade are a definite no, with WeChat's codes.
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
		w.trades[a.OutTradeNo] = &trade{params: a, Trade: payment.Trade{OutTradeNo: a.OutTradeNo,
			State: payment.TradeNotPay, AppID: AppID, MchID: MchID, TradeType: string(a.TradeType), Total: a.Amount}}
		p = payment.Prepaid{PrepayID: fmt.Sprintf("wx%06d", w.Prepays), CodeURL: "weixin://wxpay/" + a.OutTradeNo}
		return nil
	})
	return p, err
}

// rejected is a definite no of WeChat's.
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

// Close closes a trade; an unknown number is burned. A paid trade is answered
// ClosePaid, as WeChat does, and stays paid.
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

// Refund takes a refund, once per number and never above the payment.
func (w *WeChat) Refund(_ context.Context, q payment.RefundRequest) (r payment.Refund, err error) {
	err = w.call("refund", q.OutRefundNo, func() error {
		w.Refunded++
		if known := w.refunds[q.OutRefundNo]; known != nil {
			if w.asked[q.OutRefundNo] != q {
				return rejected("refund", "INVALID_REQUEST")
			}
			r = *known
			return nil
		}
		if w.Refuse != "" {
			return rejected("refund", w.Refuse)
		}
		t := w.byTransaction(q.TransactionID)
		if t == nil || q.Total != t.Total {
			return rejected("refund", "RESOURCE_NOT_EXISTS")
		}
		back := q.Amount
		for _, other := range w.refunds {
			if other.TransactionID == q.TransactionID && other.Status != payment.RefundClosed {
				back += other.Amount
			}
		}
		if back > t.Total {
			return rejected("refund", "INVALID_REQUEST")
		}
		t.State = payment.TradeRefund
		known := &payment.Refund{OutRefundNo: q.OutRefundNo, RefundID: fmt.Sprintf("50%08d", len(w.refunds)+1),
			TransactionID: q.TransactionID, OutTradeNo: t.OutTradeNo, Status: w.RefundStatus,
			Amount: q.Amount, Total: q.Total, CreateTime: w.Now()}
		if known.Status == "" {
			known.Status = payment.RefundProcessing
		}
		w.refunds[q.OutRefundNo], w.asked[q.OutRefundNo] = known, q
		r = *known
		return nil
	})
	return r, err
}

// byTransaction finds a paid trade by its transaction id, nil for none. The lock is
// held.
func (w *WeChat) byTransaction(id string) *trade {
	for _, t := range w.trades {
		if t.TransactionID == id && id != "" {
			return t
		}
	}
	return nil
}

// QueryRefund tells the state of a refund.
func (w *WeChat) QueryRefund(_ context.Context, no string) (r payment.Refund, err error) {
	err = w.call("refund_query", no, func() error {
		r = payment.Refund{OutRefundNo: no, Status: payment.RefundNotFound}
		if known := w.refunds[no]; known != nil {
			r = *known
		}
		return nil
	})
	return r, err
}

// EndRefund gives a refund that is under way its end, and the word of it as it is then:
// what has ended stays so. Nobody is notified: the test hands the word to the service.
func (w *WeChat) EndRefund(no string, status payment.RefundStatus) payment.Refund {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.refunds[no]
	if r.Status == payment.RefundSuccess || r.Status == payment.RefundClosed {
		return *r
	}
	r.Status = status
	if status == payment.RefundSuccess {
		r.SuccessTime = w.Now()
	}
	return *r
}

// Refunds gives all refunds that WeChat took, by number.
func (w *WeChat) Refunds() map[string]payment.Refund {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]payment.Refund, len(w.refunds))
	for no, r := range w.refunds {
		all[no] = *r
	}
	return all
}

// Pay lets the buyer pay and gives the trade as a notification would tell it. It fails
// when the trade is not open, unless forced: then money comes against all promises,
// also after a close.
func (w *WeChat) Pay(no string, force bool) (payment.Trade, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.trades[no]
	if !ok || (t.State != payment.TradeNotPay && !force) {
		return payment.Trade{}, errors.New("the trade cannot be paid")
	}
	w.paid++
	t.State, t.TransactionID, t.Currency, t.PayerTotal = payment.TradeSuccess, fmt.Sprintf("42%08d", w.paid),
		payment.CNY, t.Total
	t.SuccessTime = time.UnixMilli(1_800_000_000_000).UTC()
	return t.Trade, nil
}

// Put sets a trade as WeChat would report it, whatever was there: for what an honest
// WeChat would never say.
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

// Tasks remembers what it was asked, in the place of a queue: no task ever runs by
// itself. Refunds is by out_refund_no.
type Tasks struct {
	mu      sync.Mutex
	set     []time.Time
	Refunds map[string][]time.Time
}

// RefundAt remembers a wake-up of a refund.
func (q *Tasks) RefundAt(outRefundNo string, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.Refunds[outRefundNo] = append(q.Refunds[outRefundNo], at)
}

// WakeAt remembers a wake-up.
func (q *Tasks) WakeAt(at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.set = append(q.set, at)
}

// WakesAt reports that a wake-up was set for this time.
func (q *Tasks) WakesAt(at time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.set, at.Equal)
}

// Fixture is a service and its world. The service is embedded: a test calls its methods
// on the fixture.
type Fixture struct {
	*order.Service
	DB     *sqldb.DB
	WeChat *WeChat
	Clock  *Clock
	Tasks  *Tasks
	Admin  *stock.Admin
	// Audit checks the database of this service against its invariants.
	Audit *audit.Auditor
}

// New makes a service on db with 30 minutes to pay and no grace. Verify runs at the end
// of the test and must find nothing: so every test checks every invariant, whatever it
// is about.
func New(t testing.TB, db *sqldb.DB) *Fixture { return NewWith(t, db, func(*order.Config) {}) }

// NewWith is New with a change to the configuration, which shape makes just before the
// service is made.
func NewWith(t testing.TB, db *sqldb.DB, shape func(*order.Config)) *Fixture {
	t.Helper()
	f := NewUnverified(t, db, shape)
	t.Cleanup(func() { f.AssertVerified(t) })
	return f
}

// NewUnverified is NewWith for tests that break invariants by hand.
func NewUnverified(t testing.TB, db *sqldb.DB, shape func(*order.Config)) *Fixture {
	t.Helper()
	f := &Fixture{DB: db, Clock: &Clock{now: time.UnixMilli(1_800_000_000_000).UTC()},
		WeChat: &WeChat{trades: map[string]*trade{}, burned: map[string]bool{},
			refunds: map[string]*payment.Refund{}, asked: map[string]payment.RefundRequest{}},
		Tasks: &Tasks{Refunds: map[string][]time.Time{}}}
	f.WeChat.Now = f.Clock.Now
	f.Admin = stock.NewAdmin(db, f.Clock.Now)
	f.serve(t, shape)
	return f
}

// Restarted gives a second service beside f's, on the same database, WeChat and
// clock, as after a deployment that changed the configuration.
func (f *Fixture) Restarted(t testing.TB, shape func(*order.Config)) *Fixture {
	t.Helper()
	g := *f
	g.serve(t, shape)
	return &g
}

// serve makes the service and its auditor, and closes the service at the end of the
// test.
func (f *Fixture) serve(t testing.TB, shape func(*order.Config)) {
	t.Helper()
	cfg := order.Config{DB: f.DB, Gateway: f.WeChat, Tasks: f.Tasks, Now: f.Clock.Now, MchID: MchID, AppID: AppID,
		NotifyURL:       "https://shop.example/wechat/v3/notify/payment",
		RefundNotifyURL: "https://shop.example/wechat/v3/notify/refund", Grace: -1}
	shape(&cfg)
	s, err := order.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Service = s
	t.Cleanup(s.Close)
	f.Audit, err = audit.New(audit.Config{DB: f.DB, Orders: s, Gateway: f.WeChat, Now: cfg.Now,
		MchID: MchID, AppID: AppID})
	if err != nil {
		t.Fatal(err)
	}
}

// AssertVerified fails the test when an invariant is broken.
func (f *Fixture) AssertVerified(t testing.TB) {
	t.Helper()
	r, err := f.Audit.Verify(context.Background(), nil)
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

// SKU puts a SKU of 100 fen for sale; quantity −1 is unlimited. One that exists keeps
// its stock.
func (f *Fixture) SKU(t testing.TB, id string, quantity int64) {
	t.Helper()
	if _, _, err := f.Admin.Put(t.Context(), stock.Put{SkuID: id, Title: id, PriceFen: 100,
		Quantity: &quantity}); err != nil {
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

// PlaceOne places an order of the customer "c" for quantity of one SKU; request is the
// idempotency key.
func (f *Fixture) PlaceOne(t testing.TB, request, sku string, quantity int64) order.Order {
	t.Helper()
	placed, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: request,
		Lines: []stock.Line{{SkuID: sku, Quantity: quantity}}})
	if err != nil {
		t.Fatal(err)
	}
	return placed.Order
}

// Prepaid prepays an order of the customer "c" as Native and gives its out_trade_no.
func (f *Fixture) Prepaid(t testing.TB, orderNo string) string {
	t.Helper()
	p, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: orderNo, CustomerID: "c",
		TradeType: payment.Native, Cause: Customer})
	if err != nil {
		t.Fatal(err)
	}
	return p.OutTradeNo
}

// PaidOne places, prepays and pays an order of quantity of one SKU.
func (f *Fixture) PaidOne(t testing.TB, request, sku string, quantity int64) order.Order {
	t.Helper()
	o := f.PlaceOne(t, request, sku, quantity)
	trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := f.Settle(t.Context(), trade, Notified); err != nil || s.Settled != order.SettledApplied {
		t.Fatal(s, err)
	}
	return o
}

// RefundState gives the committed state of a refund.
func (f *Fixture) RefundState(t testing.TB, no string) order.RefundState {
	t.Helper()
	r, err := f.FindRefund(t.Context(), no)
	if err != nil {
		t.Fatal(err)
	}
	return r.State
}

// State gives the committed state of an order.
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
	Customer = order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "c"}, Type: "request", ID: "r"}
	// Finance and Finance2 are two people, where a second one has to approve.
	Finance   = order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "fin"}, Type: "request", ID: "r"}
	Finance2  = order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "fin2"}, Type: "request", ID: "r"}
	Scheduler = order.Cause{Actor: order.Actor{Type: order.ActorScheduler, ID: "w"}, Type: "task", ID: "t"}
	Notified  = order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification", ID: "n"}
)

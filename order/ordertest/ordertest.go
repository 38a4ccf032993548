// Package ordertest gives a Service on a database of its own with a scripted
// WeChat Pay, a clock that stands until it is moved, and a queue that only
// remembers what it was asked.
//
// New is for tests: it fails them, cleans up after them and holds the rows
// against every invariant when they end. Open is for examples, which have no
// testing.TB.
package ordertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/payment"
	"orderd/stock"
)

// The merchant of every fixture, in the form of WeChat Pay's own: ten digits,
// and wx with sixteen characters.
const (
	MchID = "1900000001"
	AppID = "wx0000000000000001"
)

// Began is when a clock of this package starts: 15 January 2027, 08:00 UTC. A
// round number of milliseconds, so that times are told apart at a glance.
func Began() time.Time { return time.UnixMilli(1_800_000_000_000).UTC() }

// Clock stands until it is moved. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock gives a clock that stands at now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now gives the time; it is an order.Config.Now.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d, back when d is negative.
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

// WeChat is a scripted payment.Gateway: it keeps trades and refunds as WeChat
// Pay does, under one lock, so that of a payment and a close that race exactly
// one wins. The exported fields script it; set them while no call is under way.
type WeChat struct {
	mu     sync.Mutex
	trades map[string]*trade // by out_trade_no
	burned map[string]bool   // out_trade_no that were closed before a trade was opened: unusable for ever
	paid   int               // payments so far, for the next transaction id

	refunds map[string]*payment.Refund       // by out_refund_no
	asked   map[string]payment.RefundRequest // with what a refund was first asked for: a repeat must be equal

	// RefundStatus is the state that a new refund gets; default PROCESSING.
	RefundStatus payment.RefundStatus
	// Refuse, when it is not "", is the code of a definite no to every new refund,
	// such as NOT_ENOUGH.
	Refuse string
	// Refunded counts the calls that asked for a refund, repeats included.
	Refunded int
	// Cards are the requests to send an abnormal refund to a bank card that were taken, by
	// out_refund_no.
	Cards map[string]payment.AbnormalRequest
	// Now stamps payments and refunds; NewWeChat sets it.
	Now func() time.Time

	// Before runs before a call is handled, outside the lock: a test lets
	// things happen there. An error is the call's answer, and nothing happened.
	// op is prepay, query, close, refund, refund_query or abnormal_refund; no is the
	// out_trade_no, of the last three the out_refund_no.
	Before func(op, no string) error
	// After runs after a call was handled: an error loses the answer.
	After func(op, no string) error
	// Closes, Queries and Prepays count the calls that were handled.
	Closes, Queries, Prepays int
}

type trade struct {
	payment.Trade
	params payment.Attempt // with what it was opened: a repeat must be equal
}

var _ payment.Gateway = (*WeChat)(nil)

// NewWeChat gives a WeChat Pay that knows no trade yet; now stamps its refunds.
func NewWeChat(now func() time.Time) *WeChat {
	return &WeChat{Now: now, trades: map[string]*trade{}, burned: map[string]bool{},
		refunds: map[string]*payment.Refund{}, asked: map[string]payment.RefundRequest{},
		Cards: map[string]payment.AbnormalRequest{}}
}

// ErrLost is a gateway error that says nothing about what happened: the call was
// made and no answer came.
func ErrLost(op string) error {
	return &payment.GatewayError{Op: op, Kind: payment.KindUnknown, Err: context.DeadlineExceeded}
}

// call runs do under the lock, between Before and After.
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

// Prepay opens a trade, or gives the one that is open: the same number with the
// same parameters is a repeat. A number that was closed or paid stays so.
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
		w.trades[a.OutTradeNo] = &trade{params: a, Trade: payment.Trade{
			OutTradeNo: a.OutTradeNo, State: payment.TradeNotPay,
			AppID: AppID, MchID: MchID, TradeType: string(a.TradeType), Total: a.Amount}}
		p = payment.Prepaid{PrepayID: fmt.Sprintf("wx%06d", w.Prepays), CodeURL: "weixin://wxpay/" + a.OutTradeNo}
		return nil
	})
	return p, err
}

// rejected is a definite no of WeChat Pay: 400 with a code of its documents.
func rejected(op, code string) error {
	return &payment.GatewayError{Op: op, Kind: payment.KindRejected, Status: 400, Code: code}
}

// Query tells the state of a trade; TradeNotFound when there is none.
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

// Close closes a trade that is not paid. A number that no trade has becomes
// unusable, as at WeChat Pay: a prepay that comes later is refused.
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

// Refund takes a refund, once per number, and refuses what would make the sum of
// a payment's refunds larger than the payment.
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

// byTransaction finds the trade that a transaction id paid; nil when there is none.
func (w *WeChat) byTransaction(id string) *trade {
	for _, t := range w.trades {
		if t.TransactionID == id && id != "" {
			return t
		}
	}
	return nil
}

// QueryRefund tells the state of a refund; RefundNotFound when there is none.
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

// AbnormalRefund sends the money of an abnormal refund to a card.
func (w *WeChat) AbnormalRefund(_ context.Context, q payment.AbnormalRequest) (r payment.Refund, err error) {
	err = w.call("abnormal_refund", q.OutRefundNo, func() error {
		known := w.refunds[q.OutRefundNo]
		if known == nil || known.RefundID != q.RefundID || known.Status != payment.RefundAbnormal {
			return rejected("abnormal_refund", "INVALID_REQUEST")
		}
		known.Status = payment.RefundProcessing
		w.Cards[q.OutRefundNo] = q
		r = *known
		return nil
	})
	return r, err
}

// EndRefund ends a refund that is under way, and gives what WeChat Pay says of it
// from then on. A refund that had ended stays as it was. The number must be known.
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

// Forget makes WeChat Pay not know a refund, as after a change of the merchant number.
func (w *WeChat) Forget(outRefundNo string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.refunds, outRefundNo)
}

// Refunds gives all refunds that WeChat Pay took, by out_refund_no.
func (w *WeChat) Refunds() map[string]payment.Refund {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]payment.Refund, len(w.refunds))
	for no, r := range w.refunds {
		all[no] = *r
	}
	return all
}

// Pay lets the buyer pay, and gives what a notification would say. It fails when
// the trade is not open, unless it is forced: then a payment arrives for a trade
// that had been closed, or a second one for a paid trade. force is for tests of
// what WeChat Pay rules out.
func (w *WeChat) Pay(no string, force bool) (payment.Trade, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.trades[no]
	if !ok || (t.State != payment.TradeNotPay && !force) {
		return payment.Trade{}, errors.New("the trade cannot be paid")
	}
	w.paid++
	t.State, t.TransactionID, t.Currency, t.PayerTotal = payment.TradeSuccess, fmt.Sprintf("42%08d", w.paid),
		payment.CNY, payment.Said(t.Total)
	t.SuccessTime = w.Now()
	return t.Trade, nil
}

// Put sets a trade as WeChat Pay is to report it from now on.
func (w *WeChat) Put(t payment.Trade) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trades[t.OutTradeNo] = &trade{Trade: t}
}

// Trade gives a trade as WeChat Pay has it, and whether it has it.
func (w *WeChat) Trade(no string) (payment.Trade, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.trades[no]
	if !ok {
		return payment.Trade{}, false
	}
	return t.Trade, true
}

// Tasks is an order.Tasks that remembers what it was asked and wakes nobody.
type Tasks struct {
	mu      sync.Mutex
	set     []time.Time
	Refunds map[string][]time.Time // when to wake refunds, by out_refund_no, in the order of the calls
}

// NewTasks gives a queue that was asked for nothing yet.
func NewTasks() *Tasks { return &Tasks{Refunds: map[string][]time.Time{}} }

// RefundAt remembers when a refund is to be looked at.
func (q *Tasks) RefundAt(outRefundNo string, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.Refunds[outRefundNo] = append(q.Refunds[outRefundNo], at)
}

// WakeAt remembers when due orders are to be looked for.
func (q *Tasks) WakeAt(at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.set = append(q.set, at)
}

// WakesAt reports that WakeAt was called with this time.
func (q *Tasks) WakesAt(at time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.set, at.Equal)
}

// Fixture is a Service and all that it works with.
type Fixture struct {
	*order.Service
	DB     *sqldb.DB
	WeChat *WeChat
	Clock  *Clock
	Tasks  *Tasks
	Admin  *stock.Admin // puts SKUs for sale
	// Audit holds the rows of this service against their invariants.
	Audit *audit.Auditor
}

// New makes a service on db, which must be migrated, with 30 minutes to pay and
// no grace after them. When the test ends, Verify must find nothing.
func New(t testing.TB, db *sqldb.DB) *Fixture { return NewWith(t, db, func(*order.Config) {}) }

// NewWith is New with a change to the configuration.
func NewWith(t testing.TB, db *sqldb.DB, shape func(*order.Config)) *Fixture {
	t.Helper()
	f := NewUnverified(t, db, shape)
	t.Cleanup(func() { f.AssertVerified(t) })
	return f
}

// NewUnverified is NewWith for tests that break invariants by hand.
func NewUnverified(t testing.TB, db *sqldb.DB, shape func(*order.Config)) *Fixture {
	t.Helper()
	f := newFixture(db)
	f.mustServe(t, shape)
	return f
}

// Open makes a service without a test, as New does, on a new SQLite file in a
// directory of its own. remove stops the service and deletes the directory. It
// is what the examples of package order use.
func Open(ctx context.Context) (f *Fixture, remove func(), err error) {
	dir, err := os.MkdirTemp("", "orders-")
	if err != nil {
		return nil, nil, err
	}
	clean := func() { _ = os.RemoveAll(dir) }
	db, err := sqldb.Open(ctx, "sqlite:"+filepath.Join(dir, "orders.db"))
	if err != nil {
		clean()
		return nil, nil, err
	}
	f = newFixture(db)
	if _, err = migrations.Up(ctx, db); err == nil {
		err = f.serve(func(*order.Config) {})
	}
	if err != nil {
		err = errors.Join(err, db.Close())
		clean()
		return nil, nil, err
	}
	return f, func() {
		f.Close()
		_ = db.Close()
		clean()
	}, nil
}

// newFixture is a fixture on db without its service.
func newFixture(db *sqldb.DB) *Fixture {
	clock := NewClock(Began())
	return &Fixture{DB: db, Clock: clock, WeChat: NewWeChat(clock.Now), Tasks: NewTasks(),
		Admin: stock.NewAdmin(db, clock.Now).Telling(order.TellLow)}
}

// Restarted gives a second service beside f's, on the same database, WeChat Pay
// and clock, as after a deployment that changed the configuration.
func (f *Fixture) Restarted(t testing.TB, shape func(*order.Config)) *Fixture {
	t.Helper()
	g := *f
	g.mustServe(t, shape)
	return &g
}

// mustServe is serve for a test, which ends the service too.
func (f *Fixture) mustServe(t testing.TB, shape func(*order.Config)) {
	t.Helper()
	if err := f.serve(shape); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Service.Close)
}

// serve gives f a service and its auditor.
func (f *Fixture) serve(shape func(*order.Config)) error {
	cfg := order.Config{DB: f.DB, Gateway: f.WeChat, Tasks: f.Tasks, Now: f.Clock.Now, MchID: MchID, AppID: AppID,
		NotifyURL:       "https://shop.example/wechat/v3/notify/payment",
		RefundNotifyURL: "https://shop.example/wechat/v3/notify/refund", Grace: -1}
	shape(&cfg)
	s, err := order.New(cfg)
	if err != nil {
		return err
	}
	f.Service = s
	f.Admin, f.WeChat.Now = stock.NewAdmin(f.DB, cfg.Now).Telling(order.TellLow), cfg.Now
	f.Audit, err = audit.New(audit.Config{DB: f.DB, Orders: s, Gateway: f.WeChat, Now: cfg.Now,
		MchID: MchID, AppID: AppID})
	return err
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

// SKU puts a SKU for sale, 100 fen each; a quantity of −1 is unlimited.
func (f *Fixture) SKU(t testing.TB, id string, quantity int64) {
	t.Helper()
	put := stock.Put{SkuID: id, Title: id, PriceFen: 100, Quantity: &quantity}
	if _, _, err := f.Admin.Put(t.Context(), put); err != nil {
		t.Fatal(err)
	}
}

// Available gives how many units of a SKU can be sold.
func (f *Fixture) Available(t testing.TB, id string) int64 {
	t.Helper()
	sku, err := f.Admin.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return sku.Available
}

// PlaceOne places an order of the customer "c" for quantity units of one SKU;
// request is the customer's idempotency key.
func (f *Fixture) PlaceOne(t testing.TB, request, sku string, quantity int64) order.Order {
	t.Helper()
	placed, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: request,
		Lines: []stock.Line{{SkuID: sku, Quantity: quantity}}})
	if err != nil {
		t.Fatal(err)
	}
	return placed.Order
}

// Prepaid prepays an order of the customer "c" for a QR code (Native) and gives
// its out_trade_no.
func (f *Fixture) Prepaid(t testing.TB, orderNo string) string {
	t.Helper()
	p, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: orderNo, CustomerID: "c", TradeType: payment.Native,
		Cause: Customer})
	if err != nil {
		t.Fatal(err)
	}
	return p.OutTradeNo
}

// PaidOne places, prepays and pays an order as PlaceOne does, and gives it as it
// was placed.
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

// Causes for tests, one of each kind of actor: the customer "c", two operators who
// decide on refunds (nobody approves alone what needs two), the scheduler, and a
// notification of WeChat Pay.
var (
	Customer  = order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "c"}, Type: "request", ID: "r"}
	Finance   = order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "fin"}, Type: "request", ID: "r"}
	Finance2  = order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "fin2"}, Type: "request", ID: "r"}
	Scheduler = order.Cause{Actor: order.Actor{Type: order.ActorScheduler, ID: "w"}, Type: "task", ID: "t"}
	Notified  = order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification", ID: "n"}
)

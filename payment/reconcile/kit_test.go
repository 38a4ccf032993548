package reconcile_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/reconcile"
	"orderd/payment/reconcile/reconciletest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("orderd/migrations/sqldb/sqldbtest/servers.(*child).Start.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"), goleak.IgnoreAnyFunction("os.(*Process).Wait"))
}

var beijing = time.FixedZone("Beijing", 8*60*60)

// billRow is a line of a bill: a payment, or with a refund number a refund.
type billRow struct {
	at                         time.Time
	transaction, trade         string
	amount, coupon             payment.Fen
	refundID, refundNo, status string
	mchID, title, state        string
	app, sub, kind, currency   string // "" for ours, none, NATIVE, CNY
}

const headAll = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额," +
	"微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"

const sumAll = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"

// billOf writes a bill in WeChat's bytes.
func billOf(rows ...billRow) []byte {
	var b strings.Builder
	b.WriteString("\ufeff" + headAll + "\r\n")
	var paid, back payment.Fen
	for _, r := range rows {
		mch, state := ordertest.MchID, "SUCCESS"
		if r.mchID != "" {
			mch = r.mchID
		}
		if r.state != "" {
			state = r.state
		}
		settled, total, refunded, kind := r.amount, r.amount, payment.Fen(0), ""
		refundID, refundNo := "0", "0"
		if r.refundNo != "" {
			state, settled, total, refunded, kind, refundID, refundNo = "REFUND", 0, 0, r.amount, "ORIGINAL",
				r.refundID, r.refundNo
		}
		settled -= r.coupon
		paid, back = paid+total, back+refunded
		title := r.title
		if title == "" {
			title = "mug"
		}
		cells := []string{r.at.In(beijing).Format(time.DateTime), cmp.Or(r.app, ordertest.AppID), mch,
			cmp.Or(r.sub, "0"), "", r.transaction, r.trade, "openid", cmp.Or(r.kind, "NATIVE"),
			state, "OTHERS", cmp.Or(r.currency, payment.CNY), settled.String(), r.coupon.String(), refundID, refundNo,
			refunded.String(), "0.00", kind, r.status, title, "shop-7", "0.00000", "0.60%", total.String(),
			refunded.String(), ""}
		b.WriteString("`" + strings.Join(cells, ",`") + "\r\n")
	}
	settled := paid
	for _, r := range rows {
		settled -= r.coupon
	}
	fmt.Fprintf(&b, "%s\r\n`%d,`%s,`%s,`0.00,`0.00000,`%s,`%s\r\n", sumAll, len(rows), settled, back, paid, back)
	return []byte(b.String())
}

// mailbox is WeChat's bills, by day.
type mailbox struct {
	mu    sync.Mutex
	bills map[string][]byte
	err   error
	asked int
}

func (m *mailbox) FetchBill(_ context.Context, date string, t payment.BillType, w io.Writer) (payment.Bill, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.err != nil {
		return payment.Bill{}, m.err
	}
	b, ok := m.bills[date]
	if !ok {
		return payment.Bill{}, payment.ErrNoBill
	}
	_, err := w.Write(b)
	sum := sha1.Sum(b)
	return payment.Bill{Date: date, Type: t, SHA1: hex.EncodeToString(sum[:]), Size: int64(len(b))}, err
}

// desk is the finance desk of a shop.
type desk struct {
	*ordertest.Fixture
	*reconcile.Reconciler
	bills *mailbox
	shop  *hookedOrders
	log   *bytes.Buffer
	heard []string // alarms
}

// hookedOrders are the shop's orders; before is called ahead of every payment.
type hookedOrders struct {
	reconcile.Orders
	before func(what string) error
}

func (o *hookedOrders) Settle(ctx context.Context, trade payment.Trade, cause reconcile.Cause) (string, error) {
	if o.before != nil {
		if err := o.before("settle"); err != nil {
			return "", err
		}
	}
	return o.Orders.Settle(ctx, trade, cause)
}

func newDesk(t *testing.T, db *sqldb.DB) *desk {
	t.Helper()
	d := &desk{Fixture: ordertest.NewWith(t, db,
		func(c *order.Config) { c.RefundAutoApprove, c.RefundSpacing = payment.MaxFen, -1 }),
		bills: &mailbox{bills: map[string][]byte{}}, log: new(bytes.Buffer)}
	d.shop = &hookedOrders{Orders: reconciletest.Orders{Service: d.Service}}
	r, err := reconcile.New(reconcile.Config{DB: db, Orders: d.shop, Gateway: d.WeChat, Bills: d.bills,
		Now: d.Clock.Now, MchID: ordertest.MchID, AppIDs: []string{ordertest.AppID}, TempDir: t.TempDir(),
		Log:   slog.New(slog.NewTextHandler(d.log, nil)),
		Alarm: func(what, detail string) { d.heard = append(d.heard, what+"; "+detail) }})
	if err != nil {
		t.Fatal(err)
	}
	d.Reconciler = r
	d.Clock.Set(noon)
	d.SKU(t, "mug", 10_000)
	d.WeChat.Now = d.Clock.Now
	return d
}

// noon is a moment in the middle of the day that most tests reconcile.
var noon = time.Date(2026, 11, 20, 4, 0, 0, 0, time.UTC)

const day = "2026-11-20"

// nobodys is a number of an order that could be ours, and that nobody has placed.
const nobodys = "01JD4ZKX0000000000000000AB-01"

// revoked is a row of the bill that nothing can be booked by: no healing ends it.
func revoked(transaction string, amount payment.Fen) billRow {
	return billRow{at: noon, transaction: transaction, trade: nobodys, amount: amount, state: "REVOKED"}
}

// fin and fin2 are two people of the finance desk.
var fin, fin2 = reconcile.ByOperator("fin", "request", "r"), reconcile.ByOperator("fin2", "request", "r")

func eachDesk(t *testing.T, test func(t *testing.T, d *desk)) {
	t.Helper()
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) { test(t, newDesk(t, db)) })
}

var orders int

// unpaid places and prepays an order and lets the buyer pay at the clock's time;
// nobody tells the shop.
func (d *desk) unheard(t *testing.T) (order.Order, payment.Trade) {
	t.Helper()
	orders++
	o := d.PlaceOne(t, fmt.Sprint("o", orders), "mug", 1)
	trade, err := d.WeChat.Pay(d.Prepaid(t, o.OrderNo), false)
	if err != nil {
		t.Fatal(err)
	}
	trade.SuccessTime = d.Clock.Now()
	d.WeChat.Put(trade)
	return o, trade
}

func (d *desk) paid(t *testing.T) payment.Trade {
	t.Helper()
	_, trade := d.unheard(t)
	if s, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledApplied {
		t.Fatal(s, err)
	}
	return trade
}

// Settle is the service's, not the reconciler's.
func (d *desk) Settle(ctx context.Context, trade payment.Trade, cause order.Cause) (order.Settlement, error) {
	return d.Service.Settle(ctx, trade, cause)
}

func (d *desk) refunded(t *testing.T, trade payment.Trade, amount payment.Fen,
	end payment.RefundStatus) payment.Refund {
	t.Helper()
	orders++
	a, err := d.AskRefund(t.Context(), order.AskRefund{OrderNo: trade.OutTradeNo[:26], CustomerID: "c",
		RequestID: fmt.Sprint("r", orders), Amount: &amount, Reason: "x", Cause: ordertest.Customer})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Refund(t.Context(), a.Refund.OutRefundNo, ordertest.Scheduler); err != nil {
		t.Fatal(err)
	}
	if end == payment.RefundProcessing {
		return d.WeChat.Refunds()[a.Refund.OutRefundNo]
	}
	w := d.WeChat.EndRefund(a.Refund.OutRefundNo, end)
	if _, err := d.SettleRefund(t.Context(), w, ordertest.Notified); err != nil {
		t.Fatal(err)
	}
	return w
}

func payRow(t payment.Trade) billRow {
	return billRow{at: t.SuccessTime, transaction: t.TransactionID, trade: t.OutTradeNo, amount: t.Total}
}

func refundRow(r payment.Refund, status string) billRow {
	return billRow{at: r.CreateTime, transaction: r.TransactionID, trade: r.OutTradeNo, amount: r.Amount,
		refundID: r.RefundID, refundNo: r.OutRefundNo, status: status}
}

func (d *desk) run(t *testing.T, date string) reconcile.Result {
	t.Helper()
	res, err := d.Run(t.Context(), reconcile.RunRequest{Date: date})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// diffs gives the differences of a day as "KIND ref status".
func (d *desk) diffs(t *testing.T, date string) map[string]reconcile.Difference {
	t.Helper()
	all, err := d.Differences(t.Context(), reconcile.DifferenceFilter{Date: date, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]reconcile.Difference{}
	for _, x := range all {
		found[fmt.Sprintf("%s %s", x.Kind, x.Ref)] = x
	}
	return found
}

// dump is everything that finance gets of a day, without when the runs were.
func (d *desk) dump(t *testing.T, date string) string {
	t.Helper()
	s, err := d.Show(t.Context(), reconcile.ID(date, payment.BillAll))
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.Differences(t.Context(), reconcile.DifferenceFilter{Date: date, Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%+v %s\n", *s.Result, s.State)
	if err := reconcile.WriteCSV(&b, all); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

package order_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// heldRest is a payment of 300 that fits no order, of which some goes back on the merchant platform.
type heldRest struct {
	*ordertest.Fixture
	t     *testing.T
	order string
	trade payment.Trade
}

// newHeldRest makes it.
func newHeldRest(t *testing.T, f *ordertest.Fixture) *heldRest {
	t.Helper()
	f.SKU(t, "mug", 3)
	o := f.PlaceOne(t, "a", "mug", 3)
	return &heldRest{Fixture: f, t: t, order: o.OrderNo, trade: heldPayment(t, f, o.OrderNo)}
}

// elsewhere refunds so much of it on the merchant platform, and WeChat Pay tells of it with this status.
func (h *heldRest) elsewhere(no string, amount payment.Fen, status payment.RefundStatus) {
	h.t.Helper()
	onThePlatform(h.t, h.Fixture, order.Order{Payment: &order.Payment{TransactionID: h.trade.TransactionID,
		Total: h.trade.Total}}, no, amount)
	h.told(no, status)
}

// told is WeChat Pay's next word on such a refund.
func (h *heldRest) told(no string, status payment.RefundStatus) {
	h.t.Helper()
	r := h.WeChat.EndRefund(no, status)
	r.MchID = ordertest.MchID
	h.MustSettleRefund(h.t, r)
}

// sendBack sends it back as somebody, and gives the refund that counts by now.
func (h *heldRest) sendBack(who order.Cause, waits bool) order.Refund {
	h.t.Helper()
	if err := h.RefundHeld(h.t.Context(), h.trade.TransactionID, who); errors.Is(err, order.ErrRefundWaits) != waits ||
		(err != nil && !waits) {
		h.t.Fatalf("sent back: %v", err)
	}
	return h.counting()
}

// counting is the refund that takes of it; there must be one.
func (h *heldRest) counting() (found order.Refund) {
	h.t.Helper()
	all, _, err := h.ListRefunds(h.t.Context(), order.RefundFilter{TransactionID: h.trade.TransactionID, Limit: 50})
	n := 0
	for _, r := range all {
		if r.State.Committed() {
			n, found = n+1, r
		}
	}
	if err != nil || n != 1 {
		h.t.Fatalf("%d refunds take of it, %v: %+v", n, err, all)
	}
	return found
}

// refused fails unless nobody can send it back now.
func (h *heldRest) refused(why string) {
	h.t.Helper()
	err := h.RefundHeld(h.t.Context(), h.trade.TransactionID, ordertest.Finance)
	if !errors.As(err, new(*order.RefundRefusedError)) {
		h.t.Errorf("%s: %v", why, err)
	}
}

// paidBack sends a refund of so much, which WeChat Pay pays.
func (h *heldRest) paidBack(r order.Refund, amount payment.Fen) {
	h.t.Helper()
	if r.Amount != amount || r.PaymentTotal != 300 {
		h.t.Fatalf("%s of %s goes back, want %s of 3.00", r.Amount, r.PaymentTotal, amount)
	}
	h.MustLookAtRefund(h.t, r.OutRefundNo)
	if s := h.RefundState(h.t, r.OutRefundNo); s != order.RefundStateProcessing {
		h.t.Fatalf("%s is %s", r.OutRefundNo, s)
	}
	h.MustSettleRefund(h.t, h.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
}

// noLonger has a refund that WeChat Pay cannot take given up, and fails unless it waits for that.
func (h *heldRest) noLonger(r order.Refund) {
	h.t.Helper()
	if s := h.RefundState(h.t, r.OutRefundNo); s != order.RefundStateRefused {
		h.t.Fatalf("%s is %s beside what went back elsewhere", r.OutRefundNo, s)
	}
	h.MustDecide(h.t, r.OutRefundNo, order.RefundEventCancel, ordertest.Finance)
	h.Clock.Advance(2 * time.Minute)
}

// A payment that fits no order was sent back whole, also when a part of it had gone back on the merchant platform:
// WeChat Pay takes no such refund, who had to agree was told to reject it, and the order was closing for ever.
func TestHeldMoneyOfWhichAPartWentBackElsewhere(t *testing.T) {
	one := func(c *order.Config) { c.RefundAutoApprove = payment.MaxFen }
	two := func(c *order.Config) { c.RefundTwoPersons = 250 } // what is left, 200, is below it
	for name, c := range map[string]struct {
		shape func(*order.Config)
		do    func(h *heldRest)
	}{
		"before it is sent back": {one, func(h *heldRest) {
			h.elsewhere("PLATFORM1", 100, payment.RefundSuccess)
			h.paidBack(h.sendBack(ordertest.Finance, false), 200)
		}},
		"in two parts": {one, func(h *heldRest) {
			h.elsewhere("PLATFORM1", 100, payment.RefundSuccess)
			h.elsewhere("PLATFORM2", 199, payment.RefundSuccess)
			h.paidBack(h.sendBack(ordertest.Finance, false), 1)
		}},
		"before two agree to the sum of both": {two, func(h *heldRest) {
			h.elsewhere("PLATFORM1", 100, payment.RefundSuccess)
			h.sendBack(ordertest.Finance, true)
			h.paidBack(h.sendBack(ordertest.Finance2, false), 200)
		}},
		"while it waits for the second person": {two, func(h *heldRest) {
			r := h.sendBack(ordertest.Finance, true)
			h.elsewhere("PLATFORM1", 100, payment.RefundSuccess)
			h.refusedApproval(r)
			h.MustDecide(h.t, r.OutRefundNo, order.RefundEventReject, ordertest.Finance2)
			h.sendBack(ordertest.Finance, true)
			h.paidBack(h.sendBack(ordertest.Finance2, false), 200)
		}},
		"after it is owed": {one, func(h *heldRest) {
			r := h.sendBack(ordertest.Finance, false)
			h.elsewhere("PLATFORM1", 100, payment.RefundSuccess)
			h.MustLookAtRefund(h.t, r.OutRefundNo)
			h.noLonger(r)
			h.paidBack(h.sendBack(ordertest.Finance, false), 200)
		}},
		"after it was sent, and nobody has told": {one, func(h *heldRest) {
			r := h.sendBack(ordertest.Finance, false)
			h.WeChat.Before = loseAll("refund")
			h.MustLookAtRefund(h.t, r.OutRefundNo)
			h.WeChat.Before = nil
			onThePlatform(h.t, h.Fixture, order.Order{Payment: &order.Payment{
				TransactionID: h.trade.TransactionID, Total: h.trade.Total}}, "PLATFORM1", 100)
			h.Clock.Advance(time.Hour)
			h.MustLookAtRefund(h.t, r.OutRefundNo)
			h.Clock.Advance(2 * time.Minute)
			h.noLonger(r)
			h.told("PLATFORM1", payment.RefundSuccess)
			h.paidBack(h.sendBack(ordertest.Finance, false), 200)
		}},
		"all of it": {one, func(h *heldRest) {
			h.elsewhere("PLATFORM1", 300, payment.RefundSuccess)
			h.refused("all of it went back elsewhere")
		}},
		"on its way, and there": {one, func(h *heldRest) {
			h.elsewhere("PLATFORM1", 100, payment.RefundProcessing)
			h.refused("nobody knows what is left")
			h.told("PLATFORM1", payment.RefundSuccess)
			h.paidBack(h.sendBack(ordertest.Finance, false), 200)
		}},
		"on its way, and closed": {one, func(h *heldRest) {
			h.elsewhere("PLATFORM1", 100, payment.RefundProcessing)
			h.refused("nobody knows what is left")
			h.told("PLATFORM1", payment.RefundClosed)
			h.paidBack(h.sendBack(ordertest.Finance, false), 300)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, c.shape, func(t *testing.T, f *ordertest.Fixture) {
				h := newHeldRest(t, f)
				c.do(h)
				f.Clock.Advance(31 * time.Minute)
				expireUntil(t, f, h.order, order.StateClosed, time.Hour)
				if f.Available(t, "mug") != 3 {
					t.Errorf("%d of 3 on the shelf", f.Available(t, "mug"))
				}
			})
		})
	}
}

// refusedApproval fails unless the second person is told why it cannot be agreed to.
func (h *heldRest) refusedApproval(r order.Refund) {
	h.t.Helper()
	_, err := h.DecideRefund(h.t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
		Event: order.RefundEventApprove, Reason: "x", Cause: ordertest.Finance2})
	if !errors.As(err, new(*order.RefundRefusedError)) {
		h.t.Errorf("approved beside what went back elsewhere: %v", err)
	}
}

// WeChat Pay told of a refund under our number before it told of the payment: the row has no order, the payment has.
// The payment was sent back under the row's, which is none: its order was not locked, and its timeline had nothing.
func TestHeldMoneyGoesBackUnderTheOrderOfItsPayment(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 3)
		o := f.PlaceOne(t, "a", "mug", 3)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		trade.AppID = "wx_old"
		f.WeChat.Put(trade)
		h := &heldRest{Fixture: f, t: t, order: o.OrderNo, trade: trade}
		h.elsewhere("R"+trade.TransactionID, 100, payment.RefundSuccess)
		if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		h.paidBack(h.sendBack(ordertest.Finance, false), 200)
		events, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil || !strings.Contains(namesOf(events), "refund.requested") {
			t.Errorf("%s, %v", namesOf(events), err)
		}
	})
}

// A payment is held without an order, whose row was lost, and WeChat Pay says that it was refunded. That was forgotten,
// so that the order, restored, was paid by money that is with its buyer.
func TestHeldMoneyThatWentBackPaysNoRestoredOrder(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "r1", "mug", 2)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		previous(t, f, `UPDATE orders SET order_no = 'LOST' WHERE order_no = ?`, o.OrderNo)
		if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		if _, err := f.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: "PLATFORM",
			TransactionID: trade.TransactionID, Amount: trade.Total, Total: trade.Total}); err != nil {
			t.Fatal(err)
		}
		previous(t, f, `UPDATE orders SET order_no = ? WHERE order_no = 'LOST'`, o.OrderNo)
		if _, err := f.Sync(t.Context(), o.OrderNo, ordertest.Finance); err != nil {
			t.Fatal(err)
		}
		var judged *order.JudgedError
		_, err = f.JudgeHeld(t.Context(), trade.TransactionID, "restored", ordertest.Finance)
		if s := f.State(t, o.OrderNo); !errors.As(err, &judged) || s != order.StatePending {
			t.Errorf("%s: %v", s, err)
		}
	})
}

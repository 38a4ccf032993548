package order_test

import (
	"errors"
	"testing"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// Whether goods come back is the shop's word, by its configuration or by whoever approves: a thousand units that were
// refunded and that nobody put back were sold to nobody.
func TestApproverSaysWhetherGoodsComeBack(t *testing.T) {
	no, yes := false, true
	for name, c := range map[string]struct {
		shop  bool // Config.RefundNoRestock
		ask   func(*order.AskRefund)
		words []*bool // of each approver
		back  bool
	}{
		"nobody says":                {back: true},
		"the shop says no":           {shop: true},
		"the approver says no":       {words: []*bool{&no}},
		"the approver says yes":      {shop: true, words: []*bool{&yes}, back: true},
		"the operator asks for none": {ask: func(a *order.AskRefund) { a.NoRestock = true }},
		"and is overruled": {ask: func(a *order.AskRefund) { a.NoRestock = true }, words: []*bool{&yes},
			back: true},
		"the operator asks for it": {shop: true, ask: func(a *order.AskRefund) { a.Restock = true }, back: true},
		"the last word counts":     {words: []*bool{&no, &yes}, back: true},
		"the first one stands":     {words: []*bool{&no, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, func(cfg *order.Config) {
				cfg.RefundNoRestock = c.shop
				if len(c.words) == 2 {
					cfg.RefundTwoPersons = 1
				}
			}, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 5)
				o := f.PaidOne(t, "r1", "mug", 3)
				ask := ordertest.Ask(o.OrderNo, "k", 2)
				if c.ask != nil {
					ask.CustomerID, ask.Cause = "", order.Cause{
						Actor: order.Actor{Type: order.ActorOperator, ID: "ops"}, Type: "request"}
					c.ask(&ask)
				}
				r := f.MustAsk(t, ask)
				asked := r.Restock
				if c.words == nil {
					c.words = []*bool{nil}
				}
				for i, word := range c.words {
					d := order.RefundDecision{OutRefundNo: r.OutRefundNo, Event: order.RefundEventApprove, Reason: "x",
						Restock: word, Cause: []order.Cause{ordertest.Finance, ordertest.Finance2}[i]}
					var err error
					if r, err = f.DecideRefund(t.Context(), d); err != nil {
						t.Fatal(err)
					}
				}
				if again := f.MustAsk(t, ask); again.Restock != asked {
					t.Errorf("a repeat is answered with another word than the first: %v", again.Restock)
				}
				f.MustLookAtRefund(t, r.OutRefundNo)
				f.MustSettleRefund(t, f.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
				want := map[bool]int64{true: 4, false: 2}[c.back]
				if f.Available(t, "mug") != want || r.Restock != c.back {
					t.Errorf("%d on the shelf, not %d: %+v", f.Available(t, "mug"), want, r)
				}
				for _, d := range []order.RefundDecision{
					{Event: order.RefundEventApprove, Restock: &[]bool{!c.back}[0]},
					{Event: order.RefundEventReject, Restock: &yes},
				} {
					d.OutRefundNo, d.Reason, d.Cause = r.OutRefundNo, "x", ordertest.Finance
					_, err := f.DecideRefund(t.Context(), d)
					var refused *order.RefundRefusedError
					var invalid *order.ValidationError
					if !errors.As(err, &refused) && !errors.As(err, &invalid) {
						t.Errorf("%s says it too late, or out of place: %v", d.Event, err)
					}
				}
			})
		})
	}
}

// All the money without a word of the goods was a way to have them stay away; so was any sum that nobody looked at.
func TestMoneyWithoutGoodsIsForAPerson(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 3)
		part := ordertest.Ask(o.OrderNo, "k1", 0)
		part.Amount, part.NeedsPerson = fen(120), true
		if r := f.MustAsk(t, part); r.State != order.RefundStatePending || r.ApprovalsNeeded != 1 || len(r.Items) != 0 {
			t.Errorf("%+v", r)
		}
		whole := f.PaidOne(t, "r2", "mug", 2)
		all := ordertest.Ask(whole.OrderNo, "k2", 0)
		all.Amount = fen(200)
		if r := f.MustAsk(t, all); len(r.Items) != 1 || r.Items[0].Quantity != 2 || !r.Restock {
			t.Errorf("all of it, and no goods: %+v", r)
		}
	})
}

// Who names goods and asks for less than they cost has them at home, maybe, and puts them back on the shelf: a person
// looks, whatever the sum. Nor is it otherwise of all that is left after a part of the money went back without goods.
// What stays away from the shelf harms nobody.
func TestGoodsForLessThanTheyCostNeedAPerson(t *testing.T) {
	auto := func(c *order.Config) { c.RefundAutoApprove = 1000 }
	eachWith(t, auto, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 14)
		named, left, whole := f.PaidOne(t, "r1", "mug", 5), f.PaidOne(t, "r2", "mug", 3), f.PaidOne(t, "r3", "mug", 1)
		other := f.PaidOne(t, "r4", "mug", 5)
		ask := ordertest.Ask(named.OrderNo, "k1", 5)
		ask.Amount = fen(1)
		part := ordertest.Ask(left.OrderNo, "k2", 0)
		part.Amount = fen(299)
		f.MustAsk(t, part)
		rest := ordertest.Ask(left.OrderNo, "k3", 0)
		for _, a := range []order.AskRefund{ask, rest} {
			r := f.MustAsk(t, a)
			if r.State != order.RefundStatePending || r.ApprovalsNeeded != 1 || len(r.Items) != 1 {
				t.Errorf("%s for %v: %s, %d approvals", r.Amount, r.Items, r.State, r.ApprovalsNeeded)
			}
		}
		full, broken := ordertest.Ask(whole.OrderNo, "k4", 1), ordertest.Ask(other.OrderNo, "k5", 5)
		broken.Amount, broken.NoRestock = fen(1), true
		for _, a := range []order.AskRefund{full, broken} {
			if r := f.MustAsk(t, a); r.State != order.RefundStateOwed {
				t.Errorf("%s for %v, to the shelf %t: %s", r.Amount, r.Items, r.Restock, r.State)
			}
		}
	})
}

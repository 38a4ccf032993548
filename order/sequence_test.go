package order_test

import (
	"flag"
	"os"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"orderd/order"
)

// longRun says that this is a long run, by hand.
func longRun() bool { return os.Getenv("ORDERD_TEST_LONG") == "1" }

// long is more in a long run, else n, or a quarter of it (1 at least) under the race
// detector.
func long(n, more int) int {
	switch {
	case longRun():
		return more
	case raced:
		return max(n/4, 1)
	}
	return n
}

// sequences makes rapid.Check of this test run n sequences, or more in long tests.
func sequences(t *testing.T, n, more int) {
	t.Helper()
	n = long(n, more)
	checks := flag.Lookup("rapid.checks")
	was := checks.Value.String()
	if err := checks.Value.Set(strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = checks.Value.Set(was) })
}

// paper is an order without a database: what the machine says is done to it, and its money and stock are counted.
type paper struct {
	state           order.State
	stock, paid     int // units out, fen taken in for the order
	owed            int // fen of late and second payments that have to go back
	refunds         []slip
	closed, revived int
}

type slip struct {
	state  order.RefundState
	amount int
	owed   bool
	late   bool // of the money that made the order late
}

const cost = 6 // fen, so that refunds of one to three fill it

func (p *paper) event(t *rapid.T, e order.Event) {
	c := order.Next(p.state, e)
	if c.Verdict == order.VerdictMove {
		p.state = c.To
	}
	switch c.Effect {
	case order.EffectNone, order.EffectCloseReason:
	case order.EffectReturnStock:
		p.stock--
		p.closed++
	case order.EffectDeductStock:
		p.stock++
		p.revived++
	case order.EffectOweRefund:
		p.owed += cost
		late := c.Verdict == order.VerdictMove
		p.refunds = append(p.refunds, slip{order.RefundStateOwed, cost, true, late})
	}
	if (e == order.EventPay && c.Verdict == order.VerdictMove && c.Effect == order.EffectNone) ||
		(e == order.EventRevive && c.Verdict == order.VerdictMove) {
		p.paid += cost
	}
}

// end applies the end of one of its refunds to the order, as batch.moveRefund does.
func (p *paper) end(t *rapid.T, s slip) {
	own := func(r slip) bool { // those that the order waits for
		return p.state == order.StateRefunding && !r.owed || p.state == order.StateLate && r.late
	}
	if s.state.Open() || !own(s) {
		return
	}
	open, back := false, 0
	for _, r := range p.refunds {
		if !own(r) {
			continue
		}
		open = open || r.state.Open()
		if r.state.PaidBack() {
			back += r.amount
		}
	}
	switch {
	case open:
		p.event(t, order.EventRefundNext)
	case s.state.PaidBack() && (p.state == order.StateLate || back >= cost):
		p.event(t, order.EventRefundAll)
	case s.state.PaidBack():
		p.event(t, order.EventRefundPart)
	default:
		p.event(t, order.EventRefundFail)
	}
}

// sum adds up the refunds of the order's own payment, or of those that are owed.
func (p *paper) sum(owed bool, counts func(order.RefundState) bool) int {
	n := 0
	for _, r := range p.refunds {
		if r.owed == owed && counts(r.state) {
			n += r.amount
		}
	}
	return n
}

func (p *paper) check(t *rapid.T) {
	has := told[p.state]
	back, open := p.sum(false, order.RefundState.PaidBack), p.sum(false, order.RefundState.Open)
	switch {
	case p.state != order.StateRefunded && (p.stock == 1) != has.stock, p.stock < 0 || p.stock > 1:
		t.Fatalf("%s holds %d of its stock", p.state, p.stock)
	case p.closed > 1 || p.revived > 1:
		t.Fatalf("closed %d times, revived %d times", p.closed, p.revived)
	case p.paid > cost:
		t.Fatalf("paid %d of %d", p.paid, cost)
	case p.sum(false, order.RefundState.Committed) > p.paid:
		t.Fatalf("%d go back of %d paid", p.sum(false, order.RefundState.Committed), p.paid)
	case p.sum(true, order.RefundState.Committed) != p.owed:
		t.Fatalf("%d owed, %d on their way", p.owed, p.sum(true, order.RefundState.Committed))
	case (p.state == order.StatePaid || p.state == order.StateRefunding) && (p.paid != cost || back == cost):
		t.Fatalf("%s with %d paid and %d back", p.state, p.paid, back)
	case (p.state == order.StateRefunding) != (open > 0):
		t.Fatalf("%s with %d under way", p.state, open)
	case p.state == order.StateRefunded && p.paid == cost && back != cost:
		t.Fatalf("refunded with %d back", back)
	case p.state == order.StateRefunded && p.paid == 0 && p.sum(true, order.RefundState.PaidBack) < cost:
		t.Fatal("a late order refunded, and its money is here")
	case p.state == order.StateLate && (p.paid != 0 || p.owed == 0):
		t.Fatalf("late with %d paid, %d owed", p.paid, p.owed)
	}
}

// A cell that is right by itself can be wrong after sixty others: random lives of an order and its refunds, with every
// unit and every fen counted at each step.
func TestMachineKeepsStockAndMoney(t *testing.T) {
	sequences(t, 20_000, 200_000) // 5,000 under the race detector
	reached := map[order.State]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := &paper{state: order.StatePending, stock: 1}
		plan := rapid.SliceOfN(rapid.Uint16(), 60, 60).Draw(t, "steps")
		for _, n := range plan {
			step, which := int(n%16), int(n/16)
			switch {
			case step < 4:
				p.event(t, []order.Event{order.EventCancel, order.EventExpire, order.EventCloseDone,
					order.EventPay}[step])
			case step == 4:
				if order.Next(p.state, order.EventRevive).Verdict == order.VerdictMove {
					p.event(t, order.EventRevive)
				}
			case step < 8: // somebody asks for money back, in bounds
				amount := 1 + which%3
				if order.Next(p.state, order.EventRefund).Verdict != order.VerdictRefuse &&
					p.sum(false, order.RefundState.Committed)+amount <= p.paid {
					p.refunds = append(p.refunds, slip{order.RefundStatePending, amount, false, false})
					p.event(t, order.EventRefund)
				}
			case len(p.refunds) > 0: // something happens to a refund
				i := which % len(p.refunds)
				r := &p.refunds[i]
				e := order.RefundEvents()[which/8%len(order.RefundEvents())]
				c := order.NextRefund(r.state, e)
				if c.Verdict != order.VerdictMove ||
					(r.owed && (e == order.RefundEventReject || e == order.RefundEventCancel)) {
					continue
				}
				if r.state.PaidBack() {
					t.Fatalf("money that went back moves on %s", e)
				}
				if r.state = c.To; r.state == order.RefundStateClosed { // another number takes its place
					p.refunds = append(p.refunds, slip{order.RefundStateOwed, r.amount, r.owed, r.late})
				}
				p.end(t, p.refunds[i])
			}
			p.check(t)
			reached[p.state]++
		}
	})
	for _, s := range order.States() {
		if reached[s] == 0 {
			t.Errorf("no sequence was ever %s: the steps do not get there", s)
		}
	}
	t.Log(reached)
}

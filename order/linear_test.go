package order_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/model"
	"orderd/stock"
)

// checkLimit is how long one history may be thought about; longer counts as failed.
const checkLimit = 3 * time.Minute

// call is what a client asked: an event of an order, or units of a SKU.
type call struct {
	what  order.Event
	units int64
}

// reply is what it was answered; unknown when the answer never came.
type reply struct {
	state   order.State
	settled order.Settled
	left    int64
	ok      bool
	unknown bool
}

// orderModel is one order, one step at a time. A cancel is three calls at once:
// the event, the end of the close, which may come at any later time, and a read.
var orderModel = porcupine.Model{
	Init: func() any { return order.StatePending },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(order.State), input.(call), output.(reply)
		to := s
		if in.what != model.Get {
			if c := order.Next(s, in.what); c.Verdict == order.VerdictMove {
				to = c.To
			}
		}
		switch {
		case out.unknown:
			return true, to
		case in.what == model.Get:
			return out.state == s, s
		case in.what == order.EventPay:
			want := order.SettledRepeated
			if to == order.StatePaid && s != to {
				want = order.SettledApplied
			}
			if to == order.StateLate && s != to {
				want = order.SettledOwed
			}
			return out.settled == want && out.state == to, to
		}
		return true, to
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " → ", output) },
}

// shelfModel is what is left of one SKU that began with n.
func shelfModel(n int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return n },
		Step: func(state, input, output any) (bool, any) {
			left, in, out := state.(int64), input.(call), output.(reply)
			switch {
			case in.what == model.Get:
				return out.left == left, left
			case !out.ok:
				return left < in.units, left
			}
			return left >= in.units, left - in.units // a negative number of units comes back
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " → ", output) },
	}
}

// history is what the clients of one order or SKU saw.
type history struct {
	mu    sync.Mutex
	begin time.Time
	next  int
	ops   []porcupine.Operation
}

func newHistory() *history { return &history{begin: time.Now()} }

func (h *history) now() int64 { return time.Since(h.begin).Nanoseconds() }

// add writes an operation down; until math.MaxInt64 it may still happen.
func (h *history) add(from, until int64, in call, out reply) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.unknown {
		until = math.MaxInt64
	}
	h.next++ // every operation is a client of its own: they overlap as their times say
	h.ops = append(h.ops, porcupine.Operation{ClientId: h.next, Input: in, Call: from, Output: out, Return: until})
}

func mustBeLinear(t *testing.T, m porcupine.Model, h *history, what string) {
	t.Helper()
	if got := porcupine.CheckOperationsTimeout(m, h.ops, checkLimit); got != porcupine.Ok {
		slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
		t.Errorf("%s is not linearizable (%s):", what, got)
		for _, o := range h.ops {
			t.Logf("%12d %20d %s", o.Call, o.Return, m.DescribeOperation(o.Input, o.Output))
		}
	}
}

// Clients that pay, cancel, expire and read one order at the same time, some of them impatient: what they see must be
// what one after the other could have seen. Without it a read could go back in time, or two of them both win.
func TestOrdersAreLinearizable(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10_000)
		seed := uint64(time.Now().UnixNano())
		t.Log("seed", seed)
		ends := map[order.State]int{}
		for n := range long(40, 400) {
			no := f.PlaceOne(t, fmt.Sprint("k", n), "mug", 1).OrderNo
			out := f.Prepaid(t, no)
			o, err := f.Find(t.Context(), no)
			if err != nil {
				t.Fatal(err)
			}
			f.Clock.Set(o.DueAt)
			h := newHistory()
			var clients sync.WaitGroup
			for i, do := range []func(context.Context, *rand.Rand){
				func(ctx context.Context, r *rand.Rand) { pay(ctx, t, f, h, out, r.IntN(2) == 0) },
				func(ctx context.Context, _ *rand.Rand) { stop(ctx, t, f, h, no) },
				func(ctx context.Context, _ *rand.Rand) { stop(ctx, t, f, h, no) },
				func(ctx context.Context, _ *rand.Rand) { expire(ctx, t, f, h, no) },
				func(ctx context.Context, _ *rand.Rand) { read(ctx, f, h, no, 4) },
				func(ctx context.Context, _ *rand.Rand) { read(ctx, f, h, no, 4) },
			} {
				rnd := rand.New(rand.NewPCG(seed, uint64(n*10+i)))
				clients.Go(func() {
					ctx := t.Context()
					if rnd.IntN(5) == 0 {
						var end context.CancelFunc
						ctx, end = context.WithTimeout(ctx, time.Duration(rnd.IntN(3_000_000)))
						defer end()
					}
					spread := 2_000_000
					if i == 0 {
						spread *= 8 // the closes go through the database before they reach WeChat
					}
					time.Sleep(time.Duration(rnd.IntN(spread))) // who comes first
					do(ctx, rnd)
				})
			}
			clients.Wait()
			read(t.Context(), f, h, no, 1)
			mustBeLinear(t, orderModel, h, no)
			ends[f.State(t, no)]++
		}
		t.Log(ends)
	})
}

// unknown reports that a client went away; nothing else may go wrong here.
func unknown(t *testing.T, err error) bool {
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	return err != nil
}

func pay(ctx context.Context, t *testing.T, f *ordertest.Fixture, h *history, out string, late bool) {
	trade, err := f.WeChat.Pay(out, late)
	for range 2 {
		if err != nil {
			return
		}
		from := h.now()
		s, err := f.Settle(ctx, trade, ordertest.Notified)
		h.add(from, h.now(), call{what: order.EventPay}, reply{state: s.State, settled: s.Settled,
			unknown: unknown(t, err)})
	}
}

func stop(ctx context.Context, t *testing.T, f *ordertest.Fixture, h *history, no string) {
	from := h.now()
	o, err := f.Cancel(ctx, cancel(no))
	until := h.now()
	var refused *order.RefusedError
	if errors.As(err, &refused) {
		o, err = refused.Order, nil
	}
	closing(f, h, no, from, until, unknown(t, err))
	if err == nil {
		h.add(from, until, call{what: model.Get}, reply{state: o.State})
	}
}

func expire(ctx context.Context, t *testing.T, f *ordertest.Fixture, h *history, no string) {
	from := h.now()
	err := f.Expire(ctx, no, ordertest.Scheduler)
	if errors.As(err, new(*order.NotDueError)) {
		return // somebody else asks WeChat at this moment
	}
	closing(f, h, no, from, h.now(), unknown(t, err))
}

// closing writes down what a cancel or a timeout does: the event, and what WeChat
// answers when it is asked: closed, or the payment, if there is one by then.
func closing(f *ordertest.Fixture, h *history, no string, from, until int64, lost bool) {
	h.add(from, until, call{what: order.EventCancel}, reply{unknown: lost})
	h.add(from, math.MaxInt64, call{what: order.EventCloseDone}, reply{unknown: true})
	if trade, _ := f.WeChat.Trade(no + "-01"); trade.Paid() {
		h.add(from, math.MaxInt64, call{what: order.EventPay}, reply{unknown: true})
	}
}

func read(ctx context.Context, f *ordertest.Fixture, h *history, no string, times int) {
	for range times {
		from := h.now()
		o, err := f.Find(ctx, no)
		if err == nil {
			h.add(from, h.now(), call{what: model.Get}, reply{state: o.State})
		}
	}
}

// Eight clients place and cancel against a SKU of which there is too little: "sold out" must have been true at some
// moment of the call, and nobody may get a unit that was not there.
func TestShelvesAreLinearizable(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		for n := range long(4, 100) {
			id, had := fmt.Sprint("sku", n), int64(2+n%5)
			f.SKU(t, id, had)
			h := newHistory()
			var clients sync.WaitGroup
			for c := range 8 {
				clients.Go(func() { trade(t, f, h, id, fmt.Sprintf("%s-%d", id, c), 25) })
			}
			clients.Wait()
			mustBeLinear(t, shelfModel(had), h, id)
		}
	})
}

// trade is one client of a SKU: it places while it can and cancels what it has.
func trade(t *testing.T, f *ordertest.Fixture, h *history, sku, key string, ops int) {
	var mine string
	for i := range ops {
		from := h.now()
		switch {
		case i%5 == 4:
			s, err := f.Admin.Find(t.Context(), sku)
			if err != nil {
				t.Error(err)
				return
			}
			h.add(from, h.now(), call{what: model.Get}, reply{left: s.Available})
		case mine != "":
			if _, err := f.Cancel(t.Context(), cancel(mine)); err != nil {
				t.Error(err)
				return
			}
			h.add(from, h.now(), call{units: -1}, reply{ok: true})
			mine = ""
		default:
			placed, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: fmt.Sprint(key, "-", i),
				Lines: []stock.Line{{SkuID: sku, Quantity: 1}}})
			if err != nil && !errors.As(err, new(*order.InsufficientError)) {
				t.Error(err)
				return
			}
			h.add(from, h.now(), call{units: 1}, reply{ok: err == nil})
			mine = placed.Order.OrderNo
		}
	}
}

// A checker that accepts everything proves nothing: each of these histories is impossible, but for the few that are
// possible because their calls overlap.
func TestWrongHistoriesAreRefused(t *testing.T) {
	type op struct {
		from, until int64
		in          call
		out         reply
	}
	get := func(s order.State) (call, reply) { return call{what: model.Get}, reply{state: s} }
	at := func(from, until int64, in call, out reply) op { return op{from, until, in, out} }
	seen := func(from, until int64, s order.State) op { in, out := get(s); return at(from, until, in, out) }
	paid := func(from, until int64, s order.State, settled order.Settled) op {
		return at(from, until, call{what: order.EventPay}, reply{state: s, settled: settled})
	}
	event := func(from, until int64, e order.Event) op { return at(from, until, call{what: e}, reply{}) }
	take := func(from, until int64, ok bool) op { return at(from, until, call{units: 1}, reply{ok: ok}) }
	for name, c := range map[string]struct {
		model porcupine.Model
		ops   []op
		want  porcupine.CheckResult
	}{
		"paid and closed": {orderModel, []op{paid(0, 1, order.StatePaid, order.SettledApplied),
			event(2, 3, order.EventCancel), event(4, 5, order.EventCloseDone), seen(6, 7, order.StateClosed)},
			porcupine.Illegal},
		"a read that goes back": {orderModel, []op{paid(0, 10, order.StatePaid, order.SettledApplied),
			seen(1, 2, order.StatePaid), seen(3, 4, order.StatePending)}, porcupine.Illegal},
		"paid over closed": {orderModel, []op{event(0, 1, order.EventCancel),
			event(2, 3, order.EventCloseDone), seen(4, 5, order.StateClosed),
			paid(6, 7, order.StatePaid, order.SettledApplied)}, porcupine.Illegal},
		"applied twice": {orderModel, []op{paid(0, 5, order.StatePaid, order.SettledApplied),
			paid(1, 4, order.StatePaid, order.SettledApplied)}, porcupine.Illegal},
		"an answer that was lost": {orderModel, []op{at(0, math.MaxInt64, call{what: order.EventPay},
			reply{unknown: true}), seen(5, 6, order.StatePending), seen(7, 8, order.StatePaid)}, porcupine.Ok},
		"the right one of two": {orderModel, []op{paid(0, 5, order.StatePaid, order.SettledApplied),
			event(1, 4, order.EventCancel), seen(2, 3, order.StateClosing), seen(6, 7, order.StatePaid)}, porcupine.Ok},
		"one unit sold twice":    {shelfModel(1), []op{take(0, 5, true), take(1, 4, true)}, porcupine.Illegal},
		"sold out with one left": {shelfModel(1), []op{take(0, 1, false)}, porcupine.Illegal},
		"a unit that never returns": {shelfModel(1), []op{take(0, 1, true), at(2, 3, call{units: -1}, reply{ok: true}),
			take(4, 5, false)}, porcupine.Illegal},
		"sold out while it is held": {shelfModel(1), []op{take(0, 9, true), take(1, 2, false),
			at(3, 4, call{what: model.Get}, reply{left: 0})}, porcupine.Ok},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			for _, o := range c.ops {
				h.add(o.from, o.until, o.in, o.out)
			}
			if got := porcupine.CheckOperationsTimeout(c.model, h.ops, checkLimit); got != c.want {
				t.Errorf("%s, not %s", got, c.want)
			}
		})
	}
}

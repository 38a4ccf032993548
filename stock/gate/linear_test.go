package gate_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
)

// taken is a call for units of a SKU, negative for units that come back; a call for none reads what is for sale.
type taken struct{ units int64 }

// told is what it was answered.
type told struct {
	ok   bool
	left int64
}

// saleModel is what is for sale of a SKU that began with n.
func saleModel(n int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return n },
		Step: func(state, input, output any) (bool, any) {
			left, in, out := state.(int64), input.(taken), output.(told)
			switch {
			case in.units == 0:
				return out.left == left, left
			case !out.ok:
				return left < in.units, left
			}
			return left >= in.units, left - in.units
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " → ", output) },
	}
}

// history is what the buyers of one SKU saw.
type history struct {
	mu    sync.Mutex
	begun time.Time
	ops   []porcupine.Operation
}

func (h *history) now() int64 { return time.Since(h.begun).Nanoseconds() }

// add writes a call down that began then and ends now. What comes back is for sale when the SKU is sold again, at any
// later time.
func (h *history) add(from int64, in taken, out told) {
	until := h.now()
	if in.units < 0 {
		until = math.MaxInt64
	}
	h.until(from, until, in, out)
}

// until writes a call down.
func (h *history) until(from, until int64, in taken, out told) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: len(h.ops), Input: in, Call: from, Output: out, Return: until})
}

// verdict thinks about a history for a while.
func (h *history) verdict(n int64) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(saleModel(n), h.ops, 3*time.Minute)
}

// buyer is somebody who buys, gives back and looks.
type buyer struct {
	*ordertest.Fixture
	h    *history
	name string
	n    int
}

// buys places an order for units of a SKU, and gives its number, "" when it was refused.
func (b *buyer) buys(t *testing.T, sku string, units int64) string {
	b.n++
	from := b.h.now()
	placed, err := b.Place(t.Context(), order.Placement{CustomerID: b.name, RequestID: fmt.Sprint("k", b.n),
		Lines: []stock.Line{{SkuID: sku, Quantity: units}}})
	switch {
	case err == nil, errors.As(err, new(*order.InsufficientError)):
		b.h.add(from, taken{units}, told{ok: err == nil})
	case !errors.Is(err, sqldb.ErrUnavailable): // then nothing happened
		t.Error(err)
	}
	return placed.Order.OrderNo
}

// givesBack cancels an order of so many units.
func (b *buyer) givesBack(t *testing.T, orderNo string, units int64) {
	from := b.h.now()
	b.cancels(t, orderNo)
	b.h.add(from, taken{-units}, told{ok: true})
}

// cancels cancels an order, and writes nothing down.
func (b *buyer) cancels(t *testing.T, orderNo string) {
	cause := order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: b.name}, Type: "request"}
	if _, err := b.Cancel(t.Context(), order.CancelRequest{OrderNo: orderNo, CustomerID: b.name,
		Cause: cause}); err != nil {
		t.Error(err)
	}
}

// looks reads what is for sale, in the pool and in all buckets, by one statement.
func (b *buyer) looks(t *testing.T, sku string) {
	from := b.h.now()
	left := gatetest.Count(t, b.DB, `SELECT CASE WHEN s.closed_until > ? THEN 0 ELSE s.available + (
    SELECT COALESCE(SUM(b.remaining), 0)
    FROM stock_buckets b
    WHERE b.sku_id = s.sku_id
      AND b.state = 'open') END
FROM skus s
WHERE s.sku_id = ?`, sqldb.Millis(time.Now()), sku)
	b.h.add(from, taken{}, told{left: left})
}

// soldOut has a pod buy all units of a SKU, and waits until every pod refuses it from memory. It gives the order.
func soldOut(t *testing.T, b *buyer, pods []*gatetest.Pod, sku string, units int64) (orderNo string) {
	t.Helper()
	gatetest.Eventually(t, "all is sold to one", func() bool {
		orderNo = b.buys(t, sku, units)
		return orderNo != ""
	})
	for _, p := range pods {
		other := &buyer{Fixture: p.Fixture, h: b.h, name: "late" + b.name}
		gatetest.Eventually(t, "refused from memory", func() bool {
			other.buys(t, sku, 1)
			return p.Asks(sku) != nil
		})
	}
	return orderNo
}

// sellsAgain has two units come back to a SKU that is sold out, the first of them sold by a young process, which has
// read no mark, as soon as it can, and the second asked for at the pod in the same moment. It reports whether the buyer
// of the first gets his order at the pod too. marked is called before the units come back, returned right after.
func sellsAgain(t *testing.T, h *history, young *ordertest.Fixture, pod *gatetest.Pod, sku string, round int,
	marked, returned func()) (repeats bool) {
	t.Helper()
	a := &buyer{Fixture: young, h: h, name: fmt.Sprint("a", round)}
	b := &buyer{Fixture: pod.Fixture, h: h, name: fmt.Sprint("b", round)}
	all := soldOut(t, a, []*gatetest.Pod{pod}, sku, 2)
	marked()
	a.givesBack(t, all, 2)
	returned()
	first := ""
	gatetest.Eventually(t, "a unit is sold again", func() bool {
		first = a.buys(t, sku, 1)
		return first != ""
	})
	again, err := b.Place(t.Context(), order.Placement{CustomerID: a.name, RequestID: fmt.Sprint("k", a.n),
		Lines: []stock.Line{{SkuID: sku, Quantity: 1}}})
	second := b.buys(t, sku, 1)
	a.givesBack(t, first, 1)
	if second != "" {
		b.givesBack(t, second, 1)
	}
	return err == nil && again.Order.OrderNo == first
}

// A mark that outlives the reopening of its SKU refuses units that are for sale, and tells somebody with an order that
// it is sold out. Neither a clock that is behind, nor a COMMIT of the reopening that stalls may do that: the process
// that reopens is two seconds behind here. A mark that is believed too long must be seen to fail, or this sees nothing.
func TestReopeningWaitsForEveryMark(t *testing.T) {
	for name, c := range map[string]struct {
		apart  time.Duration // the clock of the young process is ahead of the pod's
		late   bool          // the one who reopens takes the time two seconds before its COMMIT
		beyond time.Duration // how long the pod believes a mark, 0 for as long as it may
		rounds int
	}{
		"as it is":           {rounds: 2},
		"clocks apart":       {apart: 300 * time.Millisecond, rounds: 2},
		"a clock behind":     {apart: -300 * time.Millisecond, rounds: 2},
		"a COMMIT that lags": {late: true, rounds: 2},
		"believed too long":  {beyond: 20 * time.Second, rounds: 1},
	} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				f := ordertest.NewWith(t, db, func(oc *order.Config) { oc.Now = time.Now })
				young := f.Restarted(t, func(oc *order.Config) {
					oc.Now = func() time.Time { return time.Now().Add(c.apart) }
				})
				pod := gatetest.Beside(t, f, "pod", nil)
				marked, returned := func() {}, func() {}
				if c.beyond > 0 {
					pod.Gate.Believe(c.beyond)
					marked = func() {
						gatetest.Eventually(t, "believed for long", func() bool {
							until, _ := pod.Gate.MarkUntil("hot")
							return time.Until(until) > c.beyond/2
						})
					}
				}
				pod.Keep(t)
				pod.SKU(t, "hot", 2)
				gatetest.Set(t, db, []*gatetest.Pod{pod}, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
				h := &history{begun: time.Now()}
				if c.late {
					behind := stock.NewAdmin(db, func() time.Time { return time.Now().Add(-2 * time.Second) })
					returned = func() {
						if _, err := behind.Reopen(t.Context(), "hot"); err != nil {
							t.Fatal(err)
						}
					}
				}
				for round := range c.rounds {
					repeats := sellsAgain(t, h, young, pod, "hot", round, marked, returned)
					if repeats != (c.beyond == 0) {
						t.Errorf("round %d: the order of a buyer is his answer at the pod: %t", round, repeats)
					}
				}
				want := porcupine.Ok
				if c.beyond > 0 {
					want = porcupine.Illegal
				}
				if got := h.verdict(2); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		})
	}
}

// Buyers at three processes take and look, while the SKU is sold out, units of it come back and are sold again: what
// each of them is told was so at some moment of its call.
func TestSaleIsLinearizable(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const stocked, buyers, rounds, back = 150, 6, 3, 5
		pods := gatetest.Pods(t, db, 3, nil)
		pods[0].SKU(t, "hot", stocked)
		gatetest.Set(t, db, pods, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		seed := uint64(time.Now().UnixNano())
		t.Log("seed", seed)
		h := &history{begun: time.Now()}
		whole := &buyer{Fixture: pods[0].Fixture, h: h, name: "whole"}
		nos := make([]string, rounds)
		for i := range nos {
			nos[i] = whole.buys(t, "hot", back)
		}
		pods[0].Held(t, "hot")
		crowd := make([]*buyer, buyers)
		for i := range crowd {
			crowd[i] = &buyer{Fixture: pods[i%len(pods)].Fixture, h: h, name: fmt.Sprint("c", i)}
		}
		everybody(t, crowd, seed, stocked-rounds*back) // the first sale
		for i, no := range nos {
			gatetest.Eventually(t, "everybody is refused from memory", func() bool {
				crowd[0].buys(t, "hot", 1)
				return !slices.ContainsFunc(pods, func(p *gatetest.Pod) bool { return p.Asks("hot") == nil })
			})
			from := h.now()
			whole.cancels(t, no)
			first := everybody(t, crowd, seed+uint64(i), back)
			h.until(from, first, taken{-back}, told{ok: true}) // it was for sale when one of them was sold
		}
		if got := h.verdict(stocked); got != porcupine.Ok {
			slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
			for _, o := range h.ops {
				t.Logf("%12d %20d %v → %v", o.Call, o.Return, o.Input, o.Output)
			}
			t.Error("not linearizable: ", got)
		}
	})
}

// everybody buys until n units are sold, and gives when the first of them was.
func everybody(t *testing.T, crowd []*buyer, seed uint64, n int64) (first int64) {
	t.Helper()
	var sold, when atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(2 * time.Minute)
	for i, b := range crowd {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for sold.Load() < n && time.Now().Before(end) {
				units := rnd.Int64N(3) + 1
				if b.buys(t, "hot", units) != "" {
					when.CompareAndSwap(0, b.h.now())
					sold.Add(units)
					continue
				}
				b.looks(t, "hot")
				time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond) // who comes next
			}
		})
	}
	all.Wait()
	if sold.Load() != n {
		t.Fatalf("%d units sold, and there are %d", sold.Load(), n)
	}
	return when.Load()
}

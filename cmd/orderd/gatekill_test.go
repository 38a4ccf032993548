package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"time"

	"orderd/order/orderhttp"
	"orderd/stock"
)

// shopper buys everything that there is of a SKU, each time as another customer, until he is refused; what he was told
// of is his.
type shopper struct {
	s    *scene
	n    int
	dead *atomic.Bool // the process is: the rest is not asked
}

// place asks as a new customer and gives the answer.
func (b *shopper) place(body string) answer {
	if b.dead.Load() {
		return answer{}
	}
	b.n++
	token, err := orderhttp.MintToken([]byte(victimSecret), fmt.Sprint("buyer", b.n), time.Now(), time.Hour)
	if err != nil {
		return answer{}
	}
	return b.s.try(b.s.api, token, "/v1/orders", fmt.Sprint("key", b.n), body)
}

// buy buys by ever smaller quantities, so that Redis has some of it, the pool gets short, and the last unit goes. Every
// price that is wrong gives units back. It gives how many units were promised.
func (b *shopper) buy() (units int64) {
	for _, quantity := range []int64{2, 100, 10, 1} {
		for n := 0; quantity > 2 || n < 20; n++ {
			a := b.place(fmt.Sprintf(`{"items":[{"sku_id":"1001","quantity":%d}]}`, quantity))
			if a.status != http.StatusCreated && a.status != http.StatusServiceUnavailable {
				break
			}
			if a.status == http.StatusCreated {
				units += quantity
			}
			b.place(`{"items":[{"sku_id":"1001","quantity":1}],"expected_total":{"total":1}}`)
		}
	}
	return units
}

// emptied are the steps that a sale comes to when the pool gets short.
var emptied = []string{"gate.recalled", "gate.marked", "gate.reopened"}

// warm buys one by one, and gives back, until the step is reached, or until something was sold from Redis where the
// step comes at the end of the sale. A busy machine has no bucket in Redis yet when the buyers come, or finds Redis
// away for a moment, and makes no bucket there when they have bought almost all there is. Each buys at a wrong price
// too, which gives units of a ticket back.
func (b *shopper) warm() {
	for !b.dead.Load() && !b.s.reached() {
		b.place(`{"items":[{"sku_id":"1001","quantity":1}]}`)
		b.place(`{"items":[{"sku_id":"1001","quantity":1}],"expected_total":{"total":1}}`)
		if slices.Contains(emptied, b.s.point.Name) && b.s.soldFromRedis() {
			return
		}
		b.s.giveOneBack()
		time.Sleep(20 * time.Millisecond) // a look of the keeper is every quarter of a second
	}
}

// soldFromRedis reports that a unit of a bucket in Redis was sold.
func (s *scene) soldFromRedis() bool {
	return s.number(`SELECT COUNT(*)
FROM stock_flows f
JOIN stock_buckets b ON b.bucket_id = f.bucket_id
WHERE b.home = 'redis'`) > 0
}

// saleSteps are the steps of a local gate to which a sale in Redis comes too.
var saleSteps = []string{"gate.taken", "gate.recalled", "gate.marked", "gate.reopened"}

// killSale: whoever dies in a sale in Redis, the rest of the units is sold to the last one by the process that comes
// after, and none twice.
func killSale(s *scene) {
	gate := func(mode stock.GateMode) {
		s.t.Helper()
		if _, err := s.core.stock.SetGate(s.t.Context(), stock.GateChange{SkuID: "1001", Mode: mode, Buckets: 2,
			Actor: "cli:test", Reason: "a kill"}); err != nil {
			s.t.Fatal(err)
		}
	}
	env := []string{"ORDERD_PAY_WITHIN=1h", "ORDERD_GATE_AUTO=false"}
	gate(stock.GateRedis)
	s.startArmed(env...)
	var dead atomic.Bool
	first := &shopper{s: s, dead: &dead}
	done := make(chan struct{})
	go func() {
		defer close(done)
		first.warm()
		for !dead.Load() {
			first.buy()
			s.giveOneBack()
		}
	}()
	s.dies()
	dead.Store(true)
	<-done
	s.start(env...)
	last := &shopper{s: s, n: first.n + 1, dead: new(atomic.Bool)}
	s.until("the rest is never sold", func() bool {
		last.buy()
		return s.number(`SELECT COALESCE(SUM(i.quantity), 0)
FROM order_items i
JOIN orders o ON o.order_no = i.order_no
WHERE o.state = 'pending'`) == shelved
	})
	gate(stock.GateOff)
	want(s, "buckets that are open", s.number(`SELECT COUNT(*) FROM stock_buckets WHERE state <> 'closed'`), 0)
	want(s, "in the pool", s.onShelf(), 0)
	verify := exec.Command(s.binary, "verify")
	verify.Env = append(os.Environ(), s.env...)
	if out, err := verify.CombinedOutput(); err != nil {
		s.t.Errorf("step %s %s: orderd verify: %v\n%s", s.point.No, s.point.Name, err, out)
	}
}

// giveOneBack cancels an order of the sale, so that what was sold out is opened again.
func (s *scene) giveOneBack() {
	var no, customer string
	if err := s.core.db.QueryRowContext(s.t.Context(), `SELECT order_no, customer_id
FROM orders
WHERE state = 'pending'
LIMIT 1`).Scan(&no, &customer); err != nil {
		return // nobody has one
	}
	if token, err := orderhttp.MintToken([]byte(victimSecret), customer, time.Now(), time.Hour); err == nil {
		s.try(s.api, token, "/v1/orders/"+no+"/cancel", "", `{"reason":"x"}`)
	}
}

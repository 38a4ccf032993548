package redisgate_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/stock"
	"orderd/stock/gate"
	"orderd/stock/gate/redisgate"
)

// quiet is a sale of which only the test is a keeper, with a bucket of its own.
func quiet(m *market, now func() time.Time) (*redisgate.Shared, func()) {
	m.Helper()
	m.pods[0].Stop()
	m.pods[0].SKU(m, "hot", 1000)
	m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis})
	s := redisgate.NewShared(redisgate.SharedConfig{DB: m.db, Client: m.client, Now: now, Observe: m})
	look := func() {
		m.Helper()
		g, _, err := stock.NewAdmin(m.db, time.Now).FindGate(m.Context(), "hot")
		if err == nil {
			err = s.Keep(m.Context(), []*stock.Gate{&g})
		}
		if err != nil {
			m.Fatal(err)
		}
	}
	look() // begins an epoch
	look()
	return s, look
}

// checks asserts the ids of the checks that Verify finds broken.
func (m *market) checks(s *redisgate.Shared, want ...string) {
	m.Helper()
	found, err := s.Verify(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	if found.Buckets == 0 {
		m.Error("nothing was looked at")
	}
	var broken []string
	for _, c := range found.Broken() {
		broken = append(broken, c.ID)
	}
	if !slices.Equal(broken, want) {
		m.Errorf("verify finds %+v, want %v", found, want)
	}
}

// one gives the only key of a kind.
func (m *market) one(pattern string) string {
	m.Helper()
	keys, err := m.client.Keys(m.Context(), pattern).Result()
	if err != nil || len(keys) != 1 {
		m.Fatal(pattern, keys, err)
	}
	return keys[0]
}

// bought takes units of the quiet sale for somebody, whose order never comes.
func (m *market) bought(s *redisgate.Shared, no int, customer string) (settle func(gate.Outcome)) {
	m.Helper()
	taken := s.Take(&gate.Claim{CustomerID: customer, RequestID: "key", OrderNo: order(no, customer).OrderNo,
		Lines: []stock.Line{{SkuID: "hot", Quantity: 7}}}, []int{0})
	if taken.Settle == nil {
		m.Fatal("nothing was taken")
	}
	return taken.Settle
}

// A flow that Redis has lost lets a repeat take units a second time, and its return be refused; a bucket that it has
// lost or that another hand has written to is sold by nobody, or to too many. Each way is named.
func TestVerifyNamesWhatRedisLost(t *testing.T) {
	onMarkets(t, 1, func(m *market) {
		for name, wrong := range map[string]struct {
			plant func(ctx context.Context) error
			want  []string
		}{
			"a flow": {func(ctx context.Context) error {
				return m.client.HDel(ctx, m.one("inventory_flow_*"), redisgate.LineID(order(1, "ann").OrderNo, 1)).Err()
			}, []string{"redis.flows"}},
			"a quantity": {func(ctx context.Context) error {
				return m.client.HIncrBy(ctx, m.one("inventory_flow_*"), redisgate.LineID(order(1, "ann").OrderNo, 1),
					2).Err()
			}, []string{"redis.flows"}},
			"units": {func(ctx context.Context) error {
				return m.client.DecrBy(ctx, m.one("sku_leaved_amount_*"), 3).Err()
			}, []string{"redis.flows"}},
			"the bucket": {func(ctx context.Context) error {
				return m.client.Del(ctx, m.one("gate_{*")).Err()
			}, []string{"redis.left"}},
			"its number": {func(ctx context.Context) error {
				return m.client.Del(ctx, m.one("sku_leaved_amount_*")).Err()
			}, []string{"redis.left"}},
		} {
			if err := m.client.FlushAll(m.Context()).Err(); err != nil {
				m.Fatal(err)
			}
			if _, err := m.db.Pool().ExecContext(m.Context(), "UPDATE stock_gates SET mode = 'off'"); err != nil {
				m.Fatal(err)
			}
			s, _ := quiet(m, time.Now)
			m.bought(s, 1, "ann")
			m.bought(s, 2, "bob")(gate.Unused)
			m.until("what bob did not want is back", func() bool {
				n, err := m.client.HLen(m.Context(), m.one("inventory_flow_*")).Result()
				back, err2 := m.client.Exists(m.Context(), strings.Replace(m.one("inventory_flow_*"), "flow", "back",
					1)).Result()
				return err == nil && err2 == nil && n == 2 && back == 1
			})
			m.checks(s)
			if err := wrong.plant(m.Context()); err != nil {
				m.Fatal(name, err)
			}
			m.Log(name)
			m.checks(s, wrong.want...)
		}
	})
}

// Who verifies in the middle of a sale, as one does who is worried, must not be told of differences that are only the
// moment between two reads: he would end the sale for them.
func TestVerifyInMidSaleInventsNothing(t *testing.T) {
	onMarkets(t, 2, func(m *market) {
		const stocked = 3000
		m.sell("hot", stocked, 2)
		d := m.buyers(8, "hot")
		m.soldFromRedis(50)
		s := redisgate.NewShared(redisgate.SharedConfig{DB: m.db, Client: m.client, Now: time.Now})
		ended := make(chan struct{})
		go func() { defer close(ended); d.end(stocked) }()
		runs := 0
		for selling := true; selling; runs++ {
			select {
			case <-ended:
				selling = false
			default:
			}
			if runs == 5 { // more buckets under way
				if _, err := stock.NewAdmin(m.db, time.Now).RenewBuckets(m.Context(), stock.Renewal{SkuID: "hot",
					Buckets: 4, Actor: "li", Reason: "more of them"}); err != nil {
					m.Fatal(err)
				}
			}
			m.checks(s)
		}
		if runs < 10 {
			m.Errorf("only %d runs: nothing was tested", runs)
		}
	})
}

// Units that Redis has and the database has not would be seen by nobody, and have one buyer after the other sent to the
// pool: verify names them, and the keeper gives the bucket up at its second look.
func TestDriftIsFoundAndMended(t *testing.T) {
	onMarkets(t, 1, func(m *market) {
		s, look := quiet(m, time.Now)
		m.checks(s)
		keys, err := m.client.Keys(m.Context(), "sku_leaved_amount_*").Result()
		if err != nil || len(keys) != 1 {
			m.Fatal(keys, err)
		}
		if err := m.client.IncrBy(m.Context(), keys[0], 5).Err(); err != nil {
			m.Fatal(err)
		}
		m.checks(s, "redis.left", "redis.flows")
		before := m.epochs.Load()
		look()
		if m.epochs.Load() != before {
			m.Error("the moment between two reads was taken for a drift")
		}
		look()
		if m.epochs.Load() != before+1 {
			m.Error("the drift is not mended")
		}
		look()
		m.checks(s)
	})
}

// The units of a process that died with a ticket would be idle as long as the sale lasts: they are back in the bucket
// when the ticket is old, once, and the log does not keep it.
func TestTicketOfADeadProcessComesBack(t *testing.T) {
	onMarkets(t, 1, func(m *market) {
		later := func() time.Time { return time.Now().Add(3 * time.Minute) }
		old, look := quiet(m, time.Now)
		taken := old.Take(&gate.Claim{CustomerID: "ann", RequestID: "key", OrderNo: order(1, "ann").OrderNo,
			Lines: []stock.Line{{SkuID: "hot", Quantity: 7}}}, []int{0})
		if taken.Settle == nil || taken.Buckets[0] == 0 {
			m.Fatal("nothing was taken")
		}
		look()
		left := func() int64 {
			m.Helper()
			keys, err := m.client.Keys(m.Context(), "sku_leaved_amount_*").Result()
			if err != nil || len(keys) != 1 {
				m.Fatal(keys, err)
			}
			n, err := m.client.Get(m.Context(), keys[0]).Int64()
			if err != nil {
				m.Fatal(err)
			}
			return n
		}
		before := left()
		after := redisgate.NewShared(redisgate.SharedConfig{DB: m.db, Client: m.client, Now: later, Observe: m})
		m.checks(after, "redis.streams")
		g, _, err := stock.NewAdmin(m.db, time.Now).FindGate(m.Context(), "hot")
		if err != nil {
			m.Fatal(err)
		}
		for range 2 {
			if err := after.Keep(m.Context(), []*stock.Gate{&g}); err != nil {
				m.Fatal(err)
			}
		}
		if n := left(); n != before+7 {
			m.Errorf("%d units are left, want %d and 7", n, before)
		}
		m.checks(after)
		// The process was only stopped. What it says now is said in turn with a later ticket of its own.
		taken.Settle(gate.Unused)
		taken = old.Take(&gate.Claim{CustomerID: "bob", RequestID: "key", OrderNo: order(2, "bob").OrderNo,
			Lines: []stock.Line{{SkuID: "hot", Quantity: 1}}}, []int{0})
		if taken.Settle == nil {
			m.Fatal("nothing was taken")
		}
		taken.Settle(gate.Unused)
		m.until("both are back, the first of them once", func() bool { return left() == before+7 })
	})
}

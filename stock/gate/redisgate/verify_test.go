package redisgate_test

import (
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

// checks asserts the names of what Verify finds.
func (m *market) checks(s *redisgate.Shared, want ...string) {
	m.Helper()
	found, err := s.Verify(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	var names []string
	for _, c := range found {
		names = append(names, c.Name)
	}
	if len(names) != len(want) || len(want) == 1 && names[0] != want[0] {
		m.Errorf("verify finds %+v, want %v", found, want)
	}
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
		m.checks(s, "redis.left")
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

package gate_test

import (
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
	"orderd/stock/gate"
)

// claim is a placement of one customer.
func claim(customer string) *gate.Claim { return &gate.Claim{CustomerID: customer, RequestID: "key"} }

// A mark that is believed for longer than it is worth refuses what is for sale again: it lapses when the row said, or a
// second after it was read, whatever a batch or the table told.
func TestMarkIsBelievedForASecond(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		p := gatetest.Beside(t, f, "pod", nil)
		p.SKU(t, "hot", 0)
		p.SKU(t, "soon", 10)
		opens := time.Now().Add(300 * time.Millisecond)
		gatetest.Set(t, db, nil, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		gatetest.Set(t, db, nil, stock.GateChange{SkuID: "soon", Mode: stock.GateLocal, OpensAt: opens})
		p.Buy(t, "c", "k", "hot") // is told so, and marks it
		if err := gate.NewKeeper(p.Gate, p.Service).Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		read := time.Now()
		if until, ok := p.Gate.MarkUntil("hot"); !ok || until.After(read.Add(stock.MarkFor)) {
			t.Errorf("marked %t, believed until %s after it was read", ok, until.Sub(read))
		}
		if until, ok := p.Gate.MarkUntil("soon"); ok && until.After(opens) {
			t.Errorf("believed until %s after the sale has begun", until.Sub(opens))
		}
		asOf := time.Now()
		p.Gate.Learn(stock.News{Closed: []stock.Closed{{SkuID: "hot", For: time.Hour}}}, asOf)
		if until, _ := p.Gate.MarkUntil("hot"); until.After(asOf.Add(stock.MarkFor)) {
			t.Errorf("a batch said an hour, and it is believed for %s", until.Sub(asOf))
		}
	})
}

// Keys that were read under one mark say nothing of the orders between it and the next: whoever has one of those would
// be told sold out. Only a mark that was read, to the end, while the last one stood goes on with its keys.
func TestKeysAreOfTheirMark(t *testing.T) {
	begun := time.Now()
	at := func(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }
	for name, c := range map[string]struct {
		asOf, read int // of the second mark, in milliseconds; the first one ends at 60,000
		goesOn     bool
	}{
		"read while the first stood":              {59_000, 59_100, true},
		"begun while it stood, ended as it ended": {59_999, 60_000, false},
		"begun while it stood, ended later":       {59_999, 60_500, false},
		"begun when it had ended":                 {60_000, 60_001, false},
	} {
		m := new(gate.Marks)
		if !m.Read(at(0), at(1), time.Minute) {
			t.Fatal("the keys of a first mark are there")
		}
		if m.Refuses(claim("new")) {
			t.Error("refused before the keys were read")
		}
		m.Keys(claim("has"))
		if !m.Refuses(claim("new")) || m.Refuses(claim("has")) {
			t.Error("under its mark somebody new is not refused, or somebody with an order is")
		}
		if incomplete := m.Read(at(c.asOf), at(c.read), time.Minute); incomplete == c.goesOn {
			t.Errorf("%s: the keys are to be read: %t", name, incomplete)
		}
		if m.Refuses(claim("new")) != c.goesOn {
			t.Errorf("%s: refused by the keys of the first mark: %t", name, !c.goesOn)
		}
	}
	m := new(gate.Marks)
	m.Read(at(0), at(0), time.Minute)
	m.Keys()
	m.Read(at(-5000), at(1), 2*time.Second) // an older word, that came later
	if !m.Until().Equal(at(60_000)) || !m.Refuses(claim("new")) {
		t.Error("an older mark has shortened a newer one")
	}
	past := new(gate.Marks)
	past.Read(at(-2000), at(-1000), time.Second)
	past.Keys()
	if past.Refuses(claim("new")) {
		t.Error("refused by a mark that has lapsed")
	}
}

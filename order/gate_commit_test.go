package order_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/order"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
	"orderd/stock/gate"
)

// lostSale is a sale on a server whose COMMITs of placements can be lost: those of the gates' loops go another way.
type lostSale struct {
	*testing.T
	db    *sqldb.DB
	proxy *faultproxy.Proxy
	pods  []*gatetest.Pod
}

// newLostSale starts processes with so many units of the SKU "hot", in a gate of mode local.
func newLostSale(t *testing.T, server interface {
	TCPDSN(addr, db string) string
}, addr, database string, processes int, units int64) *lostSale {
	t.Helper()
	proxy, err := faultproxy.NewMySQL(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	s := &lostSale{T: t, db: sqldbtest.Open(t, server.TCPDSN(addr, database)), proxy: proxy}
	through := sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), database))
	s.pods = gatetest.Pods(t, through, processes, func(cfg *gate.Config, _ *order.Config) { cfg.DB = s.db })
	s.pods[0].SKU(t, "hot", units)
	gatetest.Set(t, s.db, s.pods, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
	return s
}

// place places so many units with a COMMIT that meets a mode, and repeats it until there is an answer, as a buyer does
// who is told that it is unknown. What became of it is one order.
func (s *lostSale) place(p *gatetest.Pod, key string, units int64, mode faultproxy.Mode) {
	s.Helper()
	before := s.proxy.Hits(mode)
	s.proxy.NextAbout(key, mode)
	for range 20 {
		_, err := p.Place(s.Context(), order.Placement{CustomerID: "c-" + key, RequestID: key,
			Lines: []stock.Line{{SkuID: "hot", Quantity: units}}})
		if err == nil {
			break
		}
		if !errors.Is(err, sqldb.ErrUnknown) && !errors.Is(err, sqldb.ErrUnavailable) {
			s.Fatalf("%s, %s: %v", key, mode, err)
		}
	}
	if n := s.proxy.Hits(mode) - before; n != 1 {
		s.Fatalf("%s: %d COMMITs met %q", key, n, mode)
	}
	for query, want := range map[string]int64{
		"SELECT COUNT(*) FROM orders WHERE request_id = ?": 1,
		`SELECT COALESCE(-SUM(f.delta), 0)
FROM stock_flows f
JOIN orders o ON o.order_no = f.order_no
WHERE o.request_id = ?`: units,
	} {
		if n := gatetest.Count(s, s.db, query, key); n != want {
			s.Errorf("%s, %s: %d, want %d: %s", key, mode, n, want, query)
		}
	}
}

// adds asserts that pool and buckets have what is not sold.
func (s *lostSale) adds(unsold int64) {
	s.Helper()
	if n := gatetest.Count(s, s.db, `SELECT s.available + COALESCE((
  SELECT SUM(b.remaining)
  FROM stock_buckets b
  WHERE b.sku_id = s.sku_id), 0)
FROM skus s
WHERE s.sku_id = 'hot'`); n != unsold {
		s.Errorf("pool and buckets have %d units, want %d", n, unsold)
	}
}

var lostModes = []faultproxy.Mode{faultproxy.CutBefore, faultproxy.CutAfter, faultproxy.Stall, faultproxy.Late}

// A COMMIT without an answer leaves it open whether units of a bucket are sold: run again by the same numbers they are
// sold once, and a bucket that stays in doubt is given up, so that what its memory believes is sold to nobody (L3). The
// rest is sold to the last unit.
func TestLostCommitOfABatchFromABucket(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	for i, mode := range lostModes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprint("lost", i)
			if err := server.Create(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			const stocked, tries = 2000, 5
			s := newLostSale(t, server, server.Addr, name, 1, stocked)
			sold := int64(0)
			for try := range int64(tries) {
				s.pods[0].Held(t, "hot")
				s.place(s.pods[0], fmt.Sprintf("key-%d-%d-", i, try), 3, mode)
				sold += 3
				s.adds(stocked - sold)
			}
			if n := gatetest.Count(t, s.db, "SELECT COUNT(*) FROM stock_flows WHERE bucket_id <> 0"); n == 0 {
				t.Error("nothing was sold from a bucket")
			}
			for units := int64(500); units > 0; {
				_, err := s.pods[0].Place(t.Context(), order.Placement{CustomerID: "rest",
					RequestID: fmt.Sprint(sold), Lines: []stock.Line{{SkuID: "hot", Quantity: units}}})
				switch {
				case err == nil:
					sold += units
				case errors.As(err, new(*order.InsufficientError)):
					units /= 2
				default:
					t.Fatal(err)
				}
			}
			if sold != stocked {
				t.Errorf("%d of %d sold", sold, stocked)
			}
			s.adds(0)
		})
	}
}

// A COMMIT that nobody can find out about leaves units in limbo: the process gives its bucket up and does not go on
// with what its memory believes. The repeat of the key finds the order, or places it, and all is sold once (L3).
func TestUnknownBatchGivesItsBucketUp(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	for i, mode := range []faultproxy.Mode{faultproxy.CutBefore, faultproxy.CutAfter} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel() // each waits for a bucket of its own to be given up
			name := fmt.Sprint("limbo", i)
			if err := server.Create(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			const stocked = 2000
			s := newLostSale(t, server, server.Addr, name, 1, stocked)
			s.pods[0].Held(t, "hot")
			bucket := gatetest.Count(t, s.db, "SELECT bucket_id FROM stock_buckets WHERE state = 'open'")
			p := order.Placement{CustomerID: "c", RequestID: "key", Lines: []stock.Line{{SkuID: "hot", Quantity: 3}}}
			s.proxy.Every(1, mode)
			_, err := s.pods[0].Place(t.Context(), p)
			s.proxy.Every(0, faultproxy.Pass)
			if !errors.Is(err, sqldb.ErrUnknown) {
				t.Fatalf("with every COMMIT lost: %v", err)
			}
			next := s.pods[0].Gate.Take(&gate.Claim{CustomerID: "next", RequestID: "key", Lines: p.Lines})
			if slices.Contains(next.Buckets, bucket) {
				t.Error("the bucket is sold from as if nothing had happened")
			}
			s.pods[0].Gate.Settle(next, gate.Unused)
			gatetest.Eventually(t, "its row is closed", func() bool {
				return gatetest.Count(t, s.db, "SELECT COUNT(*) FROM stock_buckets WHERE bucket_id = ? AND "+
					"state = 'closed'", bucket) == 1
			})
			s.place(s.pods[0], "other", 3, mode) // beside it, whatever became of that
			if _, err := s.pods[0].Place(t.Context(), p); err != nil {
				t.Error(err)
			}
			if n := gatetest.Count(t, s.db, "SELECT COUNT(*) FROM orders WHERE request_id = 'key'"); n != 1 {
				t.Errorf("%d orders of the key", n)
			}
			s.adds(stocked - 6)
		})
	}
}

// A recall whose COMMIT has no answer may have closed the buckets of others or not: run again, it finds them closed, or
// closes them, once, and the units are there once (L6).
func TestLostCommitOfARecall(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	for i, mode := range lostModes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprint("recall", i)
			if err := server.Create(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			const stocked, rest = 1000, 10
			s := newLostSale(t, server, server.Addr, name, 2, stocked)
			s.pods[0].Held(t, "hot")
			held := gatetest.Count(t, s.db, "SELECT COALESCE(SUM(remaining), 0) FROM stock_buckets")
			if held == 0 {
				t.Fatal("nothing is in a bucket")
			}
			s.place(s.pods[1], fmt.Sprintf("key-%d-", i), stocked-rest, mode)
			s.adds(rest)
			const closed = "SELECT COUNT(DISTINCT bucket_id) FROM stock_moves WHERE cause = 'close'"
			const closes = "SELECT COUNT(*) FROM stock_moves WHERE cause = 'close'"
			if n := gatetest.Count(t, s.db, closed); n == 0 || n != gatetest.Count(t, s.db, closes) {
				t.Errorf("%d buckets were closed, or one of them twice", n)
			}
			for n := range rest { // by the one whose memory has them still
				if !s.pods[0].Buy(t, "c", fmt.Sprint(n), "hot") {
					t.Errorf("refused with %d unsold", rest-n)
				}
			}
			if s.pods[0].Buy(t, "c", "more", "hot") {
				t.Error("one too many was sold")
			}
			s.adds(0)
		})
	}
}

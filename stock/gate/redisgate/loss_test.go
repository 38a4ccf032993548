package redisgate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
	"orderd/stock/gate/redisgate"
)

// soldFromRedis waits until some more units were sold out of buckets in Redis.
func (m *market) soldFromRedis(more int64) {
	m.Helper()
	before := m.fromRedis()
	m.until("more is sold from Redis", func() bool { return m.fromRedis() >= before+more })
}

// A Redis that forgets everything, or its scripts, in the middle of a sale would oversell what was sold before, or sell
// nothing any more: it sells again by itself, every order stands, and the last unit is sold once.
func TestRedisForgetsInMidSale(t *testing.T) {
	losses := map[string]func(context.Context, redis.UniversalClient) error{
		"FLUSHALL":     func(ctx context.Context, c redis.UniversalClient) error { return c.FlushAll(ctx).Err() },
		"SCRIPT FLUSH": func(ctx context.Context, c redis.UniversalClient) error { return c.ScriptFlush(ctx).Err() },
		"one key": func(ctx context.Context, c redis.UniversalClient) error {
			keys, err := c.Keys(ctx, "sku_leaved_amount_*").Result()
			if err != nil || len(keys) == 0 {
				return fmt.Errorf("no key to lose: %w", err)
			}
			return c.Del(ctx, keys[0]).Err()
		},
	}
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			onMarkets(t, 2, func(m *market) {
				const stocked = 2500
				m.sell("hot", stocked, 2)
				d := m.buyers(8, "hot")
				m.soldFromRedis(100)
				before := m.epochs.Load()
				if err := lose(m.Context(), m.client); err != nil {
					m.Fatal(err)
				}
				if name != "SCRIPT FLUSH" { // of which go-redis takes care
					m.until("there is a new epoch", func() bool { return m.epochs.Load() > before })
				}
				m.soldFromRedis(100)
				d.end(stocked)
			})
		})
	}
}

// snapshot keeps all keys as they are.
func snapshot(t *testing.T, c redis.UniversalClient) map[string]string {
	t.Helper()
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	dump := map[string]string{}
	for _, k := range keys {
		text, err := c.Dump(t.Context(), k).Result()
		if err != nil {
			t.Fatal(err)
		}
		dump[k] = text
	}
	return dump
}

// A Redis that is put back to an earlier snapshot has units again that were sold: none of them is sold a second time,
// and nobody is told a lie. It is noticed, and the sale goes on with new buckets.
func TestRedisGoesBackInTime(t *testing.T) {
	t.Run("mariadb and redis-server", func(t *testing.T) { // miniredis has no RESTORE of hashes and streams
		m := newMarket(t, sqldbtest.MariaDB(t), sqldbtest.RedisServer(t).Addr, 2)
		const stocked = 3000
		m.sell("hot", stocked, 2)
		m.until("there are buckets", func() bool {
			return m.count("SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND state = 'open'") == 2
		})
		old := snapshot(t, m.client)
		d := m.buyers(8, "hot")
		m.soldFromRedis(150)
		before := m.epochs.Load()
		pipe := m.client.TxPipeline()
		pipe.FlushAll(t.Context())
		for k, text := range old {
			pipe.RestoreReplace(t.Context(), k, 0, text)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.until("it is noticed", func() bool { return m.epochs.Load() > before })
		m.soldFromRedis(100)
		d.end(stocked)
	})
}

// A Redis that refuses, hangs or is full would stop the sale, or have buyers wait: it goes on without Redis, and comes
// back to it.
func TestRedisAwayInMidSale(t *testing.T) {
	const stocked = 6000
	ends := map[string]func(t *testing.T, m *market, stop, start func()){
		"comes back": func(t *testing.T, m *market, stop, start func()) {
			m.slow.Store(true) // else all is sold before it is back
			d := m.buyers(4, "hot")
			m.soldFromRedis(100)
			stop()
			m.until("it is away", func() bool { return m.away.Load() >= int64(len(m.pods)) })
			sold := d.sold.Load()
			m.until("it sells without Redis", func() bool { return d.sold.Load() > sold+100 })
			start()
			m.soldFromRedis(100)
			d.end(stocked)
		},
		"stays away": func(_ *testing.T, m *market, stop, _ func()) {
			d := m.buyers(4, "hot")
			m.soldFromRedis(100)
			stop()
			d.end(stocked)
		},
	}
	for end, test := range ends {
		t.Run("connection refused, "+end, func(t *testing.T) {
			r := miniredis.RunT(t)
			m := newMarket(t, sqldbtest.SQLite(t), r.Addr(), 2)
			m.sell("hot", stocked, 2)
			test(t, m, r.Close, func() {
				r.FlushAll()
				if err := r.Restart(); err != nil {
					t.Fatal(err)
				}
			})
		})
		t.Run("it hangs, "+end, func(t *testing.T) {
			r := sqldbtest.RedisServer(t)
			m := newMarket(t, sqldbtest.MariaDB(t), r.Addr, 2)
			m.sell("hot", stocked, 2)
			test(t, m, r.Pause, r.Resume)
		})
		t.Run("it is full, "+end, func(t *testing.T) {
			r := sqldbtest.RedisServer(t)
			m := newMarket(t, sqldbtest.MariaDB(t), r.Addr, 2)
			m.sell("hot", stocked, 2)
			limit := func(bytes string) func() {
				return func() {
					if err := m.client.ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			test(t, m, limit("1"), limit("0"))
		})
	}
}

// A change of the number of buckets under load would refuse somebody, or leave units in a bucket that nobody asks any
// more: nobody notices, and all is sold.
func TestBucketsAreScaledUnderLoad(t *testing.T) {
	const stocked = 6000
	onMarkets(t, 2, func(m *market) {
		m.sell("hot", stocked, 1)
		d := m.buyers(8, "hot")
		for _, buckets := range []int64{8, 1} {
			m.soldFromRedis(100)
			m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: buckets})
			m.until("there are so many", func() bool {
				return m.count("SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND state = 'open'") == buckets
			})
		}
		m.soldFromRedis(100)
		d.end(stocked)
	})
}

// Of a cart of two SKUs of one sale one might be taken and the other not, or units be stranded in one part of a
// bucket: both are taken by one script, and all carts are sold.
func TestCartsOfOneSale(t *testing.T) {
	const stocked = 1000
	onMarkets(t, 2, func(m *market) {
		for _, sku := range []string{"ball", "bat"} {
			m.pods[0].SKU(m, sku, stocked)
		}
		for _, sku := range []string{"ball", "bat"} {
			m.setGate(stock.GateChange{SkuID: sku, Sale: "both", Mode: stock.GateRedis, Buckets: 2})
		}
		m.until("there are buckets of both", func() bool {
			return m.count("SELECT COUNT(*) FROM stock_buckets WHERE home = 'redis' AND state = 'open'") == 4
		})
		m.buyers(8, "ball", "bat").end(stocked)
		if n := m.count("SELECT COUNT(*) FROM stock_flows WHERE bucket_id = 0"); n == 2*stocked {
			m.Error("no cart was sold from Redis")
		}
	})
}

// A keeper that dies between any two of its steps would leave units that nobody sells, or units in Redis that the
// database does not have. Each state that such a death leaves is made here, and a sale begins on it.
func TestKeeperDiesBetweenItsSteps(t *testing.T) {
	const stocked = 1200
	type death = func(*market, *redisgate.Home, stock.Gate, redisgate.Bucket)
	deaths := map[string]death{
		"opened in Redis, no row": func(m *market, home *redisgate.Home, g stock.Gate, b redisgate.Bucket) {
			m.openBucket(home, g, b)
		},
		"granted, but not in Redis": func(m *market, home *redisgate.Home, g stock.Gate, b redisgate.Bucket) {
			m.openBucket(home, g, b)
			m.grantRow(g, b, 1, 500)
		},
		"the second grant is missing": func(m *market, home *redisgate.Home, g stock.Gate, b redisgate.Bucket) {
			m.openBucket(home, g, b)
			units := m.grantRow(g, b, 1, 300)
			if _, err := home.Grant(m.Context(), b, redisgate.Move{SkuID: g.SkuID,
				BucketID: stock.SharedBucket(g.SkuID, b.Token, b.No), Seq: 1, Units: units}); err != nil {
				m.Fatal(err)
			}
			m.grantRow(g, b, 2, 300)
		},
		"an epoch without a bucket": func(m *market, home *redisgate.Home, g stock.Gate, b redisgate.Bucket) {
			m.openBucket(home, g, b)
			m.grantRow(g, b, 1, 500)
			begun, err := stock.NewAdmin(m.db, time.Now).NewEpoch(m.Context(), g.Sale,
				map[string]int64{g.SkuID: g.Epoch}, 0, false)
			if err != nil || !begun {
				m.Fatal(begun, err)
			}
		},
		"Redis sells on after a recall": func(m *market, home *redisgate.Home, g stock.Gate, b redisgate.Bucket) {
			m.openBucket(home, g, b)
			units := m.grantRow(g, b, 1, 500)
			id := stock.SharedBucket(g.SkuID, b.Token, b.No)
			if _, err := home.Grant(m.Context(), b, redisgate.Move{SkuID: g.SkuID, BucketID: id, Seq: 1,
				Units: units}); err != nil {
				m.Fatal(err)
			}
			if err := stock.NewAdmin(m.db, time.Now).CloseBuckets(m.Context(), []int64{id}, time.Now()); err != nil {
				m.Fatal(err)
			}
		},
	}
	for name, die := range deaths {
		t.Run(strings.ReplaceAll(name, ",", ""), func(t *testing.T) {
			onMarkets(t, 2, func(m *market) {
				for _, p := range m.pods {
					p.Stop()
				}
				m.pods[0].SKU(m, "hot", stocked)
				m.setGate(stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Buckets: 2})
				admin := stock.NewAdmin(m.db, time.Now)
				g, _, err := admin.FindGate(m.Context(), "hot")
				if err != nil {
					m.Fatal(err)
				}
				begun, err := admin.NewEpoch(m.Context(), "hot", map[string]int64{"hot": g.Epoch}, 0, false)
				if err != nil || !begun {
					m.Fatal(begun, err)
				}
				g.Epoch++
				die(m, redisgate.New(m.client, ""), g, redisgate.Bucket{Sale: "hot", Token: g.Epoch})
				old := m.pods
				m.pods = nil
				for range old {
					m.start(old[0].Fixture)
				}
				d := m.buyers(8, "hot")
				d.end(stocked)
			})
		})
	}
}

// openBucket opens a bucket as the keeper does.
func (m *market) openBucket(home *redisgate.Home, g stock.Gate, b redisgate.Bucket) {
	m.Helper()
	made, err := home.Open(m.Context(), b, redisgate.Opening{Slices: []redisgate.Slice{
		{SkuID: g.SkuID, BucketID: stock.SharedBucket(g.SkuID, b.Token, b.No)}}})
	if err != nil || !made {
		m.Fatal(made, err)
	}
}

// grantRow moves units into the row of a bucket.
func (m *market) grantRow(g stock.Gate, b redisgate.Bucket, seq, want int64) (units int64) {
	m.Helper()
	move := stock.Grant{Bucket: stock.SharedBucket(g.SkuID, b.Token, b.No), SkuID: g.SkuID, Home: stock.HomeRedis,
		Epoch: b.Token, No: b.No, Seq: seq, Want: want, At: time.Now()}
	err := m.db.InTx(m.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		units, err = move.Move(ctx, tx)
		return err
	})
	if err != nil || units == 0 {
		m.Fatal(units, err)
	}
	return units
}

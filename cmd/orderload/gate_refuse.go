package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/stock/gate"
)

// gateRefuseCmd is "orderload gate refuse": how fast somebody is told that nothing is left.
type gateRefuseCmd struct {
	Callers int  `default:"16" help:"Callers of the ledger, and connections over HTTP."`
	HTTP    bool `name:"http" help:"Over HTTP: token, limiter, JSON, 409."`
}

// The SKUs that are sold out: one with a gate, one that the ledger refuses.
const hotSKU, coldSKU = "hot", "cold"

// Run measures refusals. A statement that a refusal from memory sent is an error.
func (r *gateRefuseCmd) Run(ctx context.Context, set *bench.Settings) error {
	if r.HTTP {
		columns := []string{"over HTTP", "connections", "per s", "p50", "p99", "from memory", "SQL statements", "ratio"}
		return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
			return r.overHTTP(ctx, set, shop)
		})
	}
	columns := []string{"refused", "per s", "p50", "p99", "from memory", "SQL statements", "ratio"}
	return withShop(ctx, set, columns, func(ctx context.Context, shop *bench.Shop) ([]gateRow, error) {
		return r.inProcess(ctx, set, shop)
	})
}

// refuser is a process in which a SKU with a gate is sold out. Its service has a pool under a
// user of its own, by which its statements are counted; the gate's loop has the shop's.
type refuser struct {
	*bench.Gated
	shop   *bench.Shop
	db     *sqldb.DB
	memory *memoryRefusals
}

// memoryRefusals counts the refusals that a gate has said from memory.
type memoryRefusals struct{ n atomic.Int64 }

// GateDecision counts one.
func (m *memoryRefusals) GateDecision(_, code string) {
	if code == "sold_out" {
		m.n.Add(1)
	}
}

// GateFenced is not counted.
func (*memoryRefusals) GateFenced() {}

// GateGranted is not counted.
func (*memoryRefusals) GateRecalled(int)                 {}
func (*memoryRefusals) GateGranted(int64, time.Duration) {}

// refuserUser is the user of that pool.
const refuserUser = "refuser"

// startRefuser makes one; the caller closes it.
func startRefuser(ctx context.Context, shop *bench.Shop) (*refuser, error) {
	err := errors.Join(putSKU(ctx, shop.DB.DB, coldSKU, 0), putHot(ctx, shop.DB.DB, hotSKU, 1))
	if err != nil {
		return nil, err
	}
	db, err := shop.DB.As(ctx, refuserUser)
	if err != nil {
		return nil, err
	}
	c := shop.Config
	c.DB = db
	memory := &memoryRefusals{}
	// NoAuto: the SKU that the ledger refuses would be found hot, and refused from memory too.
	s, err := bench.NewGated(ctx, c, gate.Config{DB: shop.DB.DB, Observe: memory, NoAuto: true})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	r := &refuser{s, shop, db, memory}
	if err := sellOut(ctx, s, hotSKU); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// close ends it.
func (r *refuser) close() error {
	r.Close()
	return r.db.Close()
}

// refusalCount is what was counted while a side was measured, in all of its rounds.
type refusalCount struct {
	answers    int64 // calls that were answered as they should be
	memory     int64 // of them refused from memory
	statements int64 // that read or write rows, which the service sent
}

// cells are the share of the answers that came from memory, and the statements.
func (c *refusalCount) cells() []any {
	share := "–"
	if c.answers > 0 {
		share = fmt.Sprintf("%.2f %%", 100*float64(c.memory)/float64(c.answers))
	}
	return []any{share, c.statements}
}

// counted runs a measurement and counts.
func (r *refuser) counted(ctx context.Context, sum *refusalCount, measure func() (bench.Sample, error)) func() (
	bench.Sample, error) {
	return func() (bench.Sample, error) {
		before, err := r.shop.DB.Statements(ctx, refuserUser)
		if err != nil {
			return bench.Sample{}, err
		}
		memory := r.memory.n.Load()
		s, err := measure()
		if err != nil {
			return s, err
		}
		sum.answers += s.Done
		sum.memory += r.memory.n.Load() - memory
		after, err := r.shop.DB.Statements(ctx, refuserUser)
		sum.statements += after - before
		return s, err
	}
}

// takeRefused asks the gate alone, and is nil when it refused.
func takeRefused(s *bench.Gated, skuID string, p order.Placement) error {
	if s.Gate.Refuse(&gate.Claim{CustomerID: p.CustomerID, RequestID: p.RequestID, Lines: p.Lines}) == nil {
		return fmt.Errorf("%s is not refused from memory", skuID)
	}
	return nil
}

// inProcess compares refusals without HTTP.
func (r *gateRefuseCmd) inProcess(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	p, err := startRefuser(ctx, shop)
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.close() }()
	var counts [3]refusalCount
	loop := func(callers int, do func(k *keys) error) func() (bench.Sample, error) {
		return func() (bench.Sample, error) {
			k := newKeys()
			return bench.TightLoop(ctx, callers, set.Length(), func() error { return do(k) }), nil
		}
	}
	place := func(callers int, sku string) func() (bench.Sample, error) {
		return loop(callers, func(k *keys) error {
			_, err := p.Orders.Place(ctx, k.next(sku))
			return refused(err)
		})
	}
	cores := runtime.GOMAXPROCS(0) // callers that never wait need no more
	sides := []func() (bench.Sample, error){
		p.counted(ctx, &counts[0], place(r.Callers, coldSKU)),
		p.counted(ctx, &counts[1], place(cores, hotSKU)),
		p.counted(ctx, &counts[2], loop(cores, func(k *keys) error {
			return takeRefused(p.Gated, hotSKU, k.next(hotSKU))
		})),
	}
	names := []string{"by the ledger (no gate)", "**by a mark**, order.Service.Place", "by a mark, gate.Take alone"}
	rb, stop, missing := startRedisBenchmark(ctx)
	if missing == nil {
		defer stop()
		names = append(names, fmt.Sprintf("the seed's script, redis-benchmark -P %d", rb.pipeline))
		sides = append(sides, func() (bench.Sample, error) { return rb.run(ctx, set.Length()) })
	}
	samples, err := bench.Turns(set.Rounds, sides...)
	if err != nil {
		return nil, err
	}
	base, against := samples[0].Rate(), "the ledger"
	if missing == nil {
		base, against = samples[3].Rate(), "Redis"
	}
	var rows []gateRow
	for i, s := range samples {
		counted := []any{"–", "–"}
		if i < len(counts) {
			counted = counts[i].cells()
		}
		rows = append(rows, gateRow{names[i], append(append([]any{s.Rate(), s.P50, s.P99}, counted...),
			ratio(s.Rate(), base)+" "+against)})
	}
	if missing != nil {
		rows = append(rows, gateRow{"the seed's script: " + missing.Error(), []any{"", "", "", "", "", ""}})
	}
	return rows, errors.Join(noneFailed(names[0], samples[0]), noneFailed(names[1], samples[1]),
		silent(&counts[1], &counts[0]))
}

// refusePipeline is how many calls redis-benchmark sends at once beside refusals.
const refusePipeline = 64

// startRedisBenchmark starts a Redis in which nothing is left, for the seed's script.
func startRedisBenchmark(ctx context.Context) (*redisBenchmark, func(), error) {
	r, err := startSaleRedis(ctx)
	if err != nil {
		return nil, nil, err
	}
	b, err := newRedisBenchmark(ctx, r, refusePipeline, 0)
	if err != nil {
		r.stop()
		return nil, nil, err
	}
	return b, r.stop, nil
}

// silent is an error when a side whose refusals all came from memory has sent statements, or
// when the count did not see those of the ledger's side, and so would see none of anybody. Some
// may have gone to the ledger: a mark ends when a process has not read its gates for a second.
func silent(memory, ledger *refusalCount) error {
	switch {
	case ledger.statements == 0:
		return errors.New("the server counted no statement of the side that has some: it counts nothing")
	case memory.memory == 0:
		return errors.New("nothing was refused from memory")
	case memory.memory == memory.answers && memory.statements > 0:
		return fmt.Errorf("refusals from memory sent %d statements", memory.statements)
	}
	return nil
}

// seedScript is the script of the article that flash sales with Redis are copied from: -3 is
// not initialised, -2 not enough, -1 no limit, else what is left.
const seedScript = `if (redis.call('exists', KEYS[1]) == 1) then
  local stock = tonumber(redis.call('get', KEYS[1]));
  local num = tonumber(ARGV[1]);
  if (stock == -1) then return -1; end;
  if (stock >= num) then return redis.call('incrby', KEYS[1], 0 - num); end;
  return -2;
end;
return -3;`

// redisBenchmark runs the seed's script on a private Redis.
type redisBenchmark struct {
	program, sha string
	redis        *saleRedis
	pipeline     int
}

// newRedisBenchmark loads the script and gives it so many units, in a Redis that the caller
// stops; so many calls are sent at once on a connection. The error says what is missing on this
// machine.
func newRedisBenchmark(ctx context.Context, r *saleRedis, pipeline int, units int64) (*redisBenchmark, error) {
	program, err := exec.LookPath("redis-benchmark")
	if err != nil {
		return nil, errors.New("redis-benchmark is not installed (Debian's redis-tools)")
	}
	sha, err := r.client.ScriptLoad(ctx, seedScript).Result()
	if err == nil {
		err = r.client.Set(ctx, seedKey, units, 0).Err()
	}
	return &redisBenchmark{program, sha, r, pipeline}, err
}

// seedKey is the key that the article counts down.
const seedKey = "sku_leaved_amount_hot"

// expectedRate is what redis-benchmark is asked for in each second of a measurement.
const expectedRate = 200_000

// run measures about so long.
func (b *redisBenchmark) run(ctx context.Context, length time.Duration) (bench.Sample, error) {
	host, port, err := net.SplitHostPort(b.redis.Addr)
	if err != nil {
		return bench.Sample{}, err
	}
	n := int64(length.Seconds() * expectedRate)
	out, err := exec.CommandContext(ctx, b.program, "-h", host, "-p", port, "-P", strconv.Itoa(b.pipeline),
		"-n", strconv.FormatInt(n, 10), "--csv", "EVALSHA", b.sha, "1", seedKey, "1").Output()
	if err != nil {
		return bench.Sample{}, fmt.Errorf("redis-benchmark: %w", err)
	}
	return parseRedisBenchmark(string(out), n)
}

// parseRedisBenchmark reads its last line: test, requests a second, and in milliseconds the
// latencies avg, min, p50, p95, p99, max.
func parseRedisBenchmark(out string, n int64) (bench.Sample, error) {
	lines, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(lines) == 0 || len(lines[len(lines)-1]) < 7 {
		return bench.Sample{}, fmt.Errorf("redis-benchmark said %q", out)
	}
	last := lines[len(lines)-1]
	var v [3]float64
	for i, field := range []string{last[1], last[4], last[6]} {
		if v[i], err = strconv.ParseFloat(field, 64); err != nil || v[i] <= 0 {
			return bench.Sample{}, fmt.Errorf("redis-benchmark said %q", out)
		}
	}
	ms := func(f float64) time.Duration { return time.Duration(f * float64(time.Millisecond)) }
	return bench.Sample{Done: n, Took: time.Duration(float64(n) / v[0] * float64(time.Second)),
		P50: ms(v[1]), P99: ms(v[2])}, nil
}

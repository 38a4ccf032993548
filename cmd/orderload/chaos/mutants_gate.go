package chaos

import (
	"slices"

	"orderd/stock"
)

// gateOf is the mode of the gate that the run of a mutant needs, "" for none.
func gateOf(mutant string) string {
	named := func(m Mutant) bool { return m.Name == mutant }
	switch {
	case slices.ContainsFunc(gateMutants, named):
		return string(stock.GateLocal)
	case slices.ContainsFunc(redisMutants, named), queueMutant(mutant):
		return string(stock.GateRedis)
	}
	return ""
}

// queueMutant reports that the run of a mutant needs a queue.
func queueMutant(name string) bool {
	return slices.ContainsFunc(queueMutants, func(m Mutant) bool { return m.Name == name })
}

// mutantRate is the rate of a mutant's run: below what buyers ask for, so that most of them wait.
const mutantRate = 5

// queueMutants are the mistakes that need a sale with a queue.
var queueMutants = []Mutant{
	{"queued-is-dropped", "who waits loses his place when his order cannot be made at this moment", []Edit{
		{"scheduler/drain.go", "			leave(x.err, x.claimed)\n		case x.problem == nil:",
			"			done = append(done, x.Entry)\n		case x.problem == nil:"}}},
	{"withdrawn-too-late", "a cancel says that a place in line is withdrawn, also when it was not", []Edit{
		{"stock/gate/redisgate/queue.go",
			"	withdrawn, err = s.home.Cancel(ctx, p.Bucket, Cancel{OrderNo: orderNo, ID: p.ID,",
			"	withdrawn = true\n" +
				"	_, err = s.home.Cancel(ctx, p.Bucket, Cancel{OrderNo: orderNo, ID: p.ID + \"0\","}}},
}

// bucketGuard is the condition of the last decrement of a bucket.
const bucketGuard = "  AND state IN ('open', 'closing')\n  AND remaining >= `+sum, " +
	"slices.Concat(args, sqldb.Args(ids), args)...)\n"

// gateMutants are the mistakes of flash sales, which a run with a gate catches.
var gateMutants = []Mutant{
	// What they believe of a bucket.
	{"bucket-unguarded", "a bucket is written off, open or closed, full or not", []Edit{
		{"stock/bucket.go", bucketGuard, "  AND (1 = 1 OR remaining >= `+sum+`)`, " +
			"slices.Concat(args, sqldb.Args(ids), args)...)\n"}}},
	{"recall-leaves-it-open", "a recall puts units into the pool and leaves them in the bucket", []Edit{
		{"stock/bucket.go", "SET state = 'closed', remaining = 0, seq = seq + 1\n", "SET seq = seq + 1\n"}}},
	{"fenced-is-sold-out", "who has a unit of a recalled bucket is told that it is sold out", []Edit{
		{"stock/shelf.go", "== 0 && !it.Unlimited && it.left < l.Quantity {",
			"== 0 && !it.Unlimited && (it.left < l.Quantity || (from != nil && from[i] != 0)) {"}}},
	// What they make of a mark.
	{"mark-without-keys", "while a SKU is marked, who has an order is refused from memory too", []Edit{
		{"stock/gate/marks.go", "keys != nil { // else nobody has an order", "keys == nil && keys != nil {"}}},
	{"mark-outlives-reopening", "a mark is believed for longer than a SKU waits before it is sold again", []Edit{
		{"stock/gates.go", "	MarkFor = time.Second\n", "	MarkFor = 10 * time.Second\n"}}},
	// What they count twice, or by themselves.
	{"return-to-pool-and-bucket", "a closed order is returned to the pool and to a bucket", []Edit{
		{"stock/return.go", "	return eachChunk(back,", "	for id, n := range back {\n" +
			"		if _, err := tx.Update(ctx, \"UPDATE stock_buckets SET remaining = remaining + ? \"+\n" +
			"			\"WHERE sku_id = ? AND state = 'open' LIMIT 1\", n, id); err != nil {\n" +
			"			return err\n		}\n	}\n	return eachChunk(back,"}}},
	{"limit-in-memory", "the limit per customer is counted by each process for itself", []Edit{
		{"order/limit.go", "	args := make([]any, 0, 2*len(page))\n",
			"	if true {\n		for _, b := range page {\n			if all, ok := mine.Load(b); ok {\n" +
				"				s.buyers[b] = slices.Clone(all.([]slot))\n" +
				"			}\n		}\n		return nil\n	}\n" +
				"	args := make([]any, 0, 2*len(page))\n"},
		{"order/limit.go", "slot{no: sl.no, orderNo: p.orderNo, live: true})\n",
			"slot{no: sl.no, orderNo: p.orderNo, live: true})\n" +
				"			mine.Store(sl.buyer, slices.Clone(s.buyers[sl.buyer]))\n"},
		{"order/limit.go", "	if s == nil {\n		return nil\n	}\n",
			"	if s != nil || true {\n		return nil\n	}\n"},
		{"order/limit.go", "// mostSaleCustomers bounds",
			"var mine sync.Map // what this process gave\n\n// mostSaleCustomers bounds"},
		{"order/limit.go", "	\"slices\"\n", "	\"slices\"\n	\"sync\"\n"}}},
}

// redisMutants are the mistakes that need a sale in Redis. What a script or the home of a bucket
// gets wrong by itself is not among them: the database decides, and the tests of redisgate have
// mutants of the scripts.
var redisMutants = []Mutant{
	{"recall-leaves-redis", "a short pool calls back what processes have, and not what Redis has", []Edit{
		{"stock/shelf.go",
			"	buckets, kept, err := recallFree(ctx, tx, slices.Sorted(maps.Keys(s.gated)), s.gated, want.At)\n",
			"	var kept []Bucket\n" +
				"	buckets, err := Recall(ctx, tx, slices.Sorted(maps.Keys(s.gated)), want.At)\n"}}},
	{"epoch-keeps-its-buckets", "a new epoch gives the units of the last one to the pool, and leaves its buckets open",
		[]Edit{{"stock/epoch.go", "	buckets, err := recallAll(ctx, tx, ids, now)\n",
			"	var buckets []Bucket\n	_, err := tx.Update(ctx, `UPDATE skus SET available = available + " +
				"COALESCE((SELECT SUM(remaining) FROM stock_buckets b WHERE b.sku_id = skus.sku_id " +
				"AND b.state = 'open'), 0) " +
				"WHERE sku_id IN (`+sqldb.In(len(ids))+`)`, sqldb.Args(ids)...)\n"}}},
	{"limit-only-in-redis", "the limit per customer is left to the buckets", []Edit{
		{"order/limit.go", "	if s == nil {\n		return nil\n	}\n",
			"	if s != nil || true {\n		return nil\n	}\n"}}},
	{"fenced-in-redis-is-sold-out", "who has a unit of a bucket that was given up is told that it is sold out", []Edit{
		{"stock/shelf.go", "== 0 && !it.Unlimited && it.left < l.Quantity {",
			"== 0 && !it.Unlimited && (it.left < l.Quantity || (from != nil && from[i] != 0)) {"}}},
}

package redisgate_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
	"orderd/stock/gate/redisgate"
)

// engines are the two kinds of Redis that every script has to run on.
var engines = map[string]func(testing.TB) redis.UniversalClient{"miniredis": mini, "redis-server": server}

func mini(t testing.TB) redis.UniversalClient {
	return connect(t, miniredis.RunT(t).Addr())
}

func server(t testing.TB) redis.UniversalClient {
	return connect(t, sqldbtest.RedisServer(t).Addr)
}

func connect(t testing.TB, addr string) redis.UniversalClient {
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// onEach runs a test on both.
func onEach(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

const (
	mostQueued = 3
	// perSequence is about how many calls a sequence makes.
	perSequence = 40
)

var (
	skus      = []string{"a", "b", "free"} // free is unlimited
	customers = []string{"ann", "bob 2 q 9"}
)

// call is one call of a home, and the same of the model: each gives its answer as a text.
type call struct {
	text        string
	home, model func() string
	advances    bool // sent again it goes on, and does not repeat what it did
	// remade is the call as a program would send it again that forgets the numbers it has made.
	remade func() string
}

// world is a sequence of calls: on a home and on the model of one bucket.
type world struct {
	ctx    context.Context
	home   *redisgate.Home
	client redis.UniversalClient
	model  *model
	bucket redisgate.Bucket
	rand   *rand.Rand // of the step that is taken

	orders  []redisgate.Order // that were sent
	calls   []call
	trace   []string
	answers map[string]int // how often each answer came, by operation
	forget  bool           // a repeat is sent with an order number made anew
	number  int            // of the last order number
	steps   uint64         // that were taken
	now     int64          // microseconds
	over    bool           // nothing more can be compared
}

func newWorld(ctx context.Context, client redis.UniversalClient, prefix string, answers map[string]int) *world {
	return &world{ctx: ctx, client: client, answers: answers,
		home:   redisgate.New(client, prefix),
		model:  newModel(prefix),
		now:    1_800_000_000_000_000,
		bucket: redisgate.Bucket{Sale: "sale", No: 3, Token: 1}}
}

// say is an answer as a text: errors by what they are, so that their wording does not matter.
func say(answer any, err error) string {
	for _, known := range []error{redisgate.ErrNotReady, redisgate.ErrDone, redisgate.ErrGap, redisgate.ErrWentBack,
		stock.ErrReturnExceeds} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if err != nil {
		return "unexpected: " + err.Error()
	}
	return fmt.Sprintf("%+v", answer)
}

// do sends a call, and one in three at once again, as go-redis does when an answer is late. It gives what is wrong.
func (w *world) do(c call, op string) string {
	w.trace = append(w.trace, c.text)
	got, want := c.home(), c.model()
	w.answers[op+" "+kind(want)]++
	if got != want {
		return fmt.Sprintf("got  %s\nwant %s", got, want)
	}
	found, err := w.dump()
	if err != nil {
		return err.Error()
	}
	if wrong := differ(found, w.model.dump()); wrong != "" {
		return wrong
	}
	if wrong := w.model.balance(); wrong != "" {
		return wrong
	}
	if w.rand.IntN(3) > 0 {
		return ""
	}
	w.trace = append(w.trace, "the same again")
	got, want = c.home(), c.model()
	w.answers[op+" "+kind(want)]++
	if got != want {
		return fmt.Sprintf("got  %s\nwant %s", got, want)
	}
	again, err := w.dump()
	if err != nil {
		return err.Error()
	}
	if c.advances {
		found = w.model.dump()
	}
	return differ(again, found)
}

// kind shortens an answer to what is counted.
func kind(answer string) string {
	if len(answer) > 2 && answer[:2] == "[{" && strings.Contains(answer, "ID:") {
		return "some"
	}
	if len(answer) > 2 && (answer[0] == '[' || answer[0] == '{') {
		return "answered"
	}
	if n, err := strconv.Atoi(answer); err == nil && n > 0 {
		return "some"
	}
	return answer
}

// differ shows the first key in which what Redis has is not what it should have.
func differ(got, want map[string]string) string {
	all := slices.Sorted(maps.Keys(want))
	for key := range got {
		if _, both := want[key]; !both {
			all = append(all, key)
		}
	}
	for _, key := range all {
		if got[key] != want[key] {
			return fmt.Sprintf("%s is\n%s\nshould be\n%s", key, got[key], want[key])
		}
	}
	return ""
}

// dump reads every key of the world.
func (w *world) dump() (map[string]string, error) {
	names, err := w.client.Keys(w.ctx, w.model.prefix+"*").Result()
	if err != nil {
		return nil, err
	}
	reads := map[string]redis.Cmder{}
	_, err = w.client.Pipelined(w.ctx, func(p redis.Pipeliner) error {
		for _, name := range names {
			switch short := strings.TrimPrefix(name, w.model.prefix); {
			case strings.HasPrefix(short, "sku_leaved_amount_"), strings.HasPrefix(short, "ended_"):
				reads[name] = p.Get(w.ctx, name)
			case strings.HasPrefix(short, "claimed_"):
				reads[name] = p.ZRangeWithScores(w.ctx, name, 0, -1)
			case strings.HasPrefix(short, "wal_"), strings.HasPrefix(short, "queue_"):
				reads[name] = p.Do(w.ctx, "XRANGE", name, "-", "+")
			default:
				reads[name] = p.Do(w.ctx, "HGETALL", name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	d := map[string]string{}
	for name, read := range reads {
		if text := dumped(read); text != "" {
			d[name] = text
		}
	}
	return d, nil
}

// dumped is one key as model.dump has it.
func dumped(read redis.Cmder) string {
	var lines []string
	switch read := read.(type) {
	case *redis.StringCmd:
		return read.Val()
	case *redis.ZSliceCmd:
		for _, z := range read.Val() {
			lines = append(lines, fmt.Sprintf("%q=%q", z.Member, strconv.FormatInt(int64(z.Score), 10)))
		}
	case *redis.Cmd:
		switch all := read.Val().(type) {
		case map[any]any:
			for field, value := range all {
				lines = append(lines, fmt.Sprintf("%q=%q", field, value))
			}
		case []any:
			if len(all) > 0 && read.Args()[0] == "XRANGE" {
				for _, entry := range all {
					lines = append(lines, fmt.Sprintf("%s %q", entry.([]any)...))
				}
				return strings.Join(lines, "\n")
			}
			for i := 0; i < len(all); i += 2 { // a hash under protocol 2
				lines = append(lines, fmt.Sprintf("%q=%q", all[i], all[i+1]))
			}
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// step takes one step of a sequence: which one, and with what, depends on the seed and on what was before. It gives
// what is wrong.
func (w *world) step(seed uint64) string {
	w.steps++ // rapid draws small numbers often: without it they would all do the same
	w.rand = rand.New(rand.NewPCG(seed, w.steps))
	if !w.model.there || w.rand.IntN(40) == 0 {
		return w.opens()
	}
	ops := []func() string{w.deducts, w.deducts, w.deducts, w.deducts, w.returns, w.returns, w.returns,
		w.grants, w.grants, w.grants, w.cancels, w.cancels, w.claims, w.dones, w.deletes,
		w.repeats, w.repeats, w.repeats, w.stats}
	switch w.rand.IntN(80) {
	case 0, 2:
		return w.closes()
	case 1:
		return w.loses()
	}
	return ops[w.rand.IntN(len(ops))]()
}

// at is the bucket, one time in n with the token of another opening.
func (w *world) at(n int) redisgate.Bucket {
	b := w.bucket
	if w.rand.IntN(n) == 0 {
		b.Token += int64(w.rand.IntN(3) - 1)
	}
	return b
}

func (w *world) opens() string {
	b := w.bucket
	b.Token = max(b.Token+int64(w.rand.IntN(4)-2), 1)
	o := redisgate.Opening{Limit: []int64{0, 0, 3, 5}[w.rand.IntN(4)], Filling: w.rand.IntN(2) == 0}
	for i, sku := range skus {
		o.Slices = append(o.Slices,
			redisgate.Slice{SkuID: sku, BucketID: 10*b.Token + int64(i), Unlimited: sku == "free"})
	}
	if !w.model.open {
		b.Token = w.bucket.Token + 1
	}
	w.bucket.Token = max(b.Token, w.bucket.Token)
	wrong := w.send("open", fmt.Sprintf("%+v %+v", b, o),
		func() string { return say(w.home.Open(w.ctx, b, o)) }, func() string { return say(w.model.opened(b, o)) })
	for range 4 {
		if wrong == "" {
			wrong = w.grants()
		}
	}
	return wrong
}

// send does a call and remembers it.
func (w *world) send(op, text string, home, model func() string) string {
	c := call{text: op + " " + text, home: home, model: model, remade: home}
	w.calls = append(w.calls, c)
	return w.do(c, op)
}

func (w *world) orderNo() string {
	w.number++
	return fmt.Sprintf("%026d", w.number)
}

func (w *world) order() redisgate.Order {
	customer := customers[w.rand.IntN(len(customers))]
	key := strconv.Itoa(w.rand.IntN(30))
	o := redisgate.Order{OrderNo: w.orderNo(), CustomerID: customer, Key: redisgate.KeyOf(customer, key),
		MayWait: w.rand.IntN(5) > 0, Payload: []byte("pay " + key)}
	if w.rand.IntN(12) == 0 {
		o.Body[7] = 1
	}
	if len(w.orders) > 0 && w.rand.IntN(15) == 0 { // the number of another order, under another key
		same := w.orders[w.rand.IntN(len(w.orders))]
		o.OrderNo, o.Lines = same.OrderNo, same.Lines
		return o
	}
	choice := append(slices.Clone(skus), skus...)
	if w.rand.IntN(30) == 0 {
		choice = append(choice, "unknown", "unknown", "unknown")
	}
	for range 1 + w.rand.IntN(3) {
		sku := choice[w.rand.IntN(len(choice))]
		if slices.ContainsFunc(o.Lines, func(l redisgate.Line) bool { return l.SkuID == sku }) {
			continue
		}
		o.Lines = append(o.Lines,
			redisgate.Line{No: int64(len(o.Lines) + 1), SkuID: sku, Quantity: int64(1 + w.rand.IntN(2))})
	}
	return o
}

// pace is how quickly orders are made at this moment. Time passes, and at times it goes back.
func (w *world) pace() redisgate.Pace {
	if w.now += int64(w.rand.IntN(4000) - 500); w.rand.IntN(50) == 0 {
		w.now -= 20_000_000 // the clock is set back
	}
	every := []time.Duration{0, 0, time.Millisecond, 3 * time.Millisecond, time.Minute}[w.rand.IntN(5)]
	return redisgate.Pace{Now: time.UnixMicro(w.now), Every: every, Room: mostQueued,
		Burst: []time.Duration{-1000, 0, 2 * time.Millisecond}[w.rand.IntN(3)]}
}

func (w *world) deducts() string {
	var orders []redisgate.Order
	for range 1 + w.rand.IntN(4) {
		orders = append(orders, w.order())
	}
	if w.rand.IntN(3) == 0 { // an order that is over, if there is one
		o := w.someOrder()
		for range 8 {
			if state := w.model.records[o.OrderNo].State; state != redisgate.StateWithdrawn &&
				state != redisgate.StateCancelled {
				o = w.someOrder()
			}
		}
		orders = append(orders, o)
	}
	w.orders = append(w.orders, orders...)
	b, p := w.at(40), w.pace()
	c := call{text: fmt.Sprintf("deduct %+v %+v %+v", b, p, orders),
		home: func() string { return say(w.home.Deduct(w.ctx, b, p, orders)) },
		model: func() string {
			replies, err := w.model.deduct(b, p, orders)
			for _, r := range replies {
				w.answers["deduct "+outcome(r)]++
			}
			return say(replies, err)
		}}
	c.remade = func() string {
		anew := slices.Clone(orders)
		for i := range anew {
			anew[i].OrderNo = w.orderNo()
		}
		return say(w.home.Deduct(w.ctx, b, p, anew))
	}
	w.calls = append(w.calls, c)
	return w.do(c, "deduct")
}

// outcome names a reply, to be counted.
func outcome(r redisgate.Reply) string {
	if r.Repeat {
		return "repeat " + string(r.State)
	}
	if r.Code >= 0 {
		return "taken " + string(r.State)
	}
	return strconv.FormatInt(r.Code, 10)
}

// someOrder is an order that was sent, taken or not.
func (w *world) someOrder() redisgate.Order {
	if len(w.orders) == 0 {
		return w.order()
	}
	return w.orders[len(w.orders)-1-w.rand.IntN(min(len(w.orders), 12))]
}

func (w *world) returns() string {
	o, b := w.someOrder(), w.at(25)
	if w.model.records[o.OrderNo].Units == 0 { // of one that was taken, rather
		o = w.someOrder()
	}
	r := redisgate.Return{OrderNo: o.OrderNo, Ref: fmt.Sprint("ref", w.rand.IntN(3)), To: redisgate.ToBucket}
	if w.rand.IntN(3) == 0 {
		r.To = redisgate.ToPool
	}
	whole := w.rand.IntN(2) == 0
	for _, l := range o.Lines {
		if !whole {
			l.Quantity = int64(1 + w.rand.IntN(3))
			if w.rand.IntN(3) == 0 && len(o.Lines) > 1 && len(r.Lines) > 0 {
				continue
			}
		}
		r.Lines = append(r.Lines, l)
	}
	return w.send("return", fmt.Sprintf("%+v %+v", b, r),
		func() string { return say(w.home.Return(w.ctx, b, r)) },
		func() string { return say(w.model.giveBack(b, r)) })
}

// move is the next move of a SKU, or at times another.
func (w *world) move() redisgate.Move {
	v := redisgate.Move{SkuID: skus[w.rand.IntN(len(skus))], Seq: 1}
	if s := w.model.skus[v.SkuID]; s != nil {
		v.BucketID, v.Seq = s.bucketID, s.seq+1
	}
	switch w.rand.IntN(12) {
	case 0:
		v.Seq++
	case 1, 2:
		v.Seq = max(v.Seq-1, 0)
	case 3:
		v.BucketID--
	}
	return v
}

func (w *world) grants() string {
	v := w.move()
	v.Units = int64(1 + w.rand.IntN(12))
	if w.rand.IntN(5) == 0 {
		v.Units = -v.Units / 2
	}
	return w.send("grant", fmt.Sprintf("%+v", v),
		func() string { return say(w.home.Grant(w.ctx, w.bucket, v)) },
		func() string { return say(w.model.grant(v)) })
}

func (w *world) cancels() string {
	o := w.someOrder()
	for range 5 { // of a queued order, if there is one
		if _, waits := w.model.places[o.OrderNo]; !waits {
			o = w.someOrder()
		}
	}
	id := w.model.places[o.OrderNo].id
	if w.rand.IntN(10) == 0 {
		id.n++
	}
	c := redisgate.Cancel{OrderNo: o.OrderNo, ID: id.String(), To: redisgate.StateCancelled, Lines: o.Lines,
		Key: w.model.places[o.OrderNo].key, CustomerID: o.CustomerID, Told: time.Minute}
	if w.rand.IntN(2) == 0 {
		c.ID = w.model.places[o.OrderNo].id.String()
		c.To, c.Problem, c.Unclaimed = redisgate.StateWithdrawn, []byte("a problem"), w.rand.IntN(3) == 0
	}
	return w.send("cancel", fmt.Sprintf("%+v", c),
		func() string { return say(w.home.Cancel(w.ctx, w.bucket, c)) },
		func() string { return say(w.model.cancel(c), nil) })
}

func (w *world) claims() string {
	p, limit, lapse := w.pace(), 1+w.rand.IntN(2), 5*time.Millisecond
	c := call{text: fmt.Sprintf("claim %+v %d", p, limit), advances: true,
		home:  func() string { return say(w.home.Claim(w.ctx, w.bucket, p, lapse, limit)) },
		model: func() string { return say(w.model.claim(p, lapse, limit), nil) }}
	c.remade = c.home
	w.calls = append(w.calls, c)
	return w.do(c, "claim")
}

func (w *world) dones() string {
	var entries []redisgate.Entry
	for _, e := range w.model.queue {
		if w.rand.IntN(2) == 0 {
			entries = append(entries, redisgate.Entry{ID: e.id(), OrderNo: e.fields[0]})
		}
	}
	if len(entries) == 0 {
		return ""
	}
	return w.send("done", fmt.Sprintf("%+v", entries),
		func() string { return say(0, w.home.Done(w.ctx, w.bucket, entries)) },
		func() string { w.model.done(entries); return say(0, nil) })
}

func (w *world) closes() string {
	b := w.at(3)
	return w.send("close", fmt.Sprintf("%+v", b),
		func() string { return say(w.home.Close(w.ctx, b)) },
		func() string { return say(w.model.closed(b)) })
}

func (w *world) stats() string {
	return w.send("stat", "",
		func() string { return say(w.home.Stat(w.ctx, w.bucket, skus)) },
		func() string { return say(w.model.stat(skus)) })
}

// deletes does what a writer does when an entry has become an order.
func (w *world) deletes() string {
	w.trace = append(w.trace, "delete the first entry")
	if len(w.model.wal) == 0 {
		return ""
	}
	err := w.client.XDel(w.ctx, w.model.prefix+"wal_{sale/3}", w.model.wal[0].id()).Err()
	w.model.wal = slices.Clone(w.model.wal[1:])
	if err != nil {
		return err.Error()
	}
	return ""
}

// loses does what an evicting Redis does.
func (w *world) loses() string {
	sku := skus[w.rand.IntN(len(skus))]
	w.trace = append(w.trace, "lose what is left of "+sku)
	w.model.skus[sku].lost = true
	if err := w.client.Del(w.ctx, w.model.prefix+"sku_leaved_amount_{sale/3}:"+sku).Err(); err != nil {
		return err.Error()
	}
	return ""
}

// repeats sends an earlier call again, however late.
func (w *world) repeats() string {
	if len(w.calls) == 0 {
		return ""
	}
	c := w.calls[len(w.calls)-1-w.rand.IntN(min(len(w.calls), 15))]
	c.text = "late, again: " + c.text
	if w.forget {
		return w.forgets(c)
	}
	return w.do(c, "repeat")
}

// forgets sends an earlier call again as a program would that has made its numbers anew. Tickets may then have another
// number, rightly, and the sequence is over; but no other units may be gone than with the old numbers.
func (w *world) forgets(c call) string {
	w.trace = append(w.trace, c.text, "with other numbers")
	c.remade()
	c.model()
	found, err := w.dump()
	if err != nil {
		return err.Error()
	}
	want := w.model.dump()
	w.over = differ(found, want) != ""
	for _, d := range []map[string]string{found, want} {
		maps.DeleteFunc(d, func(key, _ string) bool { return !strings.Contains(key, ":sku_leaved_amount_") })
	}
	return differ(found, want)
}

// play takes the steps of a sequence until something is wrong, and gives that.
func (w *world) play(steps []uint64) string {
	for _, seed := range steps {
		if wrong := w.step(seed); wrong != "" || w.over {
			return wrong
		}
	}
	return ""
}

// sequences is what rapid draws: the seed of every step. It shrinks to fewer steps.
func sequences() *rapid.Generator[[]uint64] {
	return rapid.SliceOfN(rapid.Uint64(), perSequence, 2*perSequence)
}

// A script that treats one call in ten thousand otherwise than the design says sells a unit that is not there, or none
// of those that are. Each is compared with the model after every call: its answer and every key of the bucket. One call
// in three is sent at once again, and many once more later. ORDERD_TEST_LONG=1 makes it 100,000 calls, with
// -timeout 1h: rapid ends with the time of the test.
func TestScriptsAgainstModel(t *testing.T) {
	onEach(t, func(t *testing.T, client redis.UniversalClient) {
		checks, n := flag.Lookup("rapid.checks"), 80
		if os.Getenv("ORDERD_TEST_LONG") == "1" {
			n = 100_000 / perSequence
		}
		was := checks.Value.String()
		_ = checks.Value.Set(strconv.Itoa(n))
		t.Cleanup(func() { _ = checks.Value.Set(was) })
		answers, worlds := map[string]int{}, 0
		rapid.Check(t, func(rt *rapid.T) {
			worlds++
			w := newWorld(t.Context(), client, fmt.Sprintf("%d:", worlds), answers)
			if wrong := w.play(sequences().Draw(rt, "steps")); wrong != "" {
				rt.Fatalf("%s\n%s", strings.Join(w.trace, "\n"), wrong)
			}
		})
		t.Logf("%d sequences: %v", worlds, answers)
		reached(t, answers)
	})
}

// reached fails for every answer of a script that no sequence got.
func reached(t *testing.T, answers map[string]int) {
	t.Helper()
	for _, want := range []string{
		"deduct taken d", "deduct taken q", "deduct repeat d", "deduct repeat q", "deduct repeat c", "deduct repeat x",
		"deduct repeat o",
		"deduct -1", "deduct -2", "deduct -3", "deduct -4", "deduct -5", "deduct -6", "deduct " + notReady,
		"return true", "return false", "return " + stock.ErrReturnExceeds.Error(), "return " + notReady,
		"grant -1", "grant some", "grant " + notReady, "grant " + redisgate.ErrDone.Error(),
		"grant " + redisgate.ErrGap.Error(), "grant " + redisgate.ErrWentBack.Error(),
		"open true", "open false", "open " + notReady,
		"close 0", "close some", "close " + notReady, "cancel true", "cancel false",
		"claim some", "claim []", "done 0", "stat answered"} {
		if answers[want] == 0 {
			t.Errorf("no call was ever answered %q: the sequences do not get there", want)
		}
	}
}

var notReady = redisgate.ErrNotReady.Error()

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/cmd/screen"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment/wechat"
	"orderd/scheduler"
	"orderd/stock"
)

// doctorCmd is `orderd doctor`: every dependency, what is wrong with it, why that matters
// and how to mend it. It changes nothing that means something; with Live the service notes that a callback came.
type doctorCmd struct {
	output
	Live     bool          `help:"${doctor_live}"`
	LiveWait time.Duration `default:"20s" help:"How long --live waits for the callback (1s to 5m)."`
}

const (
	// maxSkew is how far our clock may be off the database's. WeChat Pay refuses
	// signatures that are five minutes off; with NTP two machines differ by milliseconds,
	// so past one minute something is wrong.
	maxSkew = time.Minute
	// keyWarning is how long before the end of a certificate of WeChat Pay doctor warns:
	// a month is enough to plan the change to the next key.
	keyWarning = 30 * 24 * time.Hour
	// doctorLimit bounds all checks together: servers that do not answer must not keep a
	// person waiting.
	doctorLimit = 30 * time.Second
	// maxLiveWait is enough for the first four repeats of a callback.
	maxLiveWait = 5 * time.Minute
)

// diagnosis is a finding, and the error behind it, which decides the exit code.
type diagnosis struct {
	sqldb.Finding
	err error
}

// patient is what the checks look at. Those before fill in what they could open, and what
// they could not is nil: the checks that need it have nothing to say.
type patient struct {
	s       *settings
	wait    time.Duration // for the callbacks of a live check; 0: none is wanted
	gateway *wechat.Gateway
	db      *sqldb.DB
}

// checks are what doctor looks at, in their order; docs/operations.md says what to do.
var checks = []func(context.Context, *patient) []diagnosis{
	checkVariables, checkKeys, checkWeChat, checkNotifyURLs, checkShipments, checkDatabase, checkRedis,
	checkGateRedis, checkOrders, checkLive,
}

// Run looks at everything that orderd depends on. When something must be mended it ends
// with the code of the first such thing: see exitCodes. A warning alone is exit 0.
func (c *doctorCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	p, limit := &patient{s: s}, doctorLimit
	if c.Live {
		if c.LiveWait < time.Second || c.LiveWait > maxLiveWait {
			return fmt.Errorf("%w: --live-wait is 1s to %s", errUsage, maxLiveWait)
		}
		p.wait = c.LiveWait
		limit += doctorLimit + c.LiveWait // as long again for the questions
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer p.close()
	found := []sqldb.Finding{}
	var worst error
	for _, check := range checks {
		for _, d := range check(ctx, p) {
			found = append(found, d.Finding)
			if d.Level == sqldb.LevelFail && worst == nil {
				worst = mend{d.err}
			}
		}
	}
	return errors.Join(c.show(t, found, func(w io.Writer) {
		for _, f := range found {
			screen.Printf(w, "%s\t%s\t%s\n", f.Level, f.ID, f.Found)
			if f.Level != sqldb.LevelOK {
				screen.Printf(w, "\t\t  why: %s\n\t\t  fix: %s\n", f.Why, f.Fix)
			}
		}
	}), worst)
}

// mend is what doctor ends with: the error behind the first thing that must be mended,
// which may be nil. Its text has been said.
type mend struct{ err error }

// Error points at what was printed.
func (mend) Error() string { return "something must be mended, see above" }

// Unwrap gives the error, for its exit code.
func (m mend) Unwrap() error { return m.err }

// close closes what the checks have opened.
func (p *patient) close() {
	if p.gateway != nil {
		p.gateway.CloseIdleConnections()
	}
	if p.db != nil {
		_ = p.db.Close()
	}
}

// plain are findings without an error behind them.
func plain(found ...sqldb.Finding) []diagnosis {
	var all []diagnosis
	for _, f := range found {
		all = append(all, diagnosis{Finding: f})
	}
	return all
}

// failed is a finding that must be mended.
func failed(id string, err error, found, why, fix string) []diagnosis {
	return []diagnosis{{sqldb.Finding{ID: id, Level: sqldb.LevelFail, Found: found, Why: why, Fix: fix}, err}}
}

// checkDatabase opens the database, which must be there, and looks at its schema, its
// settings and its clock.
func checkDatabase(ctx context.Context, p *patient) []diagnosis {
	db, err := sqldb.OpenExisting(ctx, p.s.dsn())
	switch {
	case errors.Is(err, sqldb.ErrNoDatabase):
		return failed("database.open", err, err.Error(), "nothing works without it",
			"is --data-dir right? 'orderd serve' makes a database there, 'orderd migrate up' too")
	case errors.Is(err, sqldb.ErrDSN):
		return failed("database.open", err, err.Error(), "nothing works without it", "set ORDERD_DSN")
	case err != nil:
		return failed("database.open", err, err.Error(), "nothing works without it",
			"start the database, set ORDERD_DSN")
	}
	found := plain(sqldb.Finding{ID: "database.open", Level: sqldb.LevelOK, Found: string(db.Engine())})
	if err := migrations.Check(ctx, db); err != nil {
		if checks := db.KeepsChecks(ctx); errors.Is(checks, sqldb.ErrChecksOff) {
			found = append(found, failed("tidb.checks", checks, "tidb_enable_check_constraint=OFF",
				"'orderd migrate up' refuses to make tables without CHECK constraints", sqldb.AdviseChecks)...)
		}
		return append(found, failed("database.schema", errors.Join(err, db.Close()), err.Error(),
			"serve refuses an older schema", "orderd migrate up")...)
	}
	p.db = db
	found = append(found, plain(schemaFinding(ctx, db))...)
	if err := takesWrites(ctx, db, time.Now); err != nil {
		found = append(found, failed("database.write", err, err.Error(), "no order can be placed and no payment booked",
			"is its disk full, or is it read-only?")...)
	}
	if safety, err := db.Safety(ctx); err == nil {
		found = append(found, plain(safety...)...)
	}
	found = append(found, checkReplica(ctx, p.s, db)...)
	return append(found, plain(checkClock(ctx, db))...)
}

// checkReplica looks at the replica that lists are read from, when there is one, and waits for it as long as it
// may be behind.
func checkReplica(ctx context.Context, s *settings, db *sqldb.DB) []diagnosis {
	const id = "database.replica"
	if s.ReadDSN == "" {
		return nil
	}
	if err := db.ShowFrom(ctx, s.ReadDSN, migrations.Birth, s.ReadLag); err != nil {
		return failed(id, misconfigured(err), err.Error(), "serve cannot start", "correct ORDERD_READ_DSN")
	}
	l, _ := db.Lag()
	for begin := time.Now(); !l.Fresh && errors.Is(l.Err, sqldb.ErrBehind) && time.Since(begin) < s.ReadLag; {
		if !sqldb.Sleep(ctx, s.ReadLag/10) {
			break
		}
		l, _ = db.Lag()
	}
	f := sqldb.Finding{ID: id, Level: sqldb.LevelWarn, Why: "lists, exports and verify are read from the primary"}
	switch {
	case l.Fresh:
		f.Level, f.Found, f.Why = sqldb.LevelOK, "a replica of the database, up to date "+
			l.Age.Round(time.Millisecond).String()+" ago", ""
	case errors.Is(l.Err, sqldb.ErrNoCopy), sqldb.Classify(l.Err) == sqldb.ClassRefused:
		return failed(id, misconfigured(l.Err), l.Err.Error(), "it is never read from",
			"point ORDERD_READ_DSN at a replica of ORDERD_DSN's database, with the rights of docs/grants.sql")
	case errors.Is(l.Err, sqldb.ErrBehind):
		f.Found = "more than " + s.ReadLag.String() + " behind, or it follows another server"
		f.Fix = "SHOW SLAVE STATUS there: do both threads run? Else raise ORDERD_READ_LAG"
	case errors.Is(l.Err, sqldb.ErrNoGTIDs):
		f.Found, f.Fix = l.Err.Error(), "turn the primary's binary log on; on MySQL gtid_mode too"
	default:
		f.Found, f.Fix = fmt.Sprint(l.Err), "start it, correct ORDERD_READ_DSN"
	}
	return plain(f)
}

// checkKeys loads the merchant's keys as serve would. Whether they are those of the
// merchant says checkWeChat.
func checkKeys(_ context.Context, p *patient) []diagnosis {
	if p.s.simulated() {
		return plain(sqldb.Finding{ID: "wechat.merchant", Level: sqldb.LevelWarn, Found: "simulator",
			Why: "no real money can be taken", Fix: "set ORDERD_WECHAT_MCHID and its keys"})
	}
	var err error
	if p.gateway, err = p.s.merchant(); err != nil {
		return failed("wechat.keys", misconfigured(err), err.Error(), "no payment can be made or believed",
			"correct the setting that is named")
	}
	return plain(keyFindings(p.gateway)...)
}

// checkWeChat asks WeChat Pay about a trade that there is none of, and what time it is
// there: that costs nothing and moves nothing.
func checkWeChat(ctx context.Context, p *patient) []diagnosis {
	if p.gateway == nil {
		return nil
	}
	var found []diagnosis
	if at, err := p.gateway.Clock(ctx); err == nil {
		f := sqldb.Finding{ID: "clock.wechat", Level: sqldb.LevelOK}
		off := time.Since(at).Round(time.Second)
		f.Found = "differs by " + off.String()
		if off.Abs() > maxSkew {
			f.Level, f.Why, f.Fix = sqldb.LevelFail, "WeChat Pay refuses signatures five minutes off",
				"run NTP on this machine"
		}
		found = plain(f)
	}
	err := p.gateway.Look(ctx)
	if err == nil {
		return append(found, plain(sqldb.Finding{ID: "wechat.answer", Level: sqldb.LevelOK,
			Found: "it knows the merchant, and its answer verifies"})...)
	}
	d := wechat.Diagnose(err)
	if d.Ours {
		err = misconfigured(err)
	}
	return append(found, failed("wechat.answer", err, d.Found, d.Why, d.Fix)...)
}

// keyFindings says from when to when WeChat Pay's keys are valid.
func keyFindings(g *wechat.Gateway) []sqldb.Finding {
	found := []sqldb.Finding{{ID: "wechat.keys", Level: sqldb.LevelOK, Found: g.String()}}
	for _, k := range g.Keys() {
		found = append(found, keyFinding(k, time.Now()))
	}
	return found
}

// keyFinding says it of one. A public key has no dates; the next certificate may be there
// before it begins, beside the present one.
func keyFinding(k wechat.KeyState, now time.Time) sqldb.Finding {
	f := sqldb.Finding{ID: "wechat.key." + k.ID, Level: sqldb.LevelOK, Found: "valid"}
	switch {
	case now.Before(k.NotBefore):
		f.Found = "not valid before " + k.NotBefore.Format(time.DateOnly)
	case k.NotAfter.IsZero():
	case k.NotAfter.Sub(now) < keyWarning:
		f.Level, f.Found = sqldb.LevelWarn, "ends "+k.NotAfter.Format(time.DateOnly)
		f.Why, f.Fix = "after that its answers and notifications are not believed",
			"download the new certificate, or move to WeChat Pay's public key, and add it to "+
				"ORDERD_WECHAT_VERIFY_KEYS"
	}
	return f
}

// checkClock compares our clock with the database's; SQLite has none of its own. NOW(3)
// has milliseconds; the way to the server and back is counted as a difference.
func checkClock(ctx context.Context, db *sqldb.DB) sqldb.Finding {
	f := sqldb.Finding{ID: "clock.database", Level: sqldb.LevelOK, Found: "same machine"}
	if db.Engine() == sqldb.SQLite {
		return f
	}
	// MySQL has no clock but that of its machine: deadlines go by it.
	var seconds float64
	if err := db.QueryRowContext(ctx, "SELECT UNIX_TIMESTAMP(NOW(3))").Scan(&seconds); err != nil {
		f.Level, f.Found = sqldb.LevelWarn, "not readable"
		return f
	}
	skew := time.Since(time.UnixMilli(int64(seconds * 1000))).Round(time.Millisecond)
	f.Found = "differs by " + skew.String()
	if skew.Abs() > maxSkew {
		f.Level, f.Why, f.Fix = sqldb.LevelFail, "WeChat Pay refuses signatures five minutes off; deadlines go by "+
			"the database's clock", "run NTP on both machines"
	}
	return f
}

// checkRedis looks at the settings of Redis that can lose tasks: maxmemory-policy, and
// whether it writes to disk.
func checkRedis(ctx context.Context, p *patient) []diagnosis {
	if p.s.embeddedRedis() {
		return plain(sqldb.Finding{ID: "redis", Level: sqldb.LevelOK, Found: "embedded in serve"})
	}
	client, err := scheduler.Connect(p.s.Redis)
	if err != nil {
		return failed("redis", err, err.Error(), "serve cannot start", "correct ORDERD_REDIS")
	}
	defer client.Close()
	return plain(scheduler.Safety(ctx, client)...)
}

// gateSafety looks at a Redis with the buckets of sales. gateredis.go sets it; nil: there are none.
var gateSafety func(ctx context.Context, client redis.UniversalClient, queues bool,
	sales map[string]int64) []sqldb.Finding

// checkGateRedis looks at the Redis of flash sales, when there is one in mode redis or a Redis of
// its own for them. Of which is wrong only a queue's fails: buckets are made anew.
func checkGateRedis(ctx context.Context, p *patient) []diagnosis {
	sales, queues := map[string]int64{}, false
	if p.db != nil {
		gates, err := stock.NewAdmin(p.db, time.Now).GateStocks(ctx)
		if err != nil {
			return nil // the database, of which was told
		}
		for i := range gates {
			if g := &gates[i]; g.Mode == stock.GateRedis && !g.Ended {
				sales[g.Sale] = max(sales[g.Sale], g.Gate.Buckets)
				queues = queues || g.Queues()
			}
		}
	}
	switch {
	case gateSafety == nil, len(sales) == 0 && p.s.GateRedis == "":
		return nil
	case p.s.GateRedis == "" && p.s.embeddedRedis():
		return plain(sqldb.Finding{ID: "gate_redis", Level: sqldb.LevelOK, Found: "embedded in serve"})
	}
	client, err := scheduler.Connect(cmp.Or(p.s.GateRedis, p.s.Redis))
	if err != nil {
		return failed("gate_redis", err, err.Error(), "serve cannot start", "correct ORDERD_GATE_REDIS")
	}
	defer client.Close()
	found := plain(gateSafety(ctx, client, queues, sales)...)
	for i := range found {
		if found[i].ID == "gate_redis.write" {
			found[i].err = errDown
		}
	}
	return found
}

// checkOrders looks at what is overdue by more than a minute, and runs verify. When the
// database does not answer that is a warning: the lines above have said why.
func checkOrders(ctx context.Context, p *patient) []diagnosis {
	if p.db == nil {
		return nil
	}
	var found []diagnosis
	err := withCore(ctx, p.s, func(co *core) error {
		b, err := co.orders.Backlog(ctx)
		if err != nil {
			return err
		}
		f := sqldb.Finding{ID: "timeouts.overdue", Level: sqldb.LevelOK,
			Found: fmt.Sprintf("%d of %d open orders", b.Overdue,
				b.Open[order.StatePending]+b.Open[order.StateClosing])}
		if !b.Oldest.IsZero() && time.Since(b.Oldest) > time.Minute {
			f.Level, f.Why, f.Fix = sqldb.LevelWarn, "their stock is reserved for longer than it should be; the "+
				"oldest waits since "+stamp(b.Oldest), "is a worker running ('orderd serve') and WeChat Pay reachable?"
		}
		gates, err := co.stock.GateStocks(ctx)
		if err != nil {
			return err
		}
		found = append(found, plain(f, gateFinding(gates, co.clock.Now()))...)
		waiting, err := waitingFindings(ctx, co)
		if err != nil {
			return err
		}
		found = append(found, plain(waiting...)...)
		found = append(found, plain(wakeUpFindings(ctx, co, p.s)...)...)
		r, err := co.audit.Verify(ctx, nil)
		switch {
		case err != nil:
			return err
		case !r.OK():
			found = append(found, failed("books", errBroken, "an invariant is broken",
				"stock or money is not accounted for", "orderd verify")...)
		default:
			found = append(found, plain(sqldb.Finding{ID: "books", Level: sqldb.LevelOK,
				Found: fmt.Sprintf("%d invariants hold over %d orders", len(r.Checks), r.Orders)})...)
		}
		return nil
	})
	if err != nil && p.gateway == nil && !p.s.simulated() {
		return found // the keys, which were told of
	}
	if err != nil {
		found = append(found, plain(sqldb.Finding{ID: "orders", Level: sqldb.LevelWarn, Found: err.Error(),
			Why: "they could not be looked at", Fix: "see the lines above"})...)
	}
	return found
}

// schemaFinding says which schema the database has, which is not behind. One that is newer is
// of a newer program that was here: this one may run beside it.
func schemaFinding(ctx context.Context, db *sqldb.DB) sqldb.Finding {
	f := sqldb.Finding{ID: "database.schema", Level: sqldb.LevelOK, Found: "up to date"}
	if has, knows, err := migrations.Versions(ctx, db); err == nil && has > knows {
		f.Level, f.Found = sqldb.LevelWarn, fmt.Sprintf("%d, this program knows %d", has, knows)
		f.Why, f.Fix = "a newer program has changed it", "install the newer program here too"
	}
	return f
}

// checkVariables looks for misspelt settings.
func checkVariables(_ context.Context, p *patient) []diagnosis {
	f := sqldb.Finding{ID: "config.variables", Level: sqldb.LevelOK, Found: "every ORDERD_… variable is a setting"}
	if unknown := p.s.unknownVariables(); len(unknown) > 0 {
		f.Level, f.Found = sqldb.LevelWarn, strings.Join(unknown, ", ")
		f.Why = "nobody reads them: a misspelt setting is its default"
		f.Fix = "'orderd config print' lists what there is"
	}
	return plain(f)
}

// oldDifference is how long a difference may be open before it is neglected: a weekend and a
// working day.
const oldDifference = 3 * 24 * time.Hour

// waitingFindings looks at what waits for people.
func waitingFindings(ctx context.Context, co *core) ([]sqldb.Finding, error) {
	held, err := co.orders.HeldBacklog(ctx)
	if err != nil {
		return nil, err
	}
	money := sqldb.Finding{ID: "payments.held", Level: sqldb.LevelOK, Found: fmt.Sprintf("%d", held.Count)}
	if held.Count > 0 {
		money.Level = sqldb.LevelWarn
		money.Found = fmt.Sprintf("%d, together %s yuan, since %s", held.Count, held.Amount, stamp(held.Oldest))
		money.Why, money.Fix = "somebody has paid it and it is for no order", "orderd payments held list"
	}
	_, dead, err := co.failures.Count(ctx)
	if err != nil {
		return nil, err
	}
	tasks := sqldb.Finding{ID: "tasks.dead", Level: sqldb.LevelOK, Found: fmt.Sprintf("%d", dead)}
	if dead > 0 {
		tasks.Level, tasks.Why, tasks.Fix = sqldb.LevelWarn, "they gave up, and nobody tries them again",
			"orderd tasks dead list"
	}
	open, err := co.reconciler.Open(ctx)
	if err != nil {
		return nil, err
	}
	n := int64(0)
	for _, of := range open.Count {
		n += of
	}
	books := sqldb.Finding{ID: "differences.old", Level: sqldb.LevelOK, Found: fmt.Sprintf("%d open", n)}
	if !open.OldestAt.IsZero() && co.clock.Now().Sub(open.OldestAt) > oldDifference {
		books.Level = sqldb.LevelWarn
		books.Found = fmt.Sprintf("%d open, the oldest since %s", n, stamp(open.OldestAt))
		books.Why, books.Fix = "bill and books differ, and nobody has said why", "orderd reconcile diffs "+open.Oldest
	}
	return []sqldb.Finding{money, tasks, books}, nil
}

// wakeUpFindings compares the orders that come due in the next minutes with the tasks in
// Redis. The embedded one cannot be asked from here, and one that is away was told of.
func wakeUpFindings(ctx context.Context, co *core, s *settings) []sqldb.Finding {
	if s.embeddedRedis() {
		return nil
	}
	client, err := scheduler.Connect(s.Redis)
	if err != nil {
		return nil
	}
	defer client.Close()
	q := scheduler.NewQueue(client, co.clock.Now, quietLogger(), nil)
	defer q.Close()
	m, err := q.Missing(ctx, co.orders)
	if err != nil {
		return nil
	}
	f := sqldb.Finding{ID: "timeouts.in_redis", Level: sqldb.LevelOK,
		Found: fmt.Sprintf("%d of %d seconds with orders have no task", m.Missing, m.Due)}
	if m.Missing > 0 {
		f.Level = sqldb.LevelWarn
		f.Why = "the sweep of a worker sets the nearest again, and takes what comes due from the database: some are " +
			"seconds late"
		f.Fix = "again in a minute: a number that stays is a Redis that loses keys, or no worker that runs"
	}
	return []sqldb.Finding{f}
}

// endLate is how long after its time an open sale is neglected: its keepers look four times a
// second.
const endLate = time.Minute

// gateFinding says what flash sales there are. Opening and ending them is done by every process
// that serves customers; a sale where nobody did has none.
func gateFinding(gates []stock.GateStock, now time.Time) sqldb.Finding {
	f := sqldb.Finding{ID: "gates", Level: sqldb.LevelOK}
	auto, ended, late := 0, 0, ""
	for i := range gates {
		g := &gates[i]
		if g.Auto {
			auto++
		}
		switch {
		case g.Ended:
			ended++
		case !g.ClosesAt.IsZero() && now.Sub(g.ClosesAt) > endLate:
			late = g.SkuID
		}
	}
	f.Found = fmt.Sprintf("%d flash sales, %d found hot by themselves, %d ended", len(gates), auto, ended)
	if late != "" {
		f.Level, f.Found = sqldb.LevelWarn, f.Found+"; the time of "+late+" is over and it is not ended"
		f.Why = "no process keeps the sales: what was returned is not sold again, and what is in buckets stays there"
		f.Fix = "is an API process running ('orderd serve --role api'), and is its clock compared with the database's?"
	}
	return f
}

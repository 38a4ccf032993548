package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/redis/go-redis/v9"

	"orderd/cmd/orderd/console"
	"orderd/docs"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/bulk"
	"orderd/order/orderhttp"
	"orderd/order/shops"
	"orderd/order/webhooks"
	"orderd/payment"
	"orderd/payment/echoes"
	"orderd/payment/feed"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
	"orderd/payment/shipping"
	"orderd/payment/trail"
	"orderd/payment/wechat"
	"orderd/scheduler"
	"orderd/stock"
	"orderd/stock/gate"
)

// drainTimeout bounds a clean shutdown: Kubernetes kills a container thirty seconds after
// SIGTERM, unless told otherwise.
const drainTimeout = 25 * time.Second

// usualTimeout is the default of package wechat for one call to WeChat Pay, of which
// ORDERD_PACE makes a part.
const usualTimeout = 5 * time.Second

// core is what every verb needs: the database, and orders on it. Verbs work beside a
// running service: all that they share with it is the database.
type core struct {
	db      *sqldb.DB
	gateway *wechat.Gateway
	orders  *order.Service
	// audit verifies the same database, for verify, doctor and demo.
	audit      *audit.Auditor
	stock      *stock.Admin
	reconciler *reconcile.Reconciler
	tokens     *console.TokenStore // the operators'
	logins     *operators.Logins   // theirs too, by a browser
	trail      *trail.Trail        // what people do
	act        *shellAct           // what the trail has of a verb, nil for one that changes nothing
	// clock is the database's clock, so that all processes agree on what is due.
	// Deadlines go by it; tokens and logs go by this machine's.
	clock *sqldb.Clock
	// shipping is nil unless a mini program's shop has configured it.
	shipping *shipping.Service
	shops    *shops.Store // keys of the shop's back ends
	// webhooks sends nothing where no key is configured.
	webhooks *webhooks.Service
	// bulk has the acts on many things.
	bulk *bulk.Runs
	// failures has the tasks that failed; they are rows, so verbs need no Redis for them.
	failures *scheduler.DeadLetters
	// gate is nil where no orders are placed, and none wait.
	gate *gate.Gate
	// close ends the parts, in the order in which they were made; Close goes backward.
	close []func()
}

// shape is what serve and demo give the service beyond its settings. A zero field leaves
// the package's default; the demo shortens the waits to seconds. They are no settings,
// because a service that takes money has no reason to change them.
type shape struct {
	// tasks and the observers are nil in a verb: what it makes due is found by the sweep
	// of a running service, and what it does is not counted.
	tasks order.Tasks
	// rings carries the rings of webhooks between processes; nil in a verb too. webhookLook
	// is webhooks.Config.LookEvery.
	rings interface {
		Ring(ctx context.Context)
		Rings(ctx context.Context, heard func())
	}
	webhookLook   time.Duration
	observe       order.Observer
	wechatObserve func(op, outcome string, took time.Duration)
	// gate is there where customers place orders: verbs sell nothing from memory.
	gate gate.Observer
	// gateRedis has the buckets of gates in mode redis; nil: nobody has.
	gateRedis redis.UniversalClient
	// wechatSignature and wechatTried are those of wechat.Config.
	wechatSignature, wechatTried func(what, result string)
	// simAddr is where the embedded simulator really listens, when its port was drawn.
	simAddr        string
	closeRetry     []time.Duration
	prepayInFlight time.Duration
	gatewayTimeout time.Duration
	refundSpacing  time.Duration
	refundRetry    []time.Duration
	refundPoll     []time.Duration
	// migrate applies missing migrations first.
	migrate bool
}

// alarm has the observer, where there is one, hear of what is about no order.
func (sh *shape) alarm(what, detail string) {
	if sh.observe != nil {
		sh.observe.Alarm(what, "", detail)
	}
}

// openCore opens the database and makes the service on it; the caller closes it. A
// database that lacks a migration of this program is migrations.ErrSchemaBehind.
func openCore(ctx context.Context, s *settings, sh shape, log *slog.Logger) (*core, error) {
	open := sqldb.OpenExisting // a verb in the wrong folder must not make a database there
	if sh.migrate {
		open = sqldb.Open
	}
	db, err := open(ctx, s.dsn())
	if err != nil {
		return nil, err
	}
	db.OnTrouble(func(advice string, err error) {
		log.Error("alarm", "what", "the database refuses", "fix", advice, "err", err)
		sh.alarm("the database refuses", advice)
	})
	c := &core{db: db, trail: trail.New(db, time.Now, log),
		tokens: console.NewTokenStore(db, time.Now).Bound(s.OperatorTokenLife)}
	c.close = append(c.close, func() { _ = db.Close() })
	if err := c.build(ctx, s, sh, log); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// startGate makes the gate of a process that sells.
func (c *core) startGate(s *settings, sh shape, log *slog.Logger) {
	if sh.gate != nil {
		c.gate = gate.New(gate.Config{DB: c.db, Now: c.clock.Now, Log: log, Observe: sh.gate,
			Home: homeName(time.Now()), NoAuto: !s.GateAuto, Shared: c.sharedGate(sh, log)})
	}
}

// build makes the parts on the database. Where it fails, Close ends what was made.
// Nothing here calls WeChat Pay: a verb works while that is away, until it asks.
func (c *core) build(ctx context.Context, s *settings, sh shape, log *slog.Logger) error {
	if sh.migrate {
		if _, err := migrations.Up(ctx, c.db); err != nil {
			return err
		}
	}
	if err := migrations.Check(ctx, c.db); err != nil {
		return err
	}
	if s.ReadDSN != "" {
		if err := c.db.ShowFrom(ctx, s.ReadDSN, migrations.Birth, s.ReadLag); err != nil {
			return misconfigured(fmt.Errorf("ORDERD_READ_DSN: %w", err))
		}
	}
	key, err := s.webhookKey(sh.observe != nil) // by a service, not by a verb
	if err != nil {
		return err
	}
	c.logins = operators.NewLogins(operators.LoginConfig{DB: c.db, Now: time.Now, Key: key})
	if c.clock, err = sqldb.NewClock(ctx, c.db, time.Now); err != nil {
		return err
	}
	c.failures = scheduler.NewDeadLetters(c.db, c.clock.Now)
	c.stock = stock.NewAdmin(c.db, c.clock.Now).Telling(order.TellLow)
	c.shops = shops.New(c.db, time.Now)
	c.startGate(s, sh, log)
	gc, notifyURL, err := s.gatewayConfig(sh.simAddr)
	if err != nil {
		return misconfigured(err)
	}
	if err := c.startGateway(s, sh, &gc, log); err != nil {
		return err
	}
	if err := c.startShipping(s, gc.AppID, cmp.Or(sh.simAddr, s.SimAddr), sh.observe, log); err != nil {
		return err
	}
	if err := c.startWebhooks(s, sh, log); err != nil {
		return err
	}
	if c.orders, err = order.New(c.orderConfig(s, sh, log, gc, notifyURL)); err != nil {
		return err
	}
	c.close = append(c.close, c.orders.Close)
	closes := scheduler.NewBucket(c.db, "close", s.CloseRate, scheduler.Burst(s.CloseRate), c.clock.Now)
	if c.bulk, err = bulk.New(bulk.Config{DB: c.db, Orders: c.orders, Now: c.clock.Now, Log: log,
		Calls: closes.Spare(), Alarm: sh.alarm}); err != nil {
		return err
	}
	c.audit, err = audit.New(audit.Config{DB: c.db, Orders: c.orders, Gateway: c.gateway, Now: c.clock.Now,
		MchID: gc.MchID, AppID: gc.AppID, OtherAppIDs: s.OtherAppIDs})
	if err != nil {
		return err
	}
	c.reconciler, err = reconcile.New(reconcile.Config{
		DB: c.db, Orders: reconcileOrders{c.orders}, Gateway: c.gateway, Bills: c.gateway,
		Now: time.Now, Log: log, MchID: gc.MchID, AppIDs: append([]string{gc.AppID}, s.OtherAppIDs...),
		Alarm: sh.alarm,
	})
	return err
}

// startGateway makes the client of WeChat Pay, and completes what it is configured with.
func (c *core) startGateway(s *settings, sh shape, gc *wechat.Config, log *slog.Logger) error {
	// This machine's clock, not the database's: WeChat Pay compares a signature's time
	// with the world's.
	gc.Now, gc.Log, gc.Observe, gc.Timeout = time.Now, log, sh.wechatObserve, sh.gatewayTimeout
	gc.Signature, gc.Tried = sh.wechatSignature, sh.wechatTried
	gc.Alarm = func(what, detail string) {
		detail = inSettings(detail)
		log.Error("alarm", "what", what, "detail", detail)
		sh.alarm(what, detail)
	}
	// Not below a second: then a loaded test machine would time calls out that the
	// simulator has answered.
	if s.Pace > 1 && gc.Timeout == 0 {
		gc.Timeout = max(usualTimeout/time.Duration(s.Pace), time.Second)
	}
	var err error
	if c.gateway, err = wechat.New(*gc); err != nil {
		return misconfigured(errors.New(inSettings(err.Error())))
	}
	c.close = append(c.close, c.gateway.CloseIdleConnections)
	return nil
}

// orderConfig is what package order is given: the merchant, the settings, and what sh
// changes of the defaults. Validation is order.New's.
func (c *core) orderConfig(s *settings, sh shape, log *slog.Logger, gc wechat.Config, notifyURL string) order.Config {
	grace := s.CloseGrace
	// order.Config takes zero for its default; the setting's zero is a choice.
	if grace == 0 {
		grace = -1 // none, where zero would mean the default
	}
	alone := s.CloseUnprepaid / time.Duration(max(s.Pace, 1))
	if alone == 0 {
		alone = -1 // never, where zero would mean the default
	}
	oc := order.Config{
		DB:      c.db,
		Gateway: c.gateway,
		Tasks:   sh.tasks,
		Now:     c.clock.Now,
		Log:     log,
		Observe: sh.observe,
		Gate:    c.gate,

		MchID:           gc.MchID,
		AppID:           gc.AppID,
		OtherAppIDs:     s.OtherAppIDs,
		NotifyURL:       notifyURL,
		RefundNotifyURL: s.refundNotifyURL(notifyURL),

		PayWithin:      s.PayWithin,
		PayWithinLeast: s.PayLeast,
		PayWithinMost:  s.PayMost,
		Grace:          grace,
		MaxOpenOrders:  s.MaxOpen,
		MaxOpenUnits:   s.MaxUnits,
		LatePayment:    order.LatePolicy(s.LatePayment),
		CloseRetry:     sh.closeRetry,
		PrepayInFlight: sh.prepayInFlight,
		CloseUnprepaid: alone,
		AskEvery:       askEvery(s),
		Pace:           s.Pace,

		RefundAutoApprove: payment.Fen(s.AutoApprove),
		RefundTwoPersons:  payment.Fen(s.TwoPersons),
		RefundNoRestock:   s.Restock == "false",
		PayDescription:    s.PayDescription,
		RefundSpacing:     sh.refundSpacing,
		RefundRetry:       sh.refundRetry,
		RefundPoll:        sh.refundPoll,
	}
	if c.shipping != nil {
		oc.Shipments = c.shipping
	}
	if c.gate != nil {
		oc.Queue = c.gate.Queue()
	}
	return oc
}

// askEvery is order.Config's: there zero is its default, here a choice.
func askEvery(s *settings) time.Duration {
	if s.AskEvery == 0 {
		return -1 // never
	}
	return s.AskEvery / time.Duration(s.Pace)
}

// reconcilesDaily is true with a merchant, unless ORDERD_RECONCILE_DAILY switched it off.
// The simulator forgets its trades at a restart, so that its bills of the days before
// would lack payments that we have: there the setting has to be given.
func (s *settings) reconcilesDaily() bool {
	return s.Reconcile && (!s.simulated() || s.origins["ORDERD_RECONCILE_DAILY"] != "default")
}

// refundNotifyURL is the configured one, or the one beside the payments' when that has
// the usual path. Without either it is "": refunds are polled, and end later but as
// surely.
func (s *settings) refundNotifyURL(payments string) string {
	if s.RefundNotifyURL != "" {
		return s.RefundNotifyURL
	}
	if base, ok := strings.CutSuffix(payments, orderhttp.PathNotifyPayment); ok {
		return base + orderhttp.PathNotifyRefund
	}
	return ""
}

// Close closes from top to bottom: orders commit what waits before the database goes.
func (c *core) Close() {
	for _, f := range slices.Backward(c.close) {
		f()
	}
}

// gatewayConfig is the merchant's, or the simulator's when none is configured, and the
// notify_url that prepays shall carry. simAddr is "" for the configured address of the
// simulator. Errors name the setting that is missing or wrong.
func (s *settings) gatewayConfig(simAddr string) (wechat.Config, string, error) {
	if s.simulated() {
		if simAddr == "" {
			simAddr = s.SimAddr
		}
		c, err := s.simGateway(simAddr)
		return c, "http://" + dialable(s.NotifyAddr) + "/wechat/v3/notify/payment", err
	}
	if s.NotifyURL == "" {
		return wechat.Config{}, "", errors.New("set ORDERD_WECHAT_NOTIFY_URL to the public address of " +
			"/wechat/v3/notify/payment")
	}
	keys, first, err := s.verifyKeys()
	if err != nil {
		return wechat.Config{}, "", err
	}
	base, second, _ := strings.Cut(s.BaseURL, ",")
	return wechat.Config{
		MchID:         s.MchID,
		AppID:         s.AppID,
		SerialNo:      s.SerialNo,
		PrivateKeyPEM: s.PrivateKey,
		APIv3Key:      s.APIv3Key,
		VerifyKeys:    keys,
		ResponseKeyID: cmp.Or(s.ResponseKey, first),
		BaseURL:       base,
		SecondURL:     second,
	}, s.NotifyURL, nil
}

// dialable turns a listening address into one to connect to: :8080, which listens on
// every interface, is 127.0.0.1:8080 for whoever is on this machine.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// app is a running service: the parts in the order in which they are started. A part that
// a role does not need is nil.
type app struct {
	*core
	s   *settings
	log *slog.Logger
	// redis is the only thing beside the database that processes share.
	redis redis.UniversalClient
	// gateRedis is another one for the buckets of gates, nil when redis has them.
	gateRedis redis.UniversalClient
	// miniURL is where mini is, with its password.
	miniURL string
	mini    interface { // the embedded Redis
		Addr() string
		FlushAll()
		Close()
	}
	queue   *scheduler.Queue
	worker  *scheduler.Worker
	sim     *simulator
	metrics *console.Metrics
	ready   *console.Readiness
	servers []*http.Server
	// home has the buckets of sales for whoever only looks, nil when nobody has them.
	home gate.Shared
	// stopping is closed first of all: long polls and background jobs end by it.
	stopping chan struct{}
	// began is when the service was started; the demo reconciles the days since then.
	began time.Time
	id    string         // of this process among all, a ULID
	jobs  sync.WaitGroup // what was started in the background
	// stopGate ends the gate and waits until its units are in the pool again; nil without one.
	stopGate func()
	// lock keeps a second service off the data directory; nil without embedded parts.
	lock *os.File
	// failed has the error of a listener that ended by itself; it has more slots than
	// there are listeners, so that none waits for a reader that has gone.
	failed chan error

	// API to Ops are addresses as they were bound; Shop is the storefront's, "" without it.
	API, Notify, Admin, Ops, Shop string
	// shopSecret is the storefront's key, which only this process knows; "" without it.
	shopSecret string
	// JWTSecret and AdminToken are those in use, generated ones too: the demo's buyers
	// make their tokens with it.
	JWTSecret, AdminToken string
	// Announced are the lines of announce.
	Announced []string
}

// options of a start beyond the settings: the flags of serve, and what the demo wants.
type options struct {
	roles   []string // api, notify, worker, admin
	migrate bool
	// allowUnsafe starts on a database or a Redis that may lose what was acknowledged.
	allowUnsafe bool
	shape       shape
	// simSeed decides the random choices of the embedded simulator, simSpeed divides the
	// waits between its notifications, simNasty lets it lose answers.
	simSeed  uint64
	simSpeed float64
	simNasty bool
}

// has reports that a role runs in this process.
func (o options) has(role string) bool { return slices.Contains(o.roles, role) }

// allRoles are what one process can do; each may run in processes of its own, on one
// database and one Redis: api serves customers, notify WeChat Pay, worker runs timeouts
// and refunds, admin serves operators. Apart, a flood of buyers takes no cores from the
// notifications of payments.
var allRoles = []string{"api", "notify", "worker", "admin"}

// start builds the service from the bottom to the top. On an error everything that was
// started is stopped, so that the caller has nothing to close.
func start(ctx context.Context, s *settings, o options, log *slog.Logger) (*app, error) {
	a := &app{s: s, log: log, began: time.Now(), id: bulk.NewID(time.Now()), stopping: make(chan struct{}),
		failed: make(chan error, 6)}
	for _, step := range []func(context.Context, options) error{
		// Each step needs what those before it made: the queue the data directory's lock,
		// the simulator's address is in the configuration of orders, the worker takes
		// both, and listeners come last, so that no request meets half a service.
		a.startData, a.startQueue, a.startSim, a.startOrders, a.startWorker, a.startGauges,
		a.startListeners,
	} {
		if err := step(ctx, o); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	}
	return a, nil
}

// announce notes a line for the start of serve: what runs embedded, and by which setting
// to replace it. A service that runs on toys must say so.
func (a *app) announce(format string, args ...any) {
	a.Announced = append(a.Announced, fmt.Sprintf(format, args...))
}

// startData locks the data directory when embedded parts keep files in it: two processes
// on one SQLite file would each have an embedded Redis that knows nothing of the other's.
func (a *app) startData(context.Context, options) (err error) {
	if a.s.DSN == "" || a.s.simulated() || a.s.embeddedRedis() {
		if a.lock, err = lockDataDir(a.s.DataDir); err != nil {
			return err
		}
	}
	if a.s.DSN == "" {
		a.announce("database: embedded SQLite in %s (set ORDERD_DSN for MySQL)", a.s.DataDir)
	}
	return nil
}

// startQueue connects to Redis, or starts the embedded one, and refuses one that may
// forget tasks (maxmemory-policy), unless --allow-unsafe was given. A Redis that is away
// is no error: the sweep does its work from the database until it is back.
func (a *app) startQueue(ctx context.Context, o options) (err error) {
	a.metrics = console.NewMetrics()
	b := thisBuild()
	a.metrics.Built(b.Version, b.Commit)
	url := a.s.Redis
	if a.s.embeddedRedis() {
		m, address, err := startRedis()
		if err != nil {
			return err
		}
		a.mini, url = m, address
		a.miniURL = address
		a.announce("queue: embedded Redis in this process (set ORDERD_REDIS)")
	}
	if a.redis, err = scheduler.Connect(url); err != nil {
		return err
	}
	if a.mini == nil {
		if err := refuseUnsafe(scheduler.Safety(ctx, a.redis), o.allowUnsafe, a.log); err != nil {
			return err
		}
	}
	a.queue = scheduler.NewQueue(a.redis, time.Now, a.log, a.metrics)
	return nil
}

// startSim starts the simulator when no merchant is configured, before orders, which need
// its address.
func (a *app) startSim(_ context.Context, o options) (err error) {
	if !a.s.simulated() {
		return nil
	}
	if a.sim, err = a.s.startSimulator(o.simSeed, o.simSpeed, o.simNasty, a.log); err != nil {
		return err
	}
	a.announce("WeChat Pay: SIMULATED on http://%s, no real money anywhere (set ORDERD_WECHAT_MCHID and its keys)",
		a.sim.addr)
	return nil
}

// startOrders opens the database and makes the service on it, and refuses a database that
// may lose commits. On embedded SQLite migrations are always applied: nobody else uses
// the file.
func (a *app) startOrders(ctx context.Context, o options) (err error) {
	sh := o.shape
	sh.tasks, sh.rings, sh.observe, sh.wechatObserve = a.queue, a.queue, a.metrics, a.metrics.WeChat
	sh.wechatSignature, sh.wechatTried = a.metrics.Signature, a.metrics.Tried
	if a.s.GateRedis != "" {
		if a.gateRedis, err = scheduler.Connect(a.s.GateRedis); err != nil {
			return fmt.Errorf("ORDERD_GATE_REDIS: %w", err)
		}
	}
	if o.has("api") || o.has("worker") { // who places orders, and who makes those that wait
		sh.gate, sh.gateRedis = a.metrics, cmp.Or(a.gateRedis, a.redis)
	}
	sh.migrate = o.migrate || a.s.DSN == ""
	if a.sim != nil {
		sh.simAddr = a.sim.addr
	}
	if a.core, err = openCore(ctx, a.s, sh, a.log); err != nil {
		return err
	}
	// The clocks of two machines drift apart; Keep compares them again and again.
	a.background(func(ctx context.Context) { a.clock.Keep(ctx, a.log) })
	found, err := a.db.Safety(ctx)
	if err != nil {
		return err
	}
	if err := refuseUnsafe(found, o.allowUnsafe, a.log); err != nil {
		return err
	}
	a.startGate()
	a.background(a.webhooks.Relay)
	a.background(func(ctx context.Context) {
		scheduler.NewProcesses(a.db, a.clock.Now).Keep(ctx, a.self(o.roles), func(err error) {
			a.log.Warn("the page of health lacks this process", "err", err)
		})
	})
	if o.has("worker") || o.has("admin") { // what was asked for in the console begins at once where that is
		a.background(a.bulk.Run)
	}
	return nil
}

// sharedGate is what the home of gates in mode redis is made of.
type sharedGate struct {
	db      *sqldb.DB
	client  redis.UniversalClient
	now     func() time.Time
	log     *slog.Logger
	observe gate.Observer
}

// openSharedGate makes that home. gateredis.go sets it; nil: this program has none.
var openSharedGate func(sharedGate) gate.Shared

// sharedGate gives the home of gates in mode redis, nil when there is none.
func (c *core) sharedGate(sh shape, log *slog.Logger) gate.Shared {
	if openSharedGate == nil || sh.gateRedis == nil {
		return nil
	}
	return openSharedGate(sharedGate{c.db, sh.gateRedis, c.clock.Now, log, sh.gate})
}

// startGate keeps the gate of this process, if it has one, until Close: it sells on while the
// requests under way are finished.
func (a *app) startGate() {
	if a.gate == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.gate.Run(ctx, a.orders)
	}()
	a.stopGate = func() { cancel(); <-ended }
	select {
	case <-a.gate.First():
	case <-time.After(gatesWithin):
	}
}

// gatesWithin is how long the first read of the gates is waited for: who serves before sells from a pool
// what others may wait for. When the database is away for longer it sells nothing either.
const gatesWithin = 2 * time.Second

// maxHome is the width of stock_buckets.home, in bytes.
const maxHome = 64

// homeName names this process as the home of buckets, as no second one is ever named: host and
// process are for people, the ULID makes it so.
func homeName(now time.Time) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "host"
	}
	name := fmt.Sprintf("-%d-%s", os.Getpid(), ulid.MustNew(ulid.Timestamp(now), rand.Reader))
	return host[:min(len(host), maxHome-len(name))] + name
}

// refuseUnsafe refuses to start on settings of a server that can lose money or stock,
// unless --allow-unsafe was given, and logs what is only worse than it could be. An
// acknowledged order that a power cut takes back would be a payment without an order.
func refuseUnsafe(found []sqldb.Finding, allow bool, log *slog.Logger) error {
	for _, f := range found {
		switch f.Level {
		case sqldb.LevelOK:
		case sqldb.LevelWarn:
			log.Warn("setting", "id", f.ID, "found", f.Found, "why", f.Why, "fix", f.Fix)
		case sqldb.LevelFail:
			if !allow {
				return fmt.Errorf("refusing to start on %s: %s.\nMend it: %s\nOr start with --allow-unsafe, "+
					"knowing that", f.Found, f.Why, f.Fix)
			}
			log.Error("unsafe setting, started all the same", "id", f.ID, "found", f.Found, "why", f.Why)
		}
	}
	return nil
}

// startWorker runs timeouts, refunds and the daily reconciliation, in the role worker.
// All workers of a service share the rate of closes by a row of the table rate_limits,
// because WeChat Pay limits the merchant and not the process.
func (a *app) startWorker(_ context.Context, o options) (err error) {
	if !o.has("worker") {
		return nil
	}
	so := scheduler.Options{
		Orders:      a.orders,
		Queue:       a.queue,
		Now:         a.clock.Now,
		Log:         a.log,
		Observe:     a.metrics,
		CloseRate:   a.s.CloseRate,
		SweepEvery:  a.s.SweepEvery,
		DeadLetters: a.failures,
		Closes:      scheduler.NewBucket(a.db, "close", a.s.CloseRate, scheduler.Burst(a.s.CloseRate), a.clock.Now),
	}
	if a.gate != nil {
		so.SaleQueue = a.gate.Queue()
	}
	// Without Daily the worker runs no reconciliation; `reconcile run` does on demand.
	if a.s.reconcilesDaily() {
		so.Daily = a.reconciler
	}
	if a.worker, err = scheduler.NewWorker(so); err != nil {
		return err
	}
	if a.shipping != nil {
		a.background(a.shipping.Run)
	}
	a.background(a.webhooks.Run)
	a.background(func(ctx context.Context) { feed.New(a.db).Keep(ctx, a.s.EventsKeep, a.clock.Now, a.log) })
	return a.worker.Start()
}

// startListeners opens the listener of each role: api, notify, admin, and that of
// monitoring. They are ports of their own and not paths of one, so that a proxy can expose
// one without the others.
func (a *app) startListeners(ctx context.Context, o options) error {
	if o.has("api") {
		tokens, err := a.verifier()
		if err != nil {
			return misconfigured(err)
		}
		proxies, err := orderhttp.ParseProxies(a.s.TrustedProxies)
		if err != nil {
			return err
		}
		e, err := orderhttp.New(orderhttp.Options{
			Orders:    a.orders,
			SKUs:      a.stock,
			Tokens:    tokens,
			Shops:     a.shopKeys(o),
			Events:    datedFeed{feed.New(a.db), a.clock},
			Now:       time.Now,
			Log:       a.log,
			Observe:   a.metrics,
			AccessLog: a.s.AccessLog,
			OpenAPI:   docs.OpenAPI,
			Stopping:  a.stopping,

			TrustedProxies: proxies,
			WrongTokens:    a.wrongTokens("api", proxies),
		})
		if err != nil {
			return err
		}
		if a.API, err = a.listen(ctx, "api", a.s.APIAddr, "ORDERD_API_ADDR", e); err != nil {
			return err
		}
	}
	if o.has("notify") {
		e, err := orderhttp.NewNotify(orderhttp.NotifyOptions{
			Settler:       a.orders,
			Notifications: a.gateway,
			Echoes:        echoes.New(a.db, time.Now),
			Now:           time.Now,
			Log:           a.log,
			Observe:       a.metrics,
			AccessLog:     a.s.AccessLog,
		})
		if err != nil {
			return err
		}
		if a.Notify, err = a.listen(ctx, "notify", a.s.NotifyAddr, "ORDERD_NOTIFY_ADDR", e); err != nil {
			return err
		}
	}
	if o.has("admin") {
		if err := a.startConsole(ctx); err != nil {
			return err
		}
	}
	if err := a.startOps(ctx, o); err != nil {
		return err
	}
	return a.startStorefront(ctx)
}

// wrongTokens counts what is nobody's token at a listener, and bounds it.
func (a *app) wrongTokens(listener string, proxies []netip.Prefix) *orderhttp.WrongTokens {
	return orderhttp.NewWrongTokens(a.s.WrongTokens, proxies, time.Now,
		func(held bool) { a.metrics.WrongToken(listener, held) })
}

// startConsole opens the operators' listener, on loopback unless configured otherwise.
// The bootstrap token is an admin's, for making the first tokens.
func (a *app) startConsole(ctx context.Context) error {
	if err := a.s.checkAdminAddr(); err != nil {
		return misconfigured(err)
	}
	if err := a.adminToken(); err != nil {
		return misconfigured(err)
	}
	bootstrap := console.Token{Name: "bootstrap", Role: console.Admin, SHA256: sha256.Sum256([]byte(a.AdminToken))}
	co := console.Options{
		Orders:     a.orders,
		Stock:      a.stock,
		Refunds:    a.orders,
		Reconciler: a.reconciler,
		Tasks:      a.queue,
		Failures:   a.failures,
		Tokens:     []console.Token{bootstrap},
		TokenStore: a.tokens,
		Webhooks:   a.webhooks,
		Bulk:       a.bulk,
		Background: a.background,
		Metrics:    a.metrics,
		Ready:      a.ready,
		Now:        time.Now,
		Log:        a.log,
		AccessLog:  a.s.AccessLog,
		Simulated:  a.sim != nil,
		CloseRate:  a.s.CloseRate,
		OpenAPI:    docs.AdminOpenAPI,

		Trail:       a.trail,
		Feed:        feed.New(a.db),
		Stopping:    a.stopping,
		Health:      a.health(),
		VerbActions: shellOnly,
		Logins:      a.logins,
		ShopKeys:    a.shops,
		RequireTOTP: a.s.RequireTOTP,
		BehindTLS:   a.s.BehindProxy,
	}
	a.logins.Keyed(a.AdminToken)
	a.sealCodes(ctx)
	proxies, err := orderhttp.ParseProxies(a.s.TrustedProxies)
	if err != nil {
		return err
	}
	co.WrongTokens, co.TrustedProxies = a.wrongTokens("admin", proxies), proxies
	if a.shipping != nil {
		co.Shipments = a.shipping
	}
	if inspector, ok := a.home.(gate.Inspector); ok {
		co.Home = inspector
	}
	if a.home != nil {
		co.Queues = a.home
	}
	e, err := console.New(co)
	if err != nil {
		return err
	}
	a.Admin, err = a.listen(ctx, "admin", a.s.AdminAddr, "ORDERD_ADMIN_ADDR", e)
	return err
}

// sealCodes seals what programs before this one have left, and raises an alarm where whoever has
// one-time codes cannot come in. The rest of the service does not wait for it.
func (a *app) sealCodes(ctx context.Context) {
	n, err := a.logins.Seal(ctx)
	switch {
	case errors.Is(err, operators.ErrSealed):
		a.log.Error("alarm", "what", "one-time codes cannot be opened", "err", err)
		a.metrics.Alarm("one-time codes cannot be opened", "", err.Error())
	case err != nil:
		a.log.Warn("one-time codes are not sealed", "err", err)
	case n > 0:
		a.log.Info("one-time codes were sealed", "people", n)
	}
}

// checkAdminAddr refuses an address of the console at which passwords would go over a network
// in the clear, unless a proxy stands before it.
func (s *settings) checkAdminAddr() error {
	host, _, err := net.SplitHostPort(s.AdminAddr)
	if err != nil || loopback(host) || s.BehindProxy || s.AdminLocal { // what is no address is listen's to say
		return nil
	}
	return fmt.Errorf("ORDERD_ADMIN_ADDR is %s: people would send their passwords there without TLS; leave it on "+
		"127.0.0.1, or set ORDERD_BEHIND_PROXY=true (--behind-proxy) when a proxy with TLS is in front of it, or "+
		"ORDERD_ADMIN_LOCAL=true (--admin-local) when only this machine reaches it", s.AdminAddr)
}

// verifier checks customers' tokens: by the configured public key, else by the secret;
// embedded, with a secret that is generated.
func (a *app) verifier() (v *orderhttp.Verifier, err error) {
	if a.s.JWTPublicKey != "" {
		if v, err = orderhttp.NewPublicKeyVerifier([]byte(a.s.JWTPublicKey), time.Now); err != nil {
			err = fmt.Errorf("ORDERD_CUSTOMER_JWT_PUBLIC_KEY: %w", err)
		}
		return bound(v, a.s, err)
	}
	secret, err := a.s.jwtSecret(true)
	if err != nil {
		return nil, err
	}
	a.JWTSecret = secret
	if a.s.JWTSecret == "" {
		a.announce("customers' tokens: generated secret in %s (set ORDERD_CUSTOMER_JWT_SECRET)", a.s.DataDir)
	}
	if v, err = orderhttp.NewSecretVerifier([]byte(secret), time.Now); err != nil {
		err = fmt.Errorf("ORDERD_CUSTOMER_JWT_SECRET: %w", err)
	}
	return bound(v, a.s, err)
}

// bound gives a verifier of tokens the settings' bound and the key of before, or the error
// of its making.
func bound(v *orderhttp.Verifier, s *settings, err error) (*orderhttp.Verifier, error) {
	if err != nil {
		return nil, err
	}
	var old *orderhttp.Verifier
	switch {
	case s.JWTOldSecret != "":
		if old, err = orderhttp.NewSecretVerifier([]byte(s.JWTOldSecret), time.Now); err != nil {
			return nil, fmt.Errorf("ORDERD_CUSTOMER_JWT_OLD_SECRET: %w", err)
		}
	case s.JWTOldPublicKey != "":
		if old, err = orderhttp.NewPublicKeyVerifier([]byte(s.JWTOldPublicKey), time.Now); err != nil {
			return nil, fmt.Errorf("ORDERD_CUSTOMER_JWT_OLD_PUBLIC_KEY: %w", err)
		}
	}
	return v.Also(old).Bound(s.CustomerTokenLife), nil
}

// jwtSecret gives the configured secret, or the generated one when WeChat Pay is
// simulated: a service that takes real money has its keys configured, and one that
// several processes made up would differ between them. Only who serves makes one: a token
// of a secret that a verb made in the wrong folder would open nothing.
func (s *settings) jwtSecret(mayMake bool) (string, error) {
	if s.JWTSecret != "" {
		return s.JWTSecret, nil
	}
	if !s.simulated() {
		return "", errors.New("set ORDERD_CUSTOMER_JWT_SECRET or ORDERD_CUSTOMER_JWT_PUBLIC_KEY: customers' tokens " +
			"cannot be checked without")
	}
	const name = "customer-jwt.secret"
	if mayMake {
		secret, _, err := s.secretInDataDir(name)
		return secret, err
	}
	secret, err := readSecretFile(filepath.Join(s.DataDir, name))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no secret of customers' tokens in %s yet: 'orderd serve' makes it; or set "+
			"ORDERD_CUSTOMER_JWT_SECRET", s.DataDir)
	}
	return secret, err
}

// adminToken is the configured bootstrap token; on the simulator it is generated and kept
// in the data directory. With a merchant it is an error to have none.
func (a *app) adminToken() (err error) {
	if a.AdminToken = a.s.AdminToken; a.AdminToken != "" {
		return nil
	}
	if !a.s.simulated() {
		return errors.New("set ORDERD_BOOTSTRAP_ADMIN_TOKEN (or _FILE): nobody could use the admin listener without")
	}
	a.AdminToken, _, err = a.s.secretInDataDir("admin.token")
	a.announce("operators: generated admin token in %s/admin.token (set ORDERD_BOOTSTRAP_ADMIN_TOKEN)", a.s.DataDir)
	return err
}

// listen binds an address and serves it until the app closes. It gives the address that
// was bound, which has the port that was drawn for :0; an error names the setting.
func (a *app) listen(ctx context.Context, name, addr, setting string, h http.Handler) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("listener %s: %w (set %s)", name, err, setting)
	}
	srv := orderhttp.Server(h)
	a.servers = append(a.servers, srv)
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- fmt.Errorf("listener %s: %w", name, err)
		}
	}()
	return l.Addr().String(), nil
}

// background runs what outlives a request and ends with the service: its context ends
// when stopping is closed, and Close waits for it.
func (a *app) background(do func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	a.jobs.Go(func() {
		defer cancel()
		go func() {
			select {
			case <-a.stopping:
				cancel()
			case <-ctx.Done():
			}
		}()
		do(ctx)
	})
}

// Close drains: it stops accepting, lets requests and callbacks finish, lets running
// tasks end, commits what waits, and closes the parts from the top. Requests that have
// not ended within drainTimeout are cut, and nothing is lost by it: orders are found
// again in the database, as after a kill −9. It may be called on an app of which only a
// part was started.
func (a *app) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	close(a.stopping)
	errs := []error{a.shutdown(ctx)}
	// No request asks it for units any more, and what it has goes back through the database.
	if a.stopGate != nil {
		a.stopGate()
	}
	// Background jobs use the database and the gateway: these are closed after them.
	a.jobs.Wait()
	if a.worker != nil {
		a.worker.Stop()
	}
	if a.queue != nil {
		a.queue.Close()
	}
	if a.core != nil {
		a.core.Close()
	}
	if a.sim != nil {
		errs = append(errs, a.sim.stop(ctx))
	}
	if a.gateRedis != nil {
		errs = append(errs, a.gateRedis.Close())
	}
	if a.redis != nil {
		errs = append(errs, a.redis.Close())
	}
	if a.mini != nil {
		a.mini.Close()
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	return errors.Join(errs...)
}

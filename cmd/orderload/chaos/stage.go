package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order/ordertest/canary"
	"orderd/payment/wechatsim"
	"orderd/stock"
)

// The times of the run: a day of a shop in minutes.
const (
	// payWithin is ORDERD_PAY_WITHIN, 30 minutes by default: most visits are over in it,
	// and those who walk away come due while the run goes on.
	payWithin = 3 * time.Second
	// grace is ORDERD_CLOSE_GRACE, 20 seconds by default.
	grace = 500 * time.Millisecond
	// pace is ORDERD_PACE: the service's waits are divided by it.
	pace = 15
	// speed is how much faster the simulator repeats callbacks: a minute in a second, so
	// that the last repeat of WeChat Pay, after 24 hours, comes in 24 minutes.
	speed = 60
	// closeRate is ORDERD_CLOSE_RATE in closes a second, more than buyers cause: what
	// waits for the rate would hide what hangs.
	closeRate = 300
	// maxOpen is ORDERD_MAX_OPEN_ORDERS of a customer, its default.
	maxOpen = 5

	// startPatience is for a process to answer /readyz, on a machine that is busy with
	// everything else. readyTimeout is for one answer.
	startPatience = time.Minute
	readyTimeout  = 2 * time.Second
	// notifyTimeout is as long as WeChat Pay waits for the answer to a callback.
	notifyTimeout = 5 * time.Second

	superviseEvery = 100 * time.Millisecond // between two looks for processes that have ended
	readyEvery     = 50 * time.Millisecond  // between two looks whether one is up
	restartHold    = time.Second            // after a start, before the next
)

// stage is everything that runs: the servers, the services, WeChat Pay. WeChat Pay and
// the judge live in this process, which nobody kills.
type stage struct {
	dir     string
	mariadb *servers.MariaDB
	redis   *servers.Redis
	// mysqlUp and redisUp are held while that server is being taken down and brought up.
	mysqlUp sync.Mutex
	redisUp sync.Mutex
	// db is the judge's own way to the database: no fault is in it, only the address of
	// whichever server is the primary. console is the same, as a person comes to it who
	// has none of the service's settings.
	db      *sqldb.DB
	console *sql.DB
	sim     *wechatsim.Sim
	simHTTP *httptest.Server
	truth   *truth
	secrets *canary.Set // none of them may ever stand in a log or in an answer
	// binary is the program under test, built for this run, and env the configuration
	// that all of its processes have.
	binary  string
	env     []string
	apis    []*process // roles api, notify and admin
	workers []*process // roles worker and admin

	mysqlProxy *faultproxy.Proxy // between the services and MariaDB
	redisProxy *faultproxy.Proxy // between the services and Redis
	judgeProxy *faultproxy.Proxy // between the judge and MariaDB: switched over, never spoilt
	primaries  int               // switchovers so far
	stale      stale

	// replica follows mariadb so far behind as lag says; nil without one.
	replica *servers.MariaDB
	lag     time.Duration

	// buckets is the Redis with the buckets of a sale in mode redis, nil in another run.
	buckets      *servers.Redis
	bucketsProxy *faultproxy.Proxy // between the services and it
	aloneProxy   *faultproxy.Proxy // the same for the first api process alone, where there is a queue
	bucketsDirs  int               // folders that its servers have had

	// gate is the mode of the sale, "" without one. putIn is what came in of its SKUs.
	gate   string
	rate   int64 // orders a second of each sale; 0: no queue
	doubts doubts
	saleMu sync.Mutex
	putIn  map[string]int64

	httpMu sync.Mutex
	next   int // the api process that gets the next callback, modulo their number
}

// processes are all services.
func (s *stage) processes() []*process { return append(append([]*process{}, s.apis...), s.workers...) }

// build makes the binary under test, with an overlay when it is a mutant. It is built and
// not run by go run, because go run would be what a kill hits.
func build(ctx context.Context, dir, overlay, tags string) (string, error) {
	binary := filepath.Join(dir, "orderd")
	args := []string{"build", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	if tags != "" {
		args = append(args, "-tags", tags)
	}
	out, err := exec.CommandContext(ctx, "go", append(args, "orderd/cmd/orderd")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build orderd (run this inside the repository): %w: %s", err, out)
	}
	return binary, nil
}

// newStage builds the services and starts everything. On an error nothing runs any more.
func newStage(ctx context.Context, o Options, dir string) (s *stage, err error) {
	s = &stage{dir: dir, lag: o.Replica}
	tags := o.Tags
	if o.gated() {
		s.gate, s.rate = o.Gate, o.Rate
		tags = strings.Trim(tags+",failpoints", ",")
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.binary, err = build(ctx, dir, o.overlay, tags); err != nil {
		return s, err
	}
	if err := s.startServers(ctx); err != nil {
		return s, err
	}
	if err := s.startWeChat(o.Seed); err != nil {
		return s, err
	}
	if err := s.fill(ctx, o); err != nil {
		return s, err
	}
	for i := range o.APIs {
		p, err := s.newProcess(fmt.Sprintf("api%d", i+1), "api", "notify", "admin")
		if err != nil {
			return s, err
		}
		if i == 0 && s.aloneProxy != nil {
			p.env = append(p.env, gateRedisEnv(s.aloneProxy)) // the last word counts
		}
		s.apis = append(s.apis, p)
	}
	for i := range o.Workers {
		p, err := s.newProcess(fmt.Sprintf("worker%d", i+1), "worker", "admin")
		if err != nil {
			return s, err
		}
		s.workers = append(s.workers, p)
	}
	return s, s.startAll(ctx)
}

// startServers starts MariaDB with full durability (sync-binlog=1 beside what package
// servers sets) and Redis with its log on disk, both with a proxy before them, through
// which the services go and the judge does not.
func (s *stage) startServers(ctx context.Context) (err error) {
	options := []string{"--innodb-buffer-pool-size=1G", "--sync-binlog=1"}
	if s.lag > 0 {
		options = append(options, servers.ReplicaOptions(1)...)
	}
	if s.mariadb, err = servers.StartMariaDB(ctx, filepath.Join(s.dir, "m"), options...); err != nil {
		return err
	}
	if err := s.startReplica(ctx); err != nil {
		return err
	}
	s.redis, err = servers.StartRedis(ctx, filepath.Join(s.dir, "r"), "--appendonly", "yes",
		"--requirepass", canary.RedisPass)
	if err != nil {
		return err
	}
	if s.mysqlProxy, err = faultproxy.NewMySQL(s.mariadb.Addr); err != nil {
		return err
	}
	if s.redisProxy, err = faultproxy.New(s.redis.Addr); err != nil {
		return err
	}
	if s.judgeProxy, err = faultproxy.New(s.mariadb.Addr); err != nil {
		return err
	}
	if err := s.startBuckets(ctx); err != nil {
		return err
	}
	if err := s.mariadb.Create(ctx, database); err != nil {
		return err
	}
	dsn := s.mariadb.TCPDSN(s.judgeProxy.Addr(), database)
	if s.db, err = sqldb.Open(ctx, dsn); err != nil {
		return err
	}
	if s.console, err = sql.Open("mysql", strings.TrimPrefix(dsn, "mysql:")); err != nil {
		return err
	}
	if _, err := migrations.Up(ctx, s.db); err != nil {
		return err
	}
	return s.grant(ctx)
}

// database is the schema and the user of docs/grants.sql.
const database = "orderd"

// grant makes the services' user by docs/grants.sql, with the least rights: a run shows
// that they are enough.
func (s *stage) grant(ctx context.Context) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "grants.sql"))
	if err != nil {
		return err
	}
	for statement := range strings.SplitSeq(strings.ReplaceAll(string(text), "PASSWORD", canary.DatabasePass), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if err := s.mariadb.Exec(ctx, statement); err != nil {
			return fmt.Errorf("docs/grants.sql: %w", err)
		}
	}
	return nil
}

// startWeChat starts the simulator in this process, which nobody kills: its ledger is the
// truth of the run, and is on disk as it happens. It loses answers, repeats callbacks and
// delays them by its own nastiness, beside what the nemesis does.
func (s *stage) startWeChat(seed uint64) error {
	keys, err := wechatsim.GenerateKeys(bench.MchID, bench.AppID)
	if err != nil {
		return err
	}
	if s.truth, err = newTruth(filepath.Join(s.dir, "wechat.jsonl")); err != nil {
		return err
	}
	nasty := wechatsim.DefaultNastiness()
	nasty.MaxNotifyDelay = time.Minute // a second at this speed
	s.sim, err = wechatsim.New(wechatsim.Options{Keys: keys, Now: time.Now, Seed: seed, Speed: speed, Nastiness: &nasty,
		EffectsLog: s.truth, NotifyClient: s.notifyClient()})
	if err != nil {
		return err
	}
	s.simHTTP = httptest.NewServer(s.sim.Handler())
	c := keys.Client()
	s.secrets = canary.New([]byte(c.PrivateKeyPEM))
	s.secrets.Add("APIv3 key", c.APIv3Key)
	var verify []string
	for id, pem := range c.VerifyKeys {
		file := filepath.Join(s.dir, id+".pem")
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			return err
		}
		verify = append(verify, id+"="+file)
	}
	s.env = s.environment(c, strings.Join(verify, ","))
	if s.buckets != nil {
		s.env = append(s.env, gateRedisEnv(s.bucketsProxy))
	}
	return nil
}

// gateRedisEnv names the Redis of the buckets by a proxy before it.
func gateRedisEnv(p *faultproxy.Proxy) string {
	return "ORDERD_GATE_REDIS=redis://:" + canary.RedisPass + "@" + p.Addr() + "/0"
}

// environment is the configuration of the services. verify are the keys of WeChat Pay, as
// ORDERD_WECHAT_VERIFY_KEYS takes them. Secrets are canaries: texts that can be searched
// for in logs and answers.
func (s *stage) environment(c wechatsim.ClientConfig, verify string) []string {
	return append(s.replicaEnv(), []string{
		"ORDERD_DSN=mysql:orderd:" + canary.DatabasePass + "@tcp(" + s.mysqlProxy.Addr() + ")/" + database,
		"ORDERD_REDIS=redis://:" + canary.RedisPass + "@" + s.redisProxy.Addr() + "/0",
		"ORDERD_PAY_WITHIN=" + payWithin.String(),
		"ORDERD_CLOSE_GRACE=" + grace.String(),
		"ORDERD_SWEEP_EVERY=1s",
		fmt.Sprintf("ORDERD_MAX_OPEN_ORDERS=%d", maxOpen),
		fmt.Sprintf("ORDERD_CLOSE_RATE=%d", closeRate),
		fmt.Sprintf("ORDERD_PACE=%d", pace),
		"ORDERD_REFUND_AUTO_APPROVE=100000000", // no person takes part in a run
		"ORDERD_REFUND_TWO_PERSONS=0",
		"ORDERD_RECONCILE_DAILY=false", // the judge reconciles
		"ORDERD_CUSTOMER_JWT_SECRET=" + canary.JWTSecret,
		"ORDERD_BOOTSTRAP_ADMIN_TOKEN=" + canary.AdminToken,
		"ORDERD_WECHAT_MCHID=" + c.MchID,
		"ORDERD_WECHAT_APPID=" + c.AppID,
		"ORDERD_WECHAT_SERIAL_NO=" + c.SerialNo,
		"ORDERD_WECHAT_PRIVATE_KEY=" + c.PrivateKeyPEM,
		"ORDERD_WECHAT_APIV3_KEY=" + c.APIv3Key,
		"ORDERD_WECHAT_VERIFY_KEYS=" + verify,
		"ORDERD_WECHAT_BASE_URL=" + s.simHTTP.URL,
		"ORDERD_WECHAT_NOTIFY_URL=http://127.0.0.1:1/wechat/v3/notify/payment", // notifyClient dials elsewhere
	}...)
}

// notifyClient delivers callbacks to the services one after the other, as a load balancer
// does that does not know who is dead. The address of the notify_url does not matter to
// it; connections are not kept, so that each callback may meet another process.
func (s *stage) notifyClient() *http.Client {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		s.httpMu.Lock()
		s.next++
		addr := s.apis[s.next%len(s.apis)].notify
		s.httpMu.Unlock()
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	return &http.Client{Timeout: notifyTimeout, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

// The stock of the shop.
const (
	skus = 200
	// The first hot SKUs are bought most, and scarce: of hotShare orders one can have a
	// unit of each, and hotLeast units are there in a small run too.
	hot      = 5  // the first ones are bought most, and are scarce:
	hotShare = 50 // of so many orders one can have a unit of each
	hotLeast = 5  // units, in a small run too
)

// skuID is the id of SKU n.
func skuID[N int | uint64](n N) string { return fmt.Sprintf("sku%03d", n) }

// fill puts the stock on the shelves; every price is another one, so that a sum of the
// wrong lines does not happen to be right.
func (s *stage) fill(ctx context.Context, o Options) error {
	admin := stock.NewAdmin(s.db, time.Now)
	for n := range skus {
		quantity := int64(o.Orders)
		if n < hot {
			quantity = scarce(o.Orders)
		}
		if n < hot && o.gated() {
			quantity = sale[n].units(o.Orders)
			s.came(skuID(n), quantity)
		}
		put := stock.Put{SkuID: skuID(n), Title: "Thing", PriceFen: int64(100 + n), Quantity: &quantity, Actor: "chaos"}
		if _, _, err := admin.Put(ctx, put); err != nil {
			return err
		}
	}
	plenty, unlimited := int64(1_000_000), int64(-1)
	_, _, err := admin.Put(ctx, stock.Put{SkuID: trialSKU, Title: "Thing", PriceFen: 1, Quantity: &plenty,
		Actor: "chaos"})
	if err == nil {
		_, _, err = admin.Put(ctx, stock.Put{SkuID: trialFree, Title: "Thing", PriceFen: 1, Quantity: &unlimited,
			Actor: "chaos"})
	}
	return err
}

// startAll starts every process that does not run, and waits for all.
func (s *stage) startAll(ctx context.Context) error {
	for _, p := range s.processes() {
		if err := p.start(); err != nil {
			return err
		}
	}
	return s.ready(ctx)
}

// ready waits until every process answers /readyz with 200, one after the other.
func (s *stage) ready(ctx context.Context) error {
	for _, p := range s.processes() {
		if err := p.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// verb runs a command of the binary under test beside the services. An exit code is no
// error. out has standard output, and after it the errors when it failed.
func (s *stage) verb(ctx context.Context, args ...string) (out string, exit int, err error) {
	return s.verbWith(ctx, "ORDERD_READ_DSN=", args...) // the judge asks whoever writes
}

// verbWith is verb with a variable of its own.
func (s *stage) verbWith(ctx context.Context, variable string, args ...string) (out string, exit int, err error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = append(slices.Clone(s.env), "PATH="+os.Getenv("PATH"), "HOME="+s.dir,
		"ORDERD_DATA_DIR="+filepath.Join(s.dir, "verbs"), variable) // the last word counts
	var errs strings.Builder
	cmd.Stderr = &errs
	b, err := cmd.Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return string(b) + errs.String(), ended.ExitCode(), nil
	}
	return string(b), 0, err
}

// close ends everything, also what only half a start has made. The files stay.
func (s *stage) close() {
	for _, p := range s.processes() {
		p.kill(0)
	}
	if s.sim != nil {
		s.simHTTP.CloseClientConnections()
		s.simHTTP.Close()
		s.sim.Close()
	}
	if s.db != nil {
		_ = s.db.Close()
	}
	if s.console != nil {
		_ = s.console.Close()
	}
	for _, p := range []*faultproxy.Proxy{s.mysqlProxy, s.redisProxy, s.judgeProxy, s.bucketsProxy, s.aloneProxy} {
		if p != nil {
			p.Close()
		}
	}
	if s.mariadb != nil { // their files stay: a red run is to be looked into
		s.mariadb.Kill()
	}
	if s.replica != nil {
		s.replica.Kill()
	}
	if s.redis != nil {
		s.redis.Kill()
	}
	if s.buckets != nil {
		s.buckets.Kill()
	}
	if s.truth != nil {
		_ = s.truth.close()
	}
}

// process is one orderd in a process of its own.
type process struct {
	// Its name is that of its log; the addresses are its own for the whole run.
	name               string
	api, notify, admin string
	steps              string // where it is told what to do at a step, with a gate only
	binary             string
	args, env          []string
	log                string

	mu    sync.Mutex // what follows
	cmd   *exec.Cmd
	ended chan struct{}
	// notBefore is when the supervisor may start it again.
	notBefore time.Time
	// killed says that its end was ours, exits counts those that were its own.
	killed bool
	exits  int
	// armed says that it may have been told to kill itself.
	armed bool
}

// newProcess makes a process with addresses of its own; start starts it.
func (s *stage) newProcess(name string, roles ...string) (*process, error) {
	p := &process{name: name, binary: s.binary, args: []string{"serve", "--log-level", "info"},
		log: filepath.Join(s.dir, name+".log")}
	for _, addr := range []*string{&p.api, &p.notify, &p.admin, &p.steps} {
		var err error
		if *addr, err = servers.FreeAddr(); err != nil {
			return nil, err
		}
	}
	for _, r := range roles {
		p.args = append(p.args, "--role", r)
	}
	p.env = append(append([]string{}, s.env...), "ORDERD_DATA_DIR="+filepath.Join(s.dir, name),
		"ORDERD_API_ADDR="+p.api, "ORDERD_NOTIFY_ADDR="+p.notify, "ORDERD_ADMIN_ADDR="+p.admin,
		"ORDERD_DRAIN_DELAY=0s", "HOME="+s.dir, "PATH="+os.Getenv("PATH"), "GOTRACEBACK=all")
	if s.gate != "" {
		p.env = append(p.env, "ORDERD_FAILPOINTS_ADDR="+p.steps,
			"ORDERD_FAILPOINTS_LOG="+filepath.Join(s.dir, stepsLog))
	}
	return p, nil
}

// start starts the process unless it runs. It dies with this process (Pdeathsig), and is
// in a group of its own, so that Ctrl-C does not end it before the harness does.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return nil
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.binary, p.args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.env, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // being killed is its job
		close(ended)
	}(p.cmd, p.ended)
	return nil
}

// running reports that it was started and has not ended. It needs p.mu.
func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// mayStart reports that it is dead and has been so for long enough. It counts the end
// when nobody of the harness has caused it.
func (p *process) mayStart() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() || time.Now().Before(p.notBefore) {
		return false
	}
	if !p.killed && !p.armed {
		p.exits++
	}
	p.killed, p.armed = false, false
	return true
}

// exits counts the ends that nobody of the harness had caused.
func (s *stage) exits() (n int) {
	for _, p := range s.processes() {
		p.mu.Lock()
		n += p.exits
		p.mu.Unlock()
	}
	return n
}

// supervise starts what has ended, by a kill or by itself because a server was away as it
// came up, as systemd would, until ctx ends.
func (s *stage) supervise(ctx context.Context) error {
	for sqldb.Sleep(ctx, superviseEvery) {
		for _, p := range s.processes() {
			if !p.mayStart() {
				continue
			}
			if err := p.start(); err != nil {
				return err
			}
			p.hold(restartHold)
		}
	}
	return nil
}

// hold keeps a process that ends at once from being started all the time: d is the least
// time until the next start.
func (p *process) hold(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notBefore = time.Now().Add(d)
}

// kill ends it as a crash would, for so long at least. False when it was dead already.
func (p *process) kill(down time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return false
	}
	p.notBefore, p.killed = time.Now().Add(down), true
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.ended
	return true
}

// signal sends a signal, and reports whether there was somebody to take it.
func (p *process) signal(sig syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running() && p.cmd.Process.Signal(sig) == nil
}

// ready waits for it, and starts it again if it gave up because a server was
// away as it came up.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/readyz", nil)
		if err != nil {
			return err
		}
		res, err := (&http.Client{Timeout: readyTimeout}).Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("readyz says %d", res.StatusCode)
		}
		if !sqldb.Sleep(ctx, readyEvery) {
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			p.signal(syscall.SIGQUIT) // where it hangs is in its log then
			time.Sleep(time.Second)
			return fmt.Errorf("%s does not come up: %w; see %s", p.name, err, p.log)
		}
		if err := p.start(); err != nil {
			return err
		}
	}
}

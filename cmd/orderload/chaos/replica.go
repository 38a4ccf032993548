package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order/ordertest/canary"
)

// replicaMutants are the mistakes that need a replica which lags.
var replicaMutants = []Mutant{
	{"decides-by-a-replica", "what a decision is about is read from the replica, which lags behind", []Edit{
		{"order/store_orders.go", "func lockOrders(ctx context.Context, tx *sqldb.Tx, ",
			"func lockOrders(ctx context.Context, tx sqldb.Querier, "},
		{"order/load.go", "lockOrders(ctx, tx, sorted(n.orders))",
			"lockOrders(ctx, b.s.db.Shown(), sorted(n.orders))"}}},
}

// replicaMutant reports that the run of a mutant needs a replica.
func replicaMutant(name string) bool {
	return slices.ContainsFunc(replicaMutants, func(m Mutant) bool { return m.Name == name })
}

// startReplica starts a server that follows MariaDB, and does what it hears only after a while. Nobody spoils it.
func (s *stage) startReplica(ctx context.Context) (err error) {
	if s.lag == 0 {
		return nil
	}
	s.replica, err = servers.StartMariaDB(ctx, filepath.Join(s.dir, "replica"),
		append(servers.ReplicaOptions(2), "--read-only=ON")...)
	if err != nil {
		return err
	}
	if err := servers.Replicate(ctx, s.mariadb, s.replica); err != nil {
		return err
	}
	return s.follow(ctx)
}

// follow has the replica follow whichever server is the primary.
func (s *stage) follow(ctx context.Context) error {
	if s.replica == nil {
		return nil
	}
	_, port, err := net.SplitHostPort(s.mariadb.Addr)
	if err != nil {
		return err
	}
	for _, statement := range []string{"STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_PORT=%s, MASTER_DELAY=%d",
		port, int(s.lag.Seconds())), "START SLAVE"} {
		if err := s.replica.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// believedFor is the bound of what is shown in such a run, as a multiple of how far the replica is behind: kills of the
// primary hold it up further.
const believedFor = 4

// replicaEnv is the configuration of the services for it.
func (s *stage) replicaEnv() []string {
	if s.replica == nil {
		return nil
	}
	return []string{"ORDERD_READ_DSN=" + s.replicaDSN(), "ORDERD_READ_LAG=" + (believedFor * s.lag).String()}
}

// replicaDSN names the replica, past all proxies.
func (s *stage) replicaDSN() string {
	return "mysql:orderd:" + canary.DatabasePass + "@tcp(" + s.replica.Addr + ")/" + database
}

// What people read all the time: lists that come from the replica.
var shownLists = []string{"/admin/v1/orders?limit=1", "/admin/v1/refunds?limit=1",
	"/admin/v1/orders?state=paid&limit=50"}

const (
	readEvery = 200 * time.Millisecond // between two lists
	// The counters of them, which the report shows.
	readBehind = "list of orders as they were, from the replica"
	readNow    = "list of orders as they are"
	// behindLeast is how many lists must have shown the past, so that the run says something.
	behindLeast = 20
)

// reads has somebody read lists all the time, of one process after the other, until stop is called. That a process is
// away is no finding; that it refuses a list, or says 500, is.
func (s *shop) reads(ctx context.Context) (stop func()) {
	if s.stage.replica == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; sqldb.Sleep(ctx, readEvery); n++ {
			list := shownLists[n%len(shownLists)]
			status, text := s.list(ctx, s.stage.apis[n/len(shownLists)%len(s.stage.apis)], list)
			switch {
			case status/100 == 4, status == http.StatusInternalServerError:
				s.violated("GET %s answered %d: %.200s", list, status, text)
			case status == http.StatusOK && list == shownLists[0]:
				s.aged(ctx, text)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// aged counts whether a list shows the past: it lacks orders that the primary has had for half as long as the replica
// is behind. In a quiet moment, and when the primary shows, it lacks none.
func (s *shop) aged(ctx context.Context, text string) {
	var page struct {
		Data []struct {
			OrderNo string `json:"order_no"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(text), &page); err != nil {
		s.violated("a list of orders is none: %v: %.200s", err, text)
		return
	}
	if len(page.Data) == 0 {
		return
	}
	var since int64 // orders that were placed well before now, and that the list has not
	err := s.stage.db.QueryRowContext(ctx, `SELECT COUNT(*)
FROM orders
WHERE order_no > ?
  AND created_at < ?`, page.Data[0].OrderNo, sqldb.Millis(time.Now().Add(-s.stage.lag/2))).Scan(&since)
	switch {
	case err != nil: // the server may be away
	case since > 0:
		s.count(readBehind)
	default:
		s.count(readNow)
	}
}

// list reads a list as an operator; 0 is no answer.
func (s *shop) list(ctx context.Context, p *process, path string) (status int, text string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+canary.AdminToken)
	res, err := s.http.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

// sawReplica is what must have happened with a replica.
func (s *shop) sawReplica() []Happened {
	if s.stage.replica == nil {
		return nil
	}
	return []Happened{{readBehind, s.counted(readBehind), behindLeast}}
}

// replicated verifies what the replica has, a while ago: one moment, in which nothing may be broken either.
func (j *judge) replicated(ctx context.Context) error {
	if j.replica == nil {
		return nil
	}
	out, exit, err := j.verbWith(ctx, "ORDERD_READ_DSN="+j.replicaDSN(), "verify", "-o", "json")
	if err != nil {
		return err
	}
	return j.reported("verify", strings.TrimSpace(out), exit)
}

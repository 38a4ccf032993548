package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Level is how bad a finding is.
type Level string

// The levels. A service refuses to start on LevelFail unless it is told to.
const (
	LevelOK Level = "ok"
	// LevelWarn is for a person to look at, and ends nothing.
	LevelWarn Level = "warn"
	LevelFail Level = "fail"
)

// Finding is one thing that a start-up check or a doctor has to say.
type Finding struct {
	ID    string `json:"id"`            // AREA.NAME, stable
	Level Level  `json:"level"`         // how bad it is
	Found string `json:"found"`         // what is there, such as a setting and its value
	Why   string `json:"why,omitempty"` // why it matters
	Fix   string `json:"fix,omitempty"` // the command that mends it
}

// Safety looks at the server settings on which durability and correctness
// rest. An error means that they could not be read.
func (db *DB) Safety(ctx context.Context) ([]Finding, error) {
	if db.engine == SQLite {
		return db.sqliteSafety(ctx)
	}
	return db.mysqlSafety(ctx)
}

// sqliteSafety checks the file: its settings are made by Open.
func (db *DB) sqliteSafety(ctx context.Context) ([]Finding, error) {
	var check string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&check); err != nil {
		return nil, fmt.Errorf("check the SQLite file: %w", err)
	}
	f := Finding{ID: "sqlite.integrity", Level: LevelOK, Found: check}
	if check != "ok" {
		f.Level, f.Why, f.Fix = LevelFail, "the database file is damaged", "restore it from a backup"
	}
	return []Finding{f}, nil
}

// mysqlSafety reads the server's settings.
func (db *DB) mysqlSafety(ctx context.Context) ([]Finding, error) {
	v := map[string]string{}
	for _, query := range []string{`SHOW GLOBAL VARIABLES
WHERE Variable_name IN ('version', 'innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog', 'sql_mode',
  'max_allowed_packet', 'wsrep_on', 'default_storage_engine', 'tidb_enable_check_constraint')
  OR Variable_name LIKE 'rpl_semi_sync_%'`,
		`SHOW GLOBAL STATUS
WHERE Variable_name IN ('Slave_running', 'Slaves_running', 'Slaves_connected')
  OR Variable_name IN ('Rpl_semi_sync_master_clients', 'Rpl_semi_sync_source_clients')
  OR Variable_name IN ('Rpl_semi_sync_master_status', 'Rpl_semi_sync_source_status')`} {
		if err := db.settings(ctx, query, v); err != nil {
			return nil, fmt.Errorf("read the server's settings: %w", err)
		}
	}
	if _, named := v["slave_running"]; !named {
		following, known, err := db.follows(ctx)
		if err != nil {
			return nil, err
		}
		if known {
			v["slave_running"] = map[bool]string{true: "ON", false: "OFF"}[following]
		}
	}
	found := append(judge(v), judgeReplicas(v)...)
	if several := db.hosts(ctx); several != nil {
		found = append(found, judgeHosts(several, db.tidb || v["wsrep_on"] == "ON"))
	}
	session, err := db.session(ctx)
	if err != nil {
		return nil, err
	}
	if db.tidb {
		found = append(found, judgeTiDB(v, session)...)
	}
	if db.HasHints() {
		found = append(found, Finding{ID: "mysql.inventory_hints", Level: LevelOK,
			Found: "the server has a statement queue: the last UPDATE of a placing batch commits by itself"})
	}
	dead, err := db.deadHosts(ctx)
	return append(append(found, judgeSession(session)...), dead), err
}

// semiSyncPatience is for how long a primary should wait for a replica at the least, in
// milliseconds: an hour is for ever, since a person has come by then.
const semiSyncPatience = 3_600_000

// followQuestions ask MySQL, which has no variable for it since 5.7, what it follows, a row for each source. The table
// wants SELECT on it alone and is there since 5.7; the statements want REPLICATION CLIENT, and have the newer name
// since 8.0.22 and no other since 8.4.
var followQuestions = []string{`SELECT CHANNEL_NAME, SERVICE_STATE
FROM performance_schema.replication_connection_status`, "SHOW REPLICA STATUS", "SHOW SLAVE STATUS"}

// follows reports that the server receives from another one, or tries to; known is false where this account may ask
// nothing of that. A server of a group has channels of its own, and follows nobody by them.
func (db *DB) follows(ctx context.Context) (following, known bool, err error) {
	if db.tidb { // its stores have copies of their own, and it knows neither the table nor the statements
		return false, true, nil
	}
	for _, question := range followQuestions {
		following = false
		err = Each(ctx, db, question, nil, func(rows *sql.Rows) error {
			channel, state, err := sourceOf(rows)
			if state != "OFF" && state != "No" && !strings.HasPrefix(channel, "group_replication_") {
				following = true
			}
			return err
		})
		if err == nil {
			return following, true, nil
		}
		if !errors.As(err, new(*mysql.MySQLError)) { // else the server has refused, or does not know, the question
			return false, false, fmt.Errorf("ask whether the server follows another: %w", err)
		}
	}
	return false, false, nil
}

// sourceOf reads a row of an answer to followQuestions: which channel it is, and how its receiver is.
func sourceOf(rows *sql.Rows) (channel, state string, err error) {
	names, err := rows.Columns()
	if err != nil {
		return "", "", err
	}
	values, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	err = rows.Scan(into...)
	for i, name := range names {
		switch strings.ToLower(name) {
		case "channel_name":
			channel = values[i].String
		case "service_state", "replica_io_running", "slave_io_running":
			state = values[i].String
		}
	}
	return channel, state, err
}

// judgeReplicas says whether this server follows another, and what its crash loses. The names
// are MariaDB's and those of MySQL's plugin ("Semisynchronous Replication" in the manual of
// either). MySQL 8 has no variable for by how many it is followed: there the finding says that it does not say.
func judgeReplicas(v map[string]string) []Finding {
	role := Finding{ID: "mysql.role", Level: LevelOK, Found: "no replica"}
	following, named := v["slave_running"]
	switch running, _ := strconv.Atoi(v["slaves_running"]); {
	case !named:
		role.Found = "it is not known whether the server follows another: orderd's account may read neither " +
			"performance_schema.replication_connection_status nor SHOW REPLICA STATUS"
	case following == "ON" || running > 0: // slaves_running: by connections with a name
		role.Level, role.Found = LevelWarn, "a replica that follows another server"
		role.Why = "what orderd writes here, the other server has only if it follows this one"
		role.Fix = adviseReplica
	}
	f := Finding{ID: "mysql.semi_sync", Level: LevelOK, Found: "no replica is connected"}
	connected, counted := v["slaves_connected"]
	number := func(name string) int { n, _ := strconv.Atoi(v["rpl_semi_sync_master_"+name]); return n }
	off := func(name string) bool { return v["rpl_semi_sync_master_"+name] == "OFF" }
	replicas, _ := strconv.Atoi(connected)
	on, point := v["rpl_semi_sync_master_enabled"] == "ON", v["rpl_semi_sync_master_wait_point"]
	switch {
	case on || replicas > 0:
		f.Found = fmt.Sprintf("enabled=%t status=%s wait_point=%s timeout=%d clients=%d", on,
			v["rpl_semi_sync_master_status"], point, number("timeout"), number("clients"))
	case !counted:
		f.Found = "the server does not say how many replicas it has"
	}
	switch {
	case !on && replicas > 0:
		f.Level = LevelWarn
		f.Why = "replicas follow asynchronously: a crash of this server loses acknowledged orders that no replica has"
		f.Fix = "turn semi-synchronous replication on, as docs/operations.md says"
	case on && number("clients") < max(number("wait_for_slave_count"), 1):
		f.Level, f.Why = LevelWarn, "too few replicas answer: every COMMIT waits for one, or stops waiting for good"
		f.Fix = "start the replica, or SET GLOBAL rpl_semi_sync_master_enabled = OFF"
	case on && off("status"):
		f.Level, f.Why = LevelWarn, "it has stopped waiting: a crash of this server loses acknowledged orders"
		f.Fix = "look at the replica; SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'"
	case on && off("wait_no_slave"):
		f.Level = LevelWarn
		f.Why = "it stops waiting when its replica leaves, and a crash then loses acknowledged orders"
		f.Fix = "SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON"
	case on && point != "AFTER_SYNC":
		f.Level, f.Why, f.Fix = LevelWarn, "others see an order before a replica has it, and a crash then loses it",
			"SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC"
	case on && number("timeout") < semiSyncPatience:
		f.Level = LevelWarn
		f.Why = "it goes on alone when the replica is slow for so many ms, and a crash then loses acknowledged orders"
		f.Fix = fmt.Sprintf("SET GLOBAL rpl_semi_sync_master_timeout = %d", semiSyncPatience)
	}
	return []Finding{role, f}
}

// judgeHosts says how the hosts of the DSN are: a fail-over is to find the next one. allWrite: they
// are of one cluster, each of whose servers takes writes.
func judgeHosts(hosts []hostState, allWrite bool) Finding {
	f := Finding{ID: "mysql.hosts", Level: LevelOK}
	var each []string
	writers := map[string]bool{}
	for _, h := range hosts {
		state := "read-only"
		switch {
		case h.err != nil:
			f.Level, state = LevelWarn, "unreachable"
			if Classify(h.err) == ClassRefused {
				state = "refused"
			}
		case h.writes:
			writers[h.server], state = true, "writable"
		}
		each = append(each, h.name+"="+state)
	}
	f.Found = strings.Join(each, " ")
	switch {
	case len(writers) > 1 && !allWrite:
		f.Level, f.Why = LevelFail, "two servers take writes: each gets orders that the other one lacks"
		f.Fix = "SET GLOBAL read_only = ON where the primary is not"
	case f.Level == LevelWarn:
		f.Why = "nothing fails over to a host that is not there, or lets orderd in no more"
		f.Fix = "start it, give orderd's user its rights there, or take it out of ORDERD_DSN"
	}
	return f
}

// session reads what a connection has been given beside the server's own settings: a proxy
// in between may swallow it, or hand out one that somebody else has changed.
func (db *DB) session(ctx context.Context) (map[string]string, error) {
	v := map[string]string{}
	const ask = `SHOW SESSION VARIABLES
WHERE Variable_name IN ('time_zone', 'transaction_isolation', 'tx_isolation', 'tidb_txn_mode')`
	if err := db.settings(ctx, ask, v); err != nil {
		return nil, fmt.Errorf("read the settings of a connection: %w", err)
	}
	return v, nil
}

// settings reads what a SHOW gives, by MariaDB's names in small letters: MySQL calls a source and a replica what
// MariaDB calls a master and a slave.
func (db *DB) settings(ctx context.Context, show string, v map[string]string) error {
	return Each(ctx, db, show, nil, func(rows *sql.Rows) error {
		var name, value string
		err := rows.Scan(&name, &value)
		name = strings.ToLower(name)
		for _, of := range [][2]string{{"semi_sync_source", "semi_sync_master"}, {"_no_replica", "_no_slave"},
			{"_for_replica_count", "_for_slave_count"}} {
			name = strings.Replace(name, of[0], of[1], 1)
		}
		v[name] = value
		return err
	})
}

// judgeSession says what is wrong with the settings of a connection. MariaDB's name of the
// isolation was tx_isolation before 11.1.
func judgeSession(v map[string]string) []Finding {
	zone := Finding{ID: "mysql.time_zone", Level: LevelOK, Found: v["time_zone"]}
	if zone.Found != "+00:00" {
		zone.Level, zone.Why, zone.Fix = LevelWarn, "orderd's connections are in UTC, and this one is not: a proxy "+
			"in between swallows SET time_zone", "have the proxy pass it on, or give it the time zone +00:00"
	}
	isolation := Finding{ID: "mysql.isolation", Level: LevelOK,
		Found: cmp.Or(v["transaction_isolation"], v["tx_isolation"])}
	if isolation.Found != "READ-COMMITTED" {
		isolation.Level, isolation.Why = LevelWarn, "orderd's connections are READ COMMITTED, and this one is not: "+
			"nothing is wrong for it, and more transactions are done twice after deadlocks"
		isolation.Fix = "have the proxy in between pass SET SESSION TRANSACTION ISOLATION LEVEL on"
	}
	return []Finding{zone, isolation}
}

// deadHosts says how long the server keeps the locks of a host that died in a
// transaction, by what is in force on a connection that writes: a proxy between may
// swallow what was set there, or hold the server's connections by times of its own.
func (db *DB) deadHosts(ctx context.Context) (Finding, error) {
	f := Finding{ID: "mysql.dead_hosts", Level: LevelOK}
	err := db.InTx(ctx, func(ctx context.Context, tx *Tx) error {
		var found []string
		f.Level = LevelOK
		for _, name := range silences {
			var n int64
			if err := tx.QueryRowContext(ctx, "SELECT @@SESSION."+name).Scan(&n); err != nil {
				return err
			}
			if n > int64(deadAfter/time.Second) {
				f.Level = LevelWarn
			}
			found = append(found, fmt.Sprintf("%s=%d", name, n))
		}
		f.Found = strings.Join(found, " ")
		return nil
	})
	if err != nil {
		return f, fmt.Errorf("read the settings of a connection: %w", err)
	}
	if f.Level == LevelWarn {
		f.Why = "a host that dies in a transaction keeps its rows locked for so many seconds: nobody sells those SKUs"
		f.Fix = "have the proxy between pass on SET SESSION wait_timeout, or connect without it"
	}
	return f, nil
}

// judge turns settings into findings.
func judge(v map[string]string) []Finding {
	finding := func(id string, bad bool, level Level, found, why, fix string) Finding {
		if !bad {
			return Finding{ID: id, Level: LevelOK, Found: found}
		}
		return Finding{ID: id, Level: level, Found: found, Why: why, Fix: fix}
	}
	flush := v["innodb_flush_log_at_trx_commit"]
	return []Finding{
		finding("mysql.flush_log", flush != "1", LevelFail, "innodb_flush_log_at_trx_commit="+flush,
			"a power cut loses orders and payments that were already acknowledged",
			"SET GLOBAL innodb_flush_log_at_trx_commit = 1, and the same in the server's configuration"),
		finding("mysql.sync_binlog", v["log_bin"] == "ON" && v["sync_binlog"] != "1", LevelWarn,
			"sync_binlog="+v["sync_binlog"],
			"after a power cut the binary log, and so replicas and backups, may lack committed orders",
			"SET GLOBAL sync_binlog = 1"),
		finding("mysql.sql_mode", !strings.Contains(v["sql_mode"], "STRICT_"), LevelWarn, "sql_mode="+v["sql_mode"],
			"other programs on this server may store cut values; orderd sets its own strict mode",
			"SET GLOBAL sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"),
		finding("mysql.engine", v["default_storage_engine"] != "InnoDB", LevelFail,
			"default_storage_engine="+v["default_storage_engine"],
			"only InnoDB has the transactions that orderd relies on", "SET GLOBAL default_storage_engine = InnoDB"),
		finding("mysql.galera", v["wsrep_on"] == "ON", LevelWarn, "wsrep_on="+v["wsrep_on"],
			"Galera may lose committed transactions when nodes crash together; let one node write",
			"point every orderd at the same node"),
		{ID: "mysql.version", Level: LevelOK, Found: v["version"]},
	}
}

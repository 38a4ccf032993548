package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// TiDB speaks MySQL's protocol and is used through the same statements. What is its own is
// asked for and set here (docs.pingcap.com/tidb/stable):
//
//   - READ COMMITTED is honoured in pessimistic transactions alone ("TiDB Transaction Isolation
//     Levels"), and a cluster that was upgraded from before 3.0.8 may be optimistic: see pinned.
//   - NOW(6) is the clock of that tidb-server; the cluster's is PD's: see Clock.
//   - CHECK constraints are dropped when a table is made, unless they were switched on before
//     ("Constraints"): see KeepsChecks.

// pinned is written behind one of the values that every new connection sets: TiDB alone
// reads the comment ("Comment Syntax"), and its transactions are pessimistic.
const pinned = " /*T!, tidb_txn_mode = 'pessimistic' */"

// tidbVariable asks for a variable that TiDB alone has: its version can be configured to be
// another's.
const tidbVariable = "SHOW VARIABLES LIKE 'tidb_txn_mode'"

// checksVariable asks whether TiDB keeps the CHECKs of the tables that are made: ON, OFF, or
// no row before 7.2.
const checksVariable = "SHOW GLOBAL VARIABLES LIKE 'tidb_enable_check_constraint'"

// ErrChecksOff: TiDB would make the tables without their CHECK constraints.
var ErrChecksOff = errors.New("TiDB leaves out CHECK constraints (tidb_enable_check_constraint is OFF): " +
	AdviseChecks)

// AdviseChecks is what to do before. A table that was made without its constraints stays so.
const AdviseChecks = "run SET GLOBAL tidb_enable_check_constraint = ON before 'orderd migrate up' (TiDB 7.2 or newer)"

// TiDB reports that the server is one of TiDB's. It was asked when the database was opened.
func (db *DB) TiDB() bool { return db.tidb }

// TiDB is DB.TiDB, in a transaction that may write.
func (tx *Tx) TiDB() bool { return tx.db != nil && tx.db.tidb }

// isTiDB asks the server of a pool. That it has the variable tells, whatever its value: behind a
// proxy that swallows what is pinned, that can be empty.
func isTiDB(ctx context.Context, pool *sql.DB) (bool, error) { return finds(ctx, pool, tidbVariable) }

// finds reports that a statement gives a row.
func finds(ctx context.Context, pool Querier, query string) (found bool, err error) {
	err = Each(ctx, pool, query, nil, func(*sql.Rows) error { found = true; return nil })
	return found, err
}

// KeepsChecks is ErrChecksOff where a table that is made now would lack its CHECKs.
func (db *DB) KeepsChecks(ctx context.Context) error {
	if !db.tidb {
		return nil
	}
	switch on, err := variable(ctx, db.show, checksVariable); {
	case err != nil:
		return Wrap("does the server keep CHECK constraints", err)
	case !isOn(on):
		return ErrChecksOff
	}
	return nil
}

// isOn reports that a variable is on.
func isOn(value string) bool { return strings.EqualFold(value, "ON") || value == "1" }

// variable gives the value of the one that a SHOW finds, "" where the server has none.
func variable(ctx context.Context, pool Querier, show string) (value string, err error) {
	err = Each(ctx, pool, show, nil, func(rows *sql.Rows) error { return rows.Scan(new(string), &value) })
	return value, err
}

// clusterTime asks PD for its time, in microseconds, which it tells to the millisecond: every
// transaction of the cluster begins with it, whichever tidb-server is asked. After PD has
// a new leader it may be up to three seconds ahead, until the clock is there too.
const clusterTime = "SELECT CAST(UNIX_TIMESTAMP(TIDB_PARSE_TSO(TIDB_CURRENT_TSO())) * 1000000 AS SIGNED)"

// clusterNow is the cluster's time, at the begin of a transaction of its own.
func (db *DB) clusterNow(ctx context.Context) (us int64, err error) {
	err = db.Snapshot(ctx, func(ctx context.Context, tx *Tx) error {
		return tx.QueryRowContext(ctx, clusterTime).Scan(&us)
	})
	return us, err
}

// judgeTiDB says what must be so on TiDB: v are the server's settings, session those of a
// connection.
func judgeTiDB(v, session map[string]string) []Finding {
	const checks, mode = "tidb_enable_check_constraint", "tidb_txn_mode"
	keeps := Finding{ID: "tidb.checks", Level: LevelOK, Found: checks + "=" + v[checks]}
	if !isOn(v[checks]) {
		keeps.Level, keeps.Fix = LevelWarn, AdviseChecks
		keeps.Why = "tables that are made now have no CHECK constraints, and those that are there are not looked at"
	}
	locks := Finding{ID: "tidb.txn_mode", Level: LevelOK, Found: mode + "=" + session[mode]}
	if session[mode] != "pessimistic" {
		locks.Level, locks.Why = LevelFail, "orderd's connections are pessimistic, and this one is not: TiDB is READ "+
			"COMMITTED in no others, and more can be returned than was deducted"
		locks.Fix = "have the proxy in between pass comments on, or SET GLOBAL tidb_txn_mode = 'pessimistic'"
	}
	level := Finding{ID: "tidb.isolation", Level: LevelOK, Found: session["transaction_isolation"]}
	if level.Found != "READ-COMMITTED" {
		level.Level, level.Why = LevelFail, "TiDB reads from before a lock under any other, and more can be returned "+
			"than was deducted"
		level.Fix = "have the proxy in between pass SET SESSION TRANSACTION ISOLATION LEVEL on"
	}
	return []Finding{keeps, locks, level}
}

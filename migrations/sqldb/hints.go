package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Alibaba Cloud's MySQL (AliSQL in ApsaraDB RDS, PolarDB) can end a transaction in its last
// statement, so that the row which everybody wants is free a round trip earlier, and can
// have the statements of one row queue before they try its lock:
//
//	COMMIT_ON_SUCCESS     commits the transaction when the statement succeeds
//	ROLLBACK_ON_FAIL      rolls it back when the statement fails
//	TARGET_AFFECT_ROW(n)  fails the statement, by error 7532, unless it affects n rows
//	ccl_queue_field(f)    queues by the value that WHERE compares f with
//
// What is known of them, and rested on:
//   - They must stand in the last statement, and not with autocommit on (error 7531):
//     alibabacloud.com/help/en/rds/apsaradb-rds-for-mysql/inventory-hint, which also has
//     all four in one comment. A connection that writes has autocommit off (writeConn).
//   - A COMMIT or ROLLBACK afterwards finds nothing to do: test feature_ic of the sources
//     of PolarDB-X (github.com/polardb/polardbx-engine, mysql-test/suite/rds).
//   - Hints may come in any order, and behind one that cannot be read, those before it
//     count all the same (sql/sql_hints.yy there; the page above shows it by EXPLAIN). So
//     COMMIT_ON_SUCCESS is the last: who has read it has read the condition.
//   - The affected rows are those that the client is told of, for us the matched ones
//     (process_inventory_target_hint in sql/inventory/inventory_hint.cc; ClientFoundRows).
//   - The queue reads its value out of "field = literal" and of nothing else
//     (sql/ccl/ccl_hint_parse.cc): of several SKUs it would make one queue.
//   - The queue has the two variables by which we know the server
//     (alibabacloud.com/help/en/rds/apsaradb-rds-for-mysql/statement-queue).
//
// What is not confirmed: none of this was run on a server of Alibaba's. That every server
// with the queue's variables has the inventory hints too is likely (both came with AliSQL
// 8.0, and RDS 5.7 has both) and said nowhere; github.com/alibaba/AliSQL, as far as it was
// read, knows neither. That is why COMMIT is sent all the same: a server that takes the
// hints for a comment commits by it.

// hintVariables asks for the variables of the statement queue.
const hintVariables = "SHOW VARIABLES LIKE 'ccl_queue%'"

// mysqlHintRows is the error of another number of rows than TARGET_AFFECT_ROW has.
const mysqlHintRows = 7532

// adviseHints is for a server that has the hints and refuses them.
const adviseHints = "nothing is lost: orderd goes on without inventory hints, until it is started again"

// hasHints reports that the server of a pool has them. A server that does not answer the
// question has none: without them everything is as correct.
func hasHints(ctx context.Context, pool *sql.DB) bool {
	found, err := finds(ctx, pool, hintVariables)
	return err == nil && found
}

// HasHints reports that the last UPDATE of a transaction may carry inventory hints: the
// server had them when the database was opened, and has refused none since.
func (db *DB) HasHints() bool { return db.hints.Load() }

// UpdateLast is UpdateRows for the last statement of a transaction. Any statement of the
// transaction after it is a mistake of the programmer and panics; the function that InTx
// runs gives what UpdateLast gave.
//
// Where the server has inventory hints, the statement carries them and is the COMMIT
// itself: its rows are free when it has run, and an answer that is lost is a COMMIT whose
// outcome is unknown, with all that InTx says of it.
//
// queue is a column by whose value such statements queue in the server, where query has it
// as "queue IN (?)", of one key; or "". Whoever holds a row that the others in that queue
// may want must not queue: they would wait for each other until a lock's time is up.
func (tx *Tx) UpdateLast(ctx context.Context, rows int, queue, query string, args ...any) error {
	if tx.db.HasHints() {
		if overdue(ctx) {
			return context.DeadlineExceeded // see once: this COMMIT must not be sent either
		}
		tx.committing = true
		query = hinted(rows, queue, query)
	}
	err := tx.UpdateRows(ctx, rows, query, args...)
	tx.over = true
	if tx.committing {
		err = tx.refusedHint(err)
	}
	return err
}

// hinted puts the hints into an UPDATE. The one key of an IN is an equality to the server,
// and the queue wants it written as one.
func hinted(rows int, queue, query string) string {
	hints := "TARGET_AFFECT_ROW(" + strconv.Itoa(rows) + ") ROLLBACK_ON_FAIL COMMIT_ON_SUCCESS"
	if one := queue + " IN (?)"; queue != "" && strings.Contains(query, one) {
		hints = "ccl_queue_field(" + queue + ") " + hints
		query = strings.Replace(query, one, queue+" = ?", 1)
	}
	return strings.Replace(query, "UPDATE ", "UPDATE /*+ "+hints+" */ ", 1)
}

// refusedHint says what an error of a statement with hints means. That of another number
// of rows is a lost race. One of the server that we do not know may be of the hints: from
// now on none are sent, and this transaction, which was rolled back, is run again without.
func (tx *Tx) refusedHint(err error) error {
	var my *mysql.MySQLError
	if !errors.As(err, &my) || Classify(err) != ClassOther {
		return err
	}
	if my.Number != mysqlHintRows {
		tx.db.hints.Store(false)
		tx.db.troubles.say(adviseHints, err)
	}
	return fmt.Errorf("%w: %w", ErrLostRace, err)
}

// overdue reports that the time of a context is up, also where its timer has not fired.
func overdue(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ok && !time.Now().Before(end)
}

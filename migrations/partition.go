package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"orderd/migrations/sqldb"
)

// ErrNoPartitions: only TiDB spreads what is written over machines, by a table's parts. Elsewhere
// parts cost a look into each of them and spread nothing.
var ErrNoPartitions = errors.New("partitions are for TiDB alone: on one server they spread nothing")

// Bounds of the number of parts: a due scan looks into each of them.
const (
	MinPartitions = 2
	MaxPartitions = 128
)

// partitioned are the tables whose newest rows are all at the end of their key, since a number of
// an order begins with its time, and the column that spreads them.
var partitioned = map[string]string{
	"orders": "order_no", "order_items": "order_no", "order_events": "order_no", "stock_flows": "order_no",
	"payment_attempts": "out_trade_no",
}

// PartitionPlan gives the statements that put those tables of TiDB into so many parts each. A table
// that is in so many already is left out; one that is in another number is an error.
func PartitionPlan(ctx context.Context, db *sqldb.DB, parts int) ([]string, error) {
	switch {
	case !db.TiDB():
		return nil, ErrNoPartitions
	case parts < MinPartitions || parts > MaxPartitions:
		return nil, fmt.Errorf("%w: %d to %d, not %d", ErrPartitions, MinPartitions, MaxPartitions, parts)
	}
	if err := Check(ctx, db); err != nil {
		return nil, err
	}
	has := map[string]int{}
	err := sqldb.Each(ctx, db, `SELECT table_name, COUNT(partition_name)
FROM information_schema.partitions
WHERE table_schema = DATABASE()
GROUP BY table_name`, nil, func(rows *sql.Rows) error {
		var table string
		var n int
		err := rows.Scan(&table, &n)
		has[strings.ToLower(table)] = n
		return err
	})
	if err != nil {
		return nil, sqldb.Wrap("partitions of the tables", err)
	}
	var plan []string
	for _, table := range slices.Sorted(maps.Keys(partitioned)) {
		switch has[table] {
		case parts:
		case 0:
			plan = append(plan, partitionStatement(table, parts))
		default:
			return nil, fmt.Errorf("%w: %s is in %d parts already; ALTER TABLE %s REMOVE PARTITIONING comes first",
				ErrPartitions, table, has[table], table)
		}
	}
	return plan, nil
}

// ErrPartitions: the tables cannot be put into so many parts.
var ErrPartitions = errors.New("number of partitions")

// partitionStatement is the DDL of one table. A unique key without the column that spreads the rows
// must be one of all parts together, or TiDB refuses (8264).
func partitionStatement(table string, parts int) string {
	column := partitioned[table]
	text := fmt.Sprintf("ALTER TABLE %s PARTITION BY KEY (%s) PARTITIONS %d", table, column, parts)
	var global []string
	for key, columns := range Guards {
		if of, name, _ := strings.Cut(key, "."); of == table && name != "PRIMARY" &&
			!slices.Contains(strings.Split(columns, ","), column) {
			global = append(global, name+" GLOBAL")
		}
	}
	if slices.Sort(global); len(global) > 0 {
		text += " UPDATE INDEXES (" + strings.Join(global, ", ") + ")"
	}
	return text
}

// Partition runs the statements of a plan, and tells done of each. TiDB copies a table meanwhile and
// goes on serving it; what was done before an error stays, and PartitionPlan leaves it out.
func Partition(ctx context.Context, db *sqldb.DB, plan []string, done func(statement string)) error {
	for _, statement := range plan {
		if _, err := db.Pool().ExecContext(ctx, statement); err != nil {
			return sqldb.Wrap(statement, err)
		}
		done(statement)
	}
	return nil
}

package order

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// All statements of this package on the table order_events.

// eventRow is a row of order_events.
type eventRow struct {
	orderNo  string
	seq      int64
	at       time.Time
	name     string
	from, to State
	cause    Cause
	detail   string // JSON, "" for none
	took     time.Duration
	ref      string // what else the feed says that it is about: see feed.Event
}

// insertEvents adds events. (order_no, seq) is the primary key: two writers of the
// same version cannot both commit.
func insertEvents(ctx context.Context, tx *sqldb.Tx, events []eventRow) error {
	// Package sort: an instance of slices.SortFunc for rows this wide is 20 kB of binary.
	sort.SliceStable(events, func(i, j int) bool {
		a, b := &events[i], &events[j]
		return a.orderNo < b.orderNo || a.orderNo == b.orderNo && a.seq < b.seq
	})
	const cols = 12
	args := make([]any, 0, cols*len(events))
	for i := range events {
		e := &events[i]
		args = append(args, e.orderNo, e.seq, sqldb.Millis(e.at), e.name, string(e.from), string(e.to),
			string(e.cause.Actor.Type), bounds.Actor.Cut(e.cause.Actor.ID),
			bounds.CauseType.Cut(e.cause.Type), bounds.CauseID.Cut(e.cause.ID),
			e.detail, e.took.Milliseconds())
	}
	err := tx.InsertRows(ctx, `INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	return nil
}

// eachState gives the state into which an event of this number brought each of
// the orders that have one: the numbers are the same, so that the primary key is
// one range per order. A list of (order, number) pairs is slow on MariaDB. With it
// comes the number of the order's newest attempt, 0 without any, from the end of its
// range in u_attempts_order: a statement of its own would cost as much as this one.
func eachState(ctx context.Context, tx *sqldb.Tx, seq int64, orderNos []string,
	do func(orderNo string, to State, newest int)) error {
	args := append([]any{seq}, sqldb.Args(orderNos)...)
	return sqldb.Each(ctx, tx, `SELECT order_no, to_state, COALESCE((
  SELECT MAX(a.attempt_no)
  FROM payment_attempts a
  WHERE a.order_no = order_events.order_no), 0)
FROM order_events
WHERE seq = ?
  AND order_no IN (`+sqldb.In(len(orderNos))+`)`, args, func(rows *sql.Rows) error {
		var no string
		var to State
		var newest int
		if err := rows.Scan(&no, &to, &newest); err != nil {
			return err
		}
		do(no, to, newest)
		return nil
	})
}

// findEvents gives the events of an order, in order. The placement has no row
// here: the order's own row records it.
func findEvents(ctx context.Context, q querier, orderNo string) ([]TimelineEvent, error) {
	var events []TimelineEvent
	err := sqldb.Each(ctx, q, `SELECT seq, at, event, from_state, to_state,
  actor_type, actor_id, cause_type, cause_id, detail, took_ms
FROM order_events
WHERE order_no = ?
ORDER BY seq`, []any{orderNo}, func(rows *sql.Rows) error {
		var e TimelineEvent
		var at, took int64
		var detail string
		if err := rows.Scan(&e.Seq, &at, &e.Event, &e.From, &e.To,
			&e.Actor.Type, &e.Actor.ID, &e.Cause.Type, &e.Cause.ID, &detail, &took); err != nil {
			return err
		}
		e.At, e.Took, e.Cause.Actor = sqldb.FromMillis(at), time.Duration(took)*time.Millisecond, e.Actor
		if detail != "" {
			if err := json.Unmarshal([]byte(detail), &e.Detail); err != nil {
				return fmt.Errorf("detail of event %d of %s: %w", e.Seq, orderNo, err)
			}
		}
		events = append(events, e)
		return nil
	})
	return events, err
}

// eachSilence gives the events of orders that tell of answers without use and of
// people who vouched, of each order the oldest first.
func eachSilence(ctx context.Context, tx *sqldb.Tx, orderNos []string,
	do func(orderNo string, v *TimelineEvent)) error {
	err := sqldb.Each(ctx, tx, `SELECT order_no, at, event, actor_type, actor_id, detail
FROM order_events
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
  AND event IN ('`+eventUnknown+`', '`+eventVouched+`')
ORDER BY order_no, seq`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var no, detail string
		var at int64
		var v TimelineEvent
		if err := rows.Scan(&no, &at, &v.Event, &v.Actor.Type, &v.Actor.ID, &detail); err != nil {
			return err
		}
		v.At = sqldb.FromMillis(at)
		_ = json.Unmarshal([]byte(detail), &v.Detail) // one that cannot be read is like none
		do(no, &v)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what WeChat Pay answered: %w", err)
	}
	return nil
}

// eventKey names an event of a timeline. That of the placement is the order's first version.
type eventKey struct {
	orderNo string
	seq     int64
}

// placedVersion is the version of an order that was just placed.
const placedVersion = 1

// findCauses gives the ids of the causes of events; those that there are not are left out. It
// reads every pair of an order and a number of those given, which are few.
func findCauses(ctx context.Context, q sqldb.Querier, orderNos []string, seqs []int64) (map[eventKey]string, error) {
	causes := map[eventKey]string{}
	args := append(sqldb.Args(orderNos), sqldb.Args(seqs)...)
	args = append(append(args, placedVersion), sqldb.Args(orderNos)...)
	err := sqldb.Each(ctx, q, causesQuery(len(orderNos)), args, func(rows *sql.Rows) error {
		var k eventKey
		var id string
		err := rows.Scan(&k.orderNo, &k.seq, &id)
		causes[k] = id
		return err
	})
	return causes, err
}

// causesQuery reads the causes of n orders and n numbers, and of n placements.
func causesQuery(n int) string {
	return `SELECT order_no, seq, cause_id
FROM order_events /*! FORCE INDEX (PRIMARY) */
WHERE order_no IN (` + sqldb.In(n) + `)
  AND seq IN (` + sqldb.In(n) + `)
UNION ALL
SELECT order_no, ?, placed_cause
FROM orders /*! FORCE INDEX (PRIMARY) */
WHERE order_no IN (` + sqldb.In(n) + ")"
}

package order

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/feed"
)

// This file says what the shop is told of: every event of the timeline that Told knows is in
// the feed, in the transaction that writes it.

// Told gives what the feed tells of an event of a timeline: of a move to a state, and of
// what happened to a refund or a payment. Most events are told as one or as none; the
// refund that gives the last of the money back is two.
func Told(name string, from, to State) (told []feed.Type) {
	if from != to {
		switch to {
		case StatePaid:
			if from != StateRefunding { // it was paid all the time
				told = append(told, feed.OrderPaid)
			}
		case StateClosed:
			told = append(told, feed.OrderClosed)
		case StateLate:
			told = append(told, feed.OrderLate)
		case StateRefunded:
			told = append(told, feed.OrderRefunded)
		case StatePending, StateClosing, StateRefunding:
		}
	}
	if t, ok := ToldByName[name]; ok {
		told = append(told, t)
	}
	return told
}

// ToldByName is what the feed tells of an event by its name alone. A refund that WeChat Pay
// closed is none: another number takes its place by itself.
var ToldByName = map[string]feed.Type{
	"refund.requested": feed.RefundAsked,
	"refund.succeeded": feed.RefundDone,
	"refund.by_hand":   feed.RefundDone,
	"refund.rejected":  feed.RefundFailed,
	"refund.cancelled": feed.RefundFailed,
	"refund.refused":   feed.RefundFailed,
	"payment.held":     feed.PaymentHeld,
}

// tell writes what a batch did into the feed: its events, and held money without an order.
func (b *batch) tell(ctx context.Context, tx *sqldb.Tx) error {
	told := make([]feed.Event, 0, len(b.events))
	for i := range b.events {
		e := &b.events[i]
		for _, t := range Told(e.name, e.from, e.to) {
			told = append(told, feed.Event{At: e.at, Type: t, OrderNo: e.orderNo, Version: e.seq,
				State: string(e.to), Ref: e.ref, Reference: b.referenceOf(e.orderNo)})
		}
	}
	for i := range b.payments {
		if p := &b.payments[i]; p.settled == SettledHeld && p.orderNo == "" {
			told = append(told, feed.Event{At: p.at, Type: feed.PaymentHeld, Ref: p.TransactionID})
		}
	}
	return feed.Insert(ctx, tx, told)
}

// referenceOf gives the shop's number for an order of the batch. A page (believe) does not have it,
// and does nothing that is told.
func (b *batch) referenceOf(orderNo string) string {
	if e := b.orders[orderNo]; e != nil {
		return e.before.Reference
	}
	return ""
}

// tellPlaced gives what the feed tells of the fresh members of a batch of placements.
func tellPlaced(outcomes []sqldb.Outcome[Placed], fresh []int) []feed.Event {
	told := make([]feed.Event, len(fresh))
	for i, j := range fresh {
		o := &outcomes[j].Answer.Order
		told[i] = feed.Event{At: o.CreatedAt, Type: feed.OrderCreated, OrderNo: o.OrderNo, Version: o.Version,
			State: string(o.State), Reference: o.Reference}
	}
	return told
}

// Traces gives the traces of the requests that brought what events of the feed tell, one for
// each, the zero Trace where there is none or it is not known: what the scheduler or WeChat Pay
// brings has none.
func (s *Service) Traces(ctx context.Context, events []feed.Event) ([]payment.Trace, error) {
	var orders []string
	var versions []int64
	for i := range events {
		if e := &events[i]; e.OrderNo != "" {
			orders, versions = append(orders, e.OrderNo), append(versions, e.Version)
		}
	}
	traces := make([]payment.Trace, len(events))
	if len(orders) == 0 {
		return traces, nil
	}
	var causes map[eventKey]string
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		causes, err = findCauses(ctx, tx, orders, versions)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read causes of events: %w", err)
	}
	for i := range events {
		traces[i] = payment.MarkedTrace(causes[eventKey{events[i].OrderNo, events[i].Version}])
	}
	return traces, nil
}

// TellLow tells the shop that little is left of SKUs: it is the stock.Tell of this service.
func TellLow(ctx context.Context, tx *sqldb.Tx, skuIDs []string, at time.Time) error {
	told := make([]feed.Event, len(skuIDs))
	for i, id := range skuIDs {
		told[i] = feed.Event{At: at, Type: feed.StockLow, Ref: id}
	}
	return feed.Insert(ctx, tx, told)
}

// ToldNewest is how many ids at the end of the feed are held against what happened, and where
// a repair looks whether something was told. Older ones were read long ago, and go by age.
const ToldNewest = 50_000

// mendTold tells what happened and was not told, such as by a program that knows no feed. Its
// key is ORDER_NO/VERSION/TYPE. The shop hears of it late, dated when it is told: the feed is in
// the order of its times, by which it is searched.
func mendTold(ctx context.Context, m *mending) (bool, error) {
	parts := strings.Split(m.key, "/")
	if len(parts) != 3 || parts[0] != m.orderNo {
		return false, nil
	}
	version, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return false, nil //nolint:nilerr // it names no event
	}
	if _, err := m.load(ctx, nil); err != nil { // locks the order: nobody tells of it meanwhile
		return false, err
	}
	m.loaded = false // and nothing of it is written
	told := feed.Event{Type: feed.Type(parts[2]), OrderNo: m.orderNo, Version: version,
		Reference: m.referenceOf(m.orderNo)}
	var name, from, detail string
	err = m.tx.QueryRowContext(ctx, `SELECT event, from_state, to_state, detail
FROM order_events
WHERE order_no = ?
  AND seq = ?`, m.orderNo, version).Scan(&name, &from, &told.State, &detail)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read an event of an order: %w", err)
	}
	if !slices.Contains(Told(name, State(from), State(told.State)), told.Type) {
		return false, nil
	}
	var times int
	if err := m.tx.QueryRowContext(ctx, `SELECT COUNT(*)
FROM events_out
WHERE id > (SELECT COALESCE(MAX(id), 0) - `+strconv.Itoa(ToldNewest)+` FROM events_out)
  AND order_no = ?
  AND version = ?
  AND type = ?`, m.orderNo, version, string(told.Type)).Scan(&times); err != nil || times > 0 {
		return false, err
	}
	var facts map[string]string
	_ = json.Unmarshal([]byte(detail), &facts) // "" of most: then it is about the order alone
	told.At, told.Ref = m.now, cmp.Or(facts["out_refund_no"], facts["transaction_id"])
	return true, feed.Insert(ctx, m.tx, []feed.Event{told})
}

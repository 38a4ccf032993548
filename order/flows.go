package order

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/stock"
)

// Flow is one movement of the units of a SKU: a row of stock_flows, which is never changed.
type Flow struct {
	Kind    stock.Kind
	Delta   int64  // units: below 0 they left the shelf
	OrderNo string // "" for what operators did
	Ref     string // of a return the refund or "close", of an operator's the idempotency key
	Actor   string // who did it; "" for an order's
	Reason  string
	Bucket  int64 // of a flash sale, that the units came from; 0: the pool
	At      time.Time
	// Placed is when the order was placed, of an operator's flow At: flows are listed by it.
	Placed time.Time
	// Left is what was left of the SKU after it, on the shelf and in buckets, in the order of the list: what came
	// back stands where its order was placed. nil: the list does not begin now, or the SKU is unlimited.
	Left *int64
}

// Before is what was left before it, where Left is known.
func (f *Flow) Before() int64 {
	if f.Left == nil {
		return 0
	}
	return *f.Left - f.Delta
}

// FlowFilter selects the flows of a SKU, newest first by Flow.Placed: no index has the SKU of a
// flow, so that the orders between From and To are looked through.
type FlowFilter struct {
	SkuID    string
	From, To time.Time // at most MaxListRange apart; zero To: now, zero From: a day before To
	Limit    int       // 1–200
	Cursor   string    // of the page before
}

// usualFlows is how far back flows are listed when nobody says.
const usualFlows = 24 * time.Hour

// flowCursor is a place in the list of flows: those after it are smaller.
type flowCursor struct {
	placed             int64 // Unix milliseconds
	orderNo, kind, ref string
	left               string // what is left before the flow of this place, "" where that is not known
}

// cursor is the place of a flow.
func (f *Flow) cursor() flowCursor {
	c := flowCursor{placed: sqldb.Millis(f.Placed), orderNo: f.OrderNo, kind: string(f.Kind), ref: f.Ref}
	if f.Left != nil {
		c.left = strconv.FormatInt(f.Before(), 10)
	}
	return c
}

// compare orders places.
func (c flowCursor) compare(o flowCursor) int {
	return cmp.Or(cmp.Compare(c.placed, o.placed), cmp.Compare(c.orderNo, o.orderNo), cmp.Compare(c.kind, o.kind),
		cmp.Compare(c.ref, o.ref))
}

// String is the cursor as a page has it.
func (c flowCursor) String() string {
	return strings.Join([]string{strconv.FormatInt(c.placed, 10), c.orderNo, c.kind, c.ref, c.left}, ".")
}

// parseFlowCursor reads one, or gives bounds.ErrCursor. A ref has no dot.
func parseFlowCursor(text string) (flowCursor, error) {
	parts := strings.Split(text, ".")
	if len(parts) == 4 { // of a program that did not know what is left
		parts = append(parts, "")
	}
	if len(parts) != 5 || bounds.OrderNo.Cursor(parts[1]) != nil {
		return flowCursor{}, bounds.ErrCursor
	}
	placed, err := strconv.ParseInt(parts[0], 10, 64)
	known := []stock.Kind{stock.KindDeduct, stock.KindReturn, stock.KindInitial, stock.KindReplenish, stock.KindAdjust}
	if err != nil || !slices.Contains(known, stock.Kind(parts[2])) {
		return flowCursor{}, bounds.ErrCursor
	}
	if _, err := strconv.ParseInt(parts[4], 10, 64); err != nil && parts[4] != "" {
		return flowCursor{}, bounds.ErrCursor
	}
	return flowCursor{placed, parts[1], parts[2], parts[3], parts[4]}, nil
}

// Flows gives a page of the flows of a SKU, and the cursor of the next, "" at the end. Errors:
// *ValidationError, bounds.ErrCursor, database errors.
func (s *Service) Flows(ctx context.Context, f FlowFilter) ([]Flow, string, error) {
	limit, now := pageSize(f.Limit), f.To.IsZero()
	if now {
		f.To = s.cfg.Now().Add(time.Millisecond)
	}
	if f.From.IsZero() {
		f.From = f.To.Add(-usualFlows)
	}
	if f.To.Sub(f.From) > MaxListRange {
		return nil, "", &ValidationError{Fields: []FieldError{{"?from", "NEEDS_RANGE",
			"from and to are at most 31 days apart"}}}
	}
	place := flowCursor{placed: sqldb.Millis(f.To)}
	if f.Cursor != "" {
		var err error
		if place, err = parseFlowCursor(f.Cursor); err != nil {
			return nil, "", err
		}
	}
	if f.Cursor == "" && now {
		place.placed += sqldb.Millis(s.cfg.Now().Add(flowsAhead)) - sqldb.Millis(s.cfg.Now())
	}
	var all []Flow
	err := s.db.Shown().Snapshot(ctx, func(ctx context.Context, v sqldb.View) (err error) {
		if f.Cursor == "" && now {
			if place.left, err = unitsLeft(ctx, v, f.SkuID); err != nil {
				return err
			}
		}
		all, err = listFlows(ctx, v, f.SkuID, f.From, place, limit+1)
		return err
	})
	if err != nil {
		return nil, "", sqldb.Wrap("list stock flows", err)
	}
	if left, err := strconv.ParseInt(place.left, 10, 64); err == nil {
		for i := range all {
			after := left
			all[i].Left = &after
			left = all[i].Before()
		}
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], all[limit-1].cursor().String(), nil
}

// flowsAhead is how far the clock of another process may be ahead of ours: a list that begins now has what it has
// placed, too, or what is left would not be that of its first flow.
const flowsAhead = time.Minute

// unitsLeft is what is left of a SKU now, "" of one that is unlimited or is not there.
func unitsLeft(ctx context.Context, q querier, skuID string) (text string, err error) {
	err = sqldb.Each(ctx, q, `SELECT s.available + COALESCE((
  SELECT SUM(b.remaining)
  FROM stock_buckets b /*! FORCE INDEX (ix_buckets_state) */
  WHERE b.state IN ('open', 'closing')
    AND b.sku_id = s.sku_id), 0)
FROM skus s
WHERE s.sku_id = ?
  AND s.unlimited = FALSE`, []any{skuID}, func(rows *sql.Rows) error { return rows.Scan(&text) })
	return text, err
}

// flowColumns are those that a page of flows reads.
const flowColumns = "order_no, kind, ref, delta, actor, reason, bucket_id, created_at"

// The two halves of a page: flows of orders, by the time in their numbers, and those of
// operators, who have no order, the first part of the key.
const (
	orderFlowsQuery = `SELECT ` + flowColumns + `
FROM stock_flows /*! FORCE INDEX (PRIMARY) */
WHERE order_no >= ?
  AND order_no <= ?
  AND (order_no < ? OR kind < ? OR kind = ? AND ref < ?)
  AND sku_id = ?
ORDER BY order_no DESC, kind DESC, ref DESC
LIMIT ?`
	operatorFlowsQuery = `SELECT ` + flowColumns + `
FROM stock_flows /*! FORCE INDEX (PRIMARY) */
WHERE order_no = ''
  AND sku_id = ?
  AND created_at >= ?
  AND (created_at < ? OR created_at = ? AND (kind < ? OR kind = ? AND ref < ?))
ORDER BY created_at DESC, kind DESC, ref DESC
LIMIT ?`
)

// listFlows gives up to limit flows of a SKU before a place and from a time on, newest first.
func listFlows(ctx context.Context, q querier, skuID string, from time.Time, place flowCursor,
	limit int) ([]Flow, error) {
	last, kind, ref := place.orderNo, place.kind, place.ref
	if last == "" { // of this millisecond operators' flows come last
		last, kind, ref = placedAfter(sqldb.FromMillis(place.placed)), "", ""
	}
	queries := []struct {
		text string
		args []any
	}{{orderFlowsQuery, []any{placedAfter(from), last, last, kind, kind, ref, skuID, limit}}}
	kind, ref = place.kind, place.ref
	if place.orderNo != "" { // all operators' of this millisecond come after it
		kind = "~"
	}
	queries = append(queries, struct {
		text string
		args []any
	}{operatorFlowsQuery, []any{skuID, sqldb.Millis(from), place.placed, place.placed, kind, kind, ref, limit}})
	var all []Flow
	for _, query := range queries {
		if err := sqldb.Each(ctx, q, query.text, query.args, func(rows *sql.Rows) error {
			f, err := scanFlow(rows)
			all = append(all, f)
			return err
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b Flow) int { return b.cursor().compare(a.cursor()) })
	return all[:min(limit, len(all))], nil
}

// scanFlow reads one row of flowColumns.
func scanFlow(rows *sql.Rows) (Flow, error) {
	var f Flow
	var at int64
	err := rows.Scan(&f.OrderNo, &f.Kind, &f.Ref, &f.Delta, &f.Actor, &f.Reason, &f.Bucket, &at)
	f.At = sqldb.FromMillis(at)
	if f.Placed = f.At; f.OrderNo != "" {
		f.Placed = timeOf(f.OrderNo)
	}
	return f, err
}

// OrderFlow is a flow of an order, with its SKU.
type OrderFlow struct {
	SkuID string
	Flow
}

// OrderFlows gives what an order moved, oldest first: the beginning of the key.
func (s *Service) OrderFlows(ctx context.Context, orderNo string) ([]OrderFlow, error) {
	var all []OrderFlow
	err := sqldb.Each(ctx, s.db, `SELECT sku_id, `+flowColumns+`
FROM stock_flows
WHERE order_no = ?
ORDER BY created_at, sku_id, kind, ref`, []any{orderNo}, func(rows *sql.Rows) error {
		var f OrderFlow
		var at int64
		err := rows.Scan(&f.SkuID, &f.OrderNo, &f.Kind, &f.Ref, &f.Delta, &f.Actor, &f.Reason, &f.Bucket, &at)
		f.At = sqldb.FromMillis(at)
		f.Placed = timeOf(f.OrderNo)
		all = append(all, f)
		return err
	})
	return all, sqldb.Wrap("list the stock flows of an order", err)
}

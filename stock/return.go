package stock

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/sqldb"
)

// The refs of flows that an order has once.
const (
	// RefClose is that of the return after WeChat Pay has proven a close.
	RefClose = "close"
	// RefRevive is that of the deduction which takes it again for money that came late.
	RefRevive = "revive"
)

// PartialReturn returns some lines of an order, for a refund.
type PartialReturn struct {
	OrderNo string
	Ref     string // of its own, the out_refund_no: the same ref returns once
	Lines   []Line
}

// LineFlows is what the flows of an order say of one SKU, in units.
type LineFlows struct {
	OrderNo, SkuID string
	Deducted       int64 // taken when the order was placed
	Out            int64 // taken and not given back, all flows together
	Closed         int64 // of a close and a revival together: negative when the close gave back
}

// add counts one flow.
func (l *LineFlows) add(kind Kind, ref string, delta int64) {
	l.Out -= delta
	if kind == KindDeduct && ref == "" {
		l.Deducted -= delta
	}
	if ref == RefClose || ref == RefRevive {
		l.Closed -= delta
	}
}

// ReadFlows sums the flows of orders by their SKUs, those of an order one after the
// other. An order without flows has none here.
func ReadFlows(ctx context.Context, tx *sqldb.Tx, orderNos []string) ([]LineFlows, error) {
	lines := make([]LineFlows, 0, len(orderNos))
	if len(orderNos) == 0 {
		return lines, nil
	}
	first := 0 // of the lines of the order at hand
	err := sqldb.Each(ctx, tx, `SELECT order_no, kind, ref, sku_id, delta
FROM stock_flows
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
ORDER BY order_no, kind, ref, sku_id`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var no, sku, ref string
		var kind Kind
		var delta int64
		if err := rows.Scan(&no, &kind, &ref, &sku, &delta); err != nil {
			return err
		}
		if first < len(lines) && lines[first].OrderNo != no {
			first = len(lines)
		}
		i := slices.IndexFunc(lines[first:], func(l LineFlows) bool { return l.SkuID == sku })
		if i < 0 {
			i, lines = len(lines)-first, append(lines, LineFlows{OrderNo: no, SkuID: sku})
		}
		lines[first+i].add(kind, ref, delta)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read stock flows: %w", err)
	}
	return lines, nil
}

// ReturnAll puts everything that the orders still hold back on the shelf, under
// ref, and gives their flows as they are after it. An order that holds nothing is
// passed over, so a repeat does nothing. The caller has locked the orders, so
// nobody else returns for them meanwhile.
func ReturnAll(ctx context.Context, tx *sqldb.Tx, orderNos []string, ref string, at time.Time) ([]LineFlows, error) {
	lines, err := ReadFlows(ctx, tx, orderNos)
	if err != nil {
		return nil, err
	}
	flows := make([]flow, 0, len(lines))
	for i := range lines {
		if l := &lines[i]; l.Out > 0 {
			flows = append(flows, flow{orderNo: l.OrderNo, kind: KindReturn, ref: ref, skuID: l.SkuID, delta: l.Out})
			l.add(KindReturn, ref, l.Out)
		}
	}
	return lines, returnFlows(ctx, tx, flows, at)
}

// ReturnLines puts the named lines back, one answer per partial return: nil, also when
// this ref was returned before, or ErrReturnExceeds when it would bring the
// returned above the deducted; then nothing of it moves. The caller
// has locked the orders.
func ReturnLines(ctx context.Context, tx *sqldb.Tx, batch []PartialReturn, at time.Time) ([]error, error) {
	nos := make([]string, len(batch))
	for i, g := range batch {
		nos[i] = g.OrderNo
	}
	held, err := readHeld(ctx, tx, nos)
	if err != nil {
		return nil, err
	}
	answers := make([]error, len(batch))
	var flows []flow
	for i, g := range batch {
		h, ok := held[g.OrderNo]
		if !ok {
			answers[i] = fmt.Errorf("order %s: %w", g.OrderNo, ErrReturnExceeds)
			continue
		}
		if h.refs[g.Ref] {
			continue
		}
		lines := merge(g.Lines)
		for sku, n := range lines {
			if n <= 0 || n > h.out[sku] {
				answers[i] = fmt.Errorf("order %s, SKU %s: %d to return, %d out: %w", g.OrderNo, sku, n, h.out[sku],
					ErrReturnExceeds)
			}
		}
		if answers[i] != nil {
			continue
		}
		h.refs[g.Ref] = true
		for sku, n := range lines {
			h.out[sku] -= n
			flows = append(flows, flow{orderNo: g.OrderNo, kind: KindReturn, ref: g.Ref, skuID: sku, delta: n})
		}
	}
	return answers, returnFlows(ctx, tx, flows, at)
}

// held is what an order has taken and not returned, and under which refs it returned.
type held struct {
	// out is in units by SKU, 0 when all of it is back.
	out  map[string]int64
	refs map[string]bool
}

// readHeld reads what orders have taken and returned. An order without flows has no
// entry.
func readHeld(ctx context.Context, tx *sqldb.Tx, orderNos []string) (map[string]held, error) {
	all := make(map[string]held, len(orderNos))
	if len(orderNos) == 0 {
		return all, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT order_no, kind, ref, sku_id, delta
FROM stock_flows
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)`, sqldb.Args(orderNos)...)
	if err != nil {
		return nil, fmt.Errorf("read stock flows: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var f flow
		if err := rows.Scan(&f.orderNo, &f.kind, &f.ref, &f.skuID, &f.delta); err != nil {
			return nil, fmt.Errorf("read stock flows: %w", err)
		}
		h, ok := all[f.orderNo]
		if !ok {
			h = held{out: map[string]int64{}, refs: map[string]bool{}}
			all[f.orderNo] = h
		}
		h.out[f.skuID] -= f.delta
		if f.kind == KindReturn {
			h.refs[f.ref] = true
		}
	}
	return all, rows.Err()
}

// returnFlows writes returns and puts their units back on the shelf. The flows come
// first: their primary key is what refuses a second return under the same ref.
func returnFlows(ctx context.Context, tx *sqldb.Tx, flows []flow, at time.Time) error {
	if len(flows) == 0 {
		return nil
	}
	if err := insertFlows(ctx, tx, flows, at); err != nil {
		return err
	}
	back := map[string]int64{}
	for _, f := range flows {
		back[f.skuID] += f.delta
	}
	return eachChunk(back, func(ids []string, sum string, args []any) error {
		if tx.NoWait() {
			if _, err := readShelf(ctx, tx, ids, "\nFOR UPDATE"); err != nil {
				return err
			}
		}
		// No guard on the number: a sold-out shelf takes its unit back. An
		// unlimited SKU matches too, so that the rows can be counted.
		n, err := tx.Update(ctx, `UPDATE skus
SET `+rearmed(sum)+`,
  available = available + CASE WHEN unlimited = 1 THEN 0 ELSE `+sum+` END
WHERE sku_id IN (`+sqldb.In(len(ids))+`)`, slices.Concat(args, args, sqldb.Args(ids))...)
		if err != nil {
			return fmt.Errorf("put back on the shelf: %w", err)
		}
		if n != int64(len(ids)) {
			return fmt.Errorf("put back on the shelf: %d of %d SKUs exist: %w", n, len(ids), ErrSKUNotFound)
		}
		return nil
	})
}

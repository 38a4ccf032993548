package order

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// limits is what the customers of a batch are held to.
type limits struct {
	open openOrders
	sale *saleLimits
}

// limitsOf reads what the customers of a batch are held to.
func (s *Service) limitsOf(ctx context.Context, tx *sqldb.Tx, batch []placing, shelf *stock.Shelf) (limits, error) {
	open, err := s.openOf(ctx, tx, batch)
	if err != nil {
		return limits{}, err
	}
	sale, err := readSaleLimits(ctx, tx, batch, shelf)
	return limits{open, sale}, err
}

// saleLimits is how many units the customers of a batch may have in the sales that limit
// them. A unit is a slot, a row of sale_buyers of which a customer has as many as the
// limit says: its unique key makes the limit exact over all processes. The slot of an order
// that was closed, or paid back, is free again; it keeps its row until another order takes
// it over.
type saleLimits struct {
	sale    map[string]string // of a SKU that is limited
	limit   map[string]int64  // of a SKU
	buyers  map[buyer][]slot
	inserts []slotOf
	moves   []slotOf
}

// buyer is a customer in a sale.
type buyer struct{ sale, customerID string }

// slot is one unit that a customer may have.
type slot struct {
	no      int64
	orderNo string // "": it has no row
	live    bool   // its order has the unit
}

// slotOf is a slot that an order gets.
type slotOf struct {
	buyer
	slot
	next string // the order
}

// mostSaleCustomers bounds how many customers one statement names.
const mostSaleCustomers = 128

// readSaleLimits reads the slots of the batch's customers, under locks. Nil: no SKU of the batch
// is limited.
func readSaleLimits(ctx context.Context, tx *sqldb.Tx, batch []placing, shelf *stock.Shelf) (*saleLimits, error) {
	limited := map[string]int64{}
	for i := range batch {
		for _, l := range batch[i].Lines {
			if sku, ok := shelf.SKU(l.SkuID); ok && sku.PerCustomer > 0 {
				limited[l.SkuID] = sku.PerCustomer
			}
		}
	}
	if len(limited) == 0 {
		return nil, nil
	}
	sales, err := stock.SalesOf(ctx, tx, limited)
	if err != nil {
		return nil, err
	}
	s := &saleLimits{sale: sales, limit: limited, buyers: map[buyer][]slot{}}
	var asked []buyer
	for i := range batch {
		for _, l := range batch[i].Lines {
			if sale, ok := sales[l.SkuID]; ok {
				asked = append(asked, buyer{sale, batch[i].CustomerID})
			}
		}
	}
	slices.SortFunc(asked, func(a, b buyer) int {
		return cmp.Or(cmp.Compare(a.sale, b.sale), cmp.Compare(a.customerID, b.customerID))
	})
	for page := range slices.Chunk(slices.Compact(asked), mostSaleCustomers) {
		if err := s.readSlots(ctx, tx, page); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readSlots reads and locks the slots of customers, then the states of their orders: whoever
// takes a slot over, or revives its order, holds its row.
func (s *saleLimits) readSlots(ctx context.Context, tx *sqldb.Tx, page []buyer) error {
	args := make([]any, 0, 2*len(page))
	where := ""
	for i, b := range page {
		if i > 0 {
			where += " OR "
		}
		where += "(sale = ? AND customer_id = ?)"
		args = append(args, b.sale, b.customerID)
	}
	var nos []string
	err := sqldb.Each(ctx, tx, `SELECT sale, customer_id, slot, order_no
FROM sale_buyers /*! FORCE INDEX (PRIMARY) */
WHERE `+where+`
ORDER BY sale, customer_id, slot
FOR UPDATE`, args, func(rows *sql.Rows) error {
		var b buyer
		sl := slot{live: true}
		err := rows.Scan(&b.sale, &b.customerID, &sl.no, &sl.orderNo)
		s.buyers[b] = append(s.buyers[b], sl)
		nos = append(nos, sl.orderNo)
		return err
	})
	if err != nil || len(nos) == 0 {
		return err
	}
	return s.readStates(ctx, tx, nos)
}

// readStates frees the slots of orders that hold nothing any more.
func (s *saleLimits) readStates(ctx context.Context, tx *sqldb.Tx, nos []string) error {
	free := map[string]bool{}
	slices.Sort(nos)
	nos = slices.Compact(nos)
	err := sqldb.Each(ctx, tx, `SELECT order_no
FROM orders
WHERE order_no IN (`+sqldb.In(len(nos))+`)
  AND state IN ('closed', 'late', 'refunded')`, sqldb.Args(nos), func(rows *sql.Rows) error {
		no := ""
		err := rows.Scan(&no)
		free[no] = true
		return err
	})
	if err != nil {
		return fmt.Errorf("read the orders of a sale: %w", err)
	}
	for _, slots := range s.buyers {
		for i := range slots {
			slots[i].live = slots[i].live && !free[slots[i].orderNo]
		}
	}
	return nil
}

// saleAsked is what a placement asks of one sale.
type saleAsked struct {
	sale  string
	units int64
	limit int64 // the smallest of its SKUs
	first int   // line
}

// asks gives what a placement asks of each sale that limits it, in the order of its lines.
func (s *saleLimits) asks(p *placing) (sales []saleAsked) {
	for i, l := range p.Lines {
		sale, ok := s.sale[l.SkuID]
		if !ok {
			continue
		}
		j := slices.IndexFunc(sales, func(a saleAsked) bool { return a.sale == sale })
		if j < 0 {
			j = len(sales)
			sales = append(sales, saleAsked{sale: sale, limit: s.limit[l.SkuID], first: i})
		}
		sales[j].units += l.Quantity
		sales[j].limit = min(sales[j].limit, s.limit[l.SkuID])
	}
	return sales
}

// slots gives the slots that a placement gets, or a *CustomerLimitError. Nothing is taken yet.
func (s *saleLimits) slots(p *placing) (all []slotOf, err error) {
	if s == nil {
		return nil, nil
	}
	for _, a := range s.asks(p) {
		got, held := s.free(buyer{a.sale, p.CustomerID}, a.limit, a.units, p.orderNo)
		if int64(len(got)) < a.units {
			return nil, &CustomerLimitError{Sale: a.sale, Index: a.first, Asked: a.units, Held: held, Limit: a.limit}
		}
		all = append(all, got...)
	}
	return all, nil
}

// free gives at most n of a customer's slots that nobody has, the lowest ones, so that two
// who find the same ones free meet, and how many are held: also above the limit, which may have
// been higher.
func (s *saleLimits) free(b buyer, limit, n int64, orderNo string) (got []slotOf, held int64) {
	mine := map[int64]slot{}
	for _, sl := range s.buyers[b] {
		if sl.live && sl.orderNo != orderNo { // a revived order has its own
			held++
		}
		mine[sl.no] = sl
	}
	n = min(n, limit-held)
	for no := int64(1); no <= limit && int64(len(got)) < n; no++ {
		sl, ok := mine[no]
		switch {
		case !ok:
			got = append(got, slotOf{b, slot{no: no}, orderNo})
		case !sl.live || sl.orderNo == orderNo:
			got = append(got, slotOf{b, sl, orderNo})
		}
	}
	return got, held
}

// take gives slots to a placement.
func (s *saleLimits) take(p *placing, slots []slotOf) {
	for _, sl := range slots {
		rows := s.buyers[sl.buyer]
		if sl.orderNo == "" {
			s.inserts = append(s.inserts, sl)
			s.buyers[sl.buyer] = append(rows, slot{no: sl.no, orderNo: p.orderNo, live: true})
			continue
		}
		s.moves = append(s.moves, sl)
		i := slices.IndexFunc(rows, func(r slot) bool { return r.no == sl.no })
		rows[i].orderNo, rows[i].live = p.orderNo, true
	}
}

// write writes what take gave: a neighbour who gives the same slot to another order is
// met by the unique key.
func (s *saleLimits) write(ctx context.Context, tx *sqldb.Tx) error {
	if s == nil {
		return nil
	}
	slices.SortFunc(s.inserts, func(a, b slotOf) int {
		return cmp.Or(cmp.Compare(a.sale, b.sale), cmp.Compare(a.customerID, b.customerID), cmp.Compare(a.no, b.no))
	})
	const cols = 4 // as named below
	args := make([]any, 0, cols*len(s.inserts))
	for _, sl := range s.inserts {
		args = append(args, sl.sale, sl.customerID, sl.no, sl.next)
	}
	err := tx.InsertRows(ctx, `INSERT INTO sale_buyers
  (sale, customer_id, slot, order_no)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("write the units of customers: %w", err)
	}
	for _, sl := range s.moves {
		n, err := tx.Update(ctx, `UPDATE sale_buyers
SET order_no = ?
WHERE sale = ?
  AND customer_id = ?
  AND slot = ?
  AND order_no = ?`, sl.next, sl.sale, sl.customerID, sl.no, sl.orderNo)
		if err == nil && n != 1 {
			err = sqldb.ErrLostRace
		}
		if err != nil {
			return fmt.Errorf("write the units of customers: %w", err)
		}
	}
	return nil
}

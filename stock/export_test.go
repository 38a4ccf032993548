package stock

import (
	"context"
	"time"

	"orderd/migrations/sqldb"
)

// Deduction takes stock for an order.
type Deduction struct {
	OrderNo string
	Lines   []Line
}

// Deduct takes stock for each order, all of its lines or none, and gives what
// was short, one answer per deduction. An order that was deducted before is
// answered "taken" whatever is left now: the duplicate is tested before
// sufficiency. Equal SKUs of one order are added up.
//
// It is what the tests of the ledger place with. The service does not come through
// here: its order numbers are new, and its repeats are found by the customer's key
// (package order), so that it uses a Shelf by itself.
func Deduct(ctx context.Context, tx *sqldb.Tx, batch []Deduction, at time.Time) ([][]Short, error) {
	nos := make([]string, len(batch))
	demand := map[string]int64{}
	for i, d := range batch {
		nos[i] = d.OrderNo
		for sku, n := range merge(d.Lines) {
			demand[sku] += n
		}
	}
	done, err := readHeld(ctx, tx, nos)
	if err != nil {
		return nil, err
	}
	shelf, err := Open(ctx, tx, Want{Units: demand, At: at})
	if err != nil {
		return nil, err
	}
	answers := make([][]Short, len(batch))
	for i, d := range batch {
		if _, before := done[d.OrderNo]; before {
			continue
		}
		lines, missing := shelf.lines(d.Lines)
		if missing != nil {
			answers[i] = missing
			continue
		}
		if answers[i] = shelf.Take(d.OrderNo, lines, nil); answers[i] == nil {
			done[d.OrderNo] = held{}
		}
	}
	return answers, shelf.Commit(ctx, tx, at)
}

// lines merges equal SKUs and names those that do not exist as short of all.
func (s *Shelf) lines(asked []Line) (lines []Line, missing []Short) {
	lines = Merge(asked)
	for i, l := range lines {
		if _, ok := s.skus[l.SkuID]; !ok {
			missing = append(missing, Short{Index: i, SkuID: l.SkuID, Requested: l.Quantity})
		}
	}
	return lines, missing
}

// The statement of Gates, and what it is asked with.
const SelectKept = selectKept

// KeptArgs are the arguments of SelectKept.
func KeptArgs() []any { return []any{reopening, SoldOut} }

// ListQuery is listQuery, for EXPLAIN.
const ListQuery = listQuery

// ListFromQuery is listFromQuery, for EXPLAIN.
const ListFromQuery = listFromQuery

package reconcile

import (
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment"
)

// The open differences are few among all that there ever were, and so are those of an order or of a day: whoever looks
// for them by walking over all reads the books of years.
func TestDifferencesAreReadByIndex(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for _, l := range []struct {
			DifferenceFilter
			index string
		}{
			{DifferenceFilter{}, "PRIMARY"},
			{DifferenceFilter{Status: StatusOpen}, "ix_differences_status"},
			{DifferenceFilter{Status: StatusOpen, Kind: Kinds()[0]}, "ix_differences_status"},
			{DifferenceFilter{OrderNo: "x", Status: StatusOpen}, "ix_differences_order"},
			{DifferenceFilter{Date: "2026-11-20", Type: payment.BillAll, Status: StatusOpen}, "ix_differences_bill"},
			{DifferenceFilter{Date: "2026-11-20", Type: payment.BillAll, OrderNo: "x"}, "ix_differences_order"},
		} {
			l.Limit, l.Cursor = 51, "x"
			tail, args := l.tail()
			query := "SELECT " + differenceColumns + "\nFROM differences\n" + tail
			sqldbtest.ReadsPageBy(t, db, l.index, false, query, args...)
		}
	})
}

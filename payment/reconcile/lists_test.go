package reconcile

import (
	"context"
	"slices"
	"testing"
	"time"

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
			// No index has a kind alone: the page is read along the ids, and what is of another kind is passed.
			{DifferenceFilter{Kind: Kinds()[0]}, "PRIMARY"},
			{DifferenceFilter{Kind: Kinds()[0], Date: "2026-11-20", Type: payment.BillAll}, "ix_differences_bill"},
			{DifferenceFilter{OrderNo: "x", Status: StatusOpen}, "ix_differences_order"},
			{DifferenceFilter{Date: "2026-11-20", Type: payment.BillAll, Status: StatusOpen}, "ix_differences_bill"},
			{DifferenceFilter{Date: "2026-11-20", Type: payment.BillAll, OrderNo: "x"}, "ix_differences_order"},
			{DifferenceFilter{Date: "2026-11-20", Type: payment.BillAll, Assignee: "bea"}, "ix_differences_bill"},
			{DifferenceFilter{Date: "2026-11-20", Type: payment.BillAll, Assignee: Nobody, Status: StatusResolved},
				"ix_differences_bill"},
			{DifferenceFilter{OrderNo: "x", Assignee: Nobody}, "ix_differences_order"},
		} {
			l.Limit, l.Cursor = 51, "x"
			tail, args := l.tail()
			query := "SELECT " + differenceColumns + "\nFROM differences\n" + tail
			sqldbtest.ReadsPageBy(t, db, l.index, false, query, args...)
		}
	})
}

// Each row has a whole result: a list that read the days of years, to sort them and show the newest fifty, took longer
// every day. The pages are what they were: newest day first, the types of a day in their order, none twice.
func TestReconciliationsAreReadByThePage(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var args []any
		var want []string
		day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
		for i := range 40 {
			date := day.AddDate(0, 0, -i).Format(time.DateOnly)
			for j, kind := range []payment.BillType{payment.BillAll, payment.BillFundFlow, payment.BillRefund,
				payment.BillSuccess} {
				if i%(j+1) == 0 { // not all days have all
					args, want = append(args, date, string(kind)), append(want, date+"-"+string(kind))
				}
			}
		}
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := tx.ExecContext(ctx, "DELETE FROM reconciliations"); err != nil {
				return err
			}
			for i := 0; i < len(args); i += 2 {
				if _, err := tx.ExecContext(ctx, `INSERT INTO reconciliations (bill_date, bill_type, state, result)
VALUES (?, ?, 'new', '')`, args[i], args[i+1]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		query, of := listStatement("2026-11-20", 50)
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, query, of...)
		r := &Reconciler{db: db}
		for _, limit := range []int{1, 2, 3, 7, 50, 200} {
			var got []string
			for before := ""; ; before = got[len(got)-1] {
				var page []Stored
				err := r.db.Snapshot(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
					page, err = listStored(ctx, tx, before, limit)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range page {
					got = append(got, s.ID())
				}
				if len(page) < limit {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d at a time: %q, want %q", limit, got, want)
			}
		}
	})
}

// A month is a page, and what somebody works on another: neither may read the books of years.
func TestMonthsAndAssigneesAreReadByIndex(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for query, args := range map[string][]any{
			monthStatement: {"2026-11-01", "2026-11-30"}, openStatement: {"2026-11-01", "2026-11-30"},
			endingsStatement: {"2026-11-01", "2026-11-30"},
		} {
			sqldbtest.ReadsByIndex(t, db, query, args...)
		}
		for _, f := range []DifferenceFilter{{Assignee: "bea", Status: StatusOpen},
			{Assignee: Nobody, Status: StatusOpen, OpenedBefore: time.Unix(1, 0)}} {
			f.Limit, f.Cursor = 51, "x"
			tail, args := f.tail()
			sqldbtest.ReadsPageBy(t, db, "ix_differences_assignee", false,
				"SELECT "+differenceColumns+"\nFROM differences\n"+tail, args...)
		}
	})
}

package reconcile_test

import (
	"fmt"
	"sync"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// The sums of a day, and the differences that they are the sums of, were read one after the other: a workbook that was
// made while people resolved had other numbers on its first sheet than rows on its second.
func TestExportIsOfOneMoment(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		d := newDesk(t, db)
		const rows = 700 // more than are read at once
		var bill []billRow
		for i := range rows {
			bill = append(bill, payRow(payment.Trade{SuccessTime: noon, TransactionID: fmt.Sprint(429900000 + i),
				OutTradeNo: fmt.Sprintf("01MCC5RM00%016d-01", i), Total: 555}))
		}
		d.bills.bills[day] = billOf(bill...)
		// Each is a payment that was not here, which is healed by holding it, and a held one, which stays open.
		if res := d.run(t, day); res.Open != rows {
			t.Fatalf("%+v", res)
		}
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { // all of them end, and are open again
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				to := []reconcile.Status{reconcile.StatusWrittenOff, reconcile.StatusOpen}[n%2]
				if _, err := db.Pool().ExecContext(t.Context(),
					"UPDATE differences SET status = ? WHERE resolution <> 'healed'", to); err != nil {
					t.Error(err)
					return
				}
			}
		})
		counts := func(all []reconcile.Difference) (open int64) {
			for i := range all {
				if all[i].Status == reconcile.StatusOpen {
					open++
				}
			}
			return open
		}
		seen := map[int64]bool{}
		for n := 0; n < 20 || len(seen) < 2 && n < 2000; n++ {
			s, all, err := d.Export(t.Context(), reconcile.ID(day, payment.BillAll), reconcile.DifferenceFilter{})
			if err != nil || s.Result.Open != counts(all) || len(all) != 2*rows {
				t.Errorf("%d of %d rows are open, the sums say %+v: %v", counts(all), len(all), s.Result, err)
				break
			}
			seen[s.Result.Open] = true
			days, open, err := d.Recent(t.Context(), 10, rows)
			if err != nil || len(days) != 1 || days[0].Result.Open != int64(len(open)) {
				t.Errorf("%d are open, the days say %+v: %v", len(open), days, err)
				break
			}
		}
		close(done)
		wg.Wait()
		if _, err := db.Pool().ExecContext(t.Context(),
			"UPDATE differences SET status = 'OPEN' WHERE resolution <> 'healed'"); err != nil {
			t.Error(err) // as it was: nobody has written anything off
		}
		if len(seen) < 2 && !t.Failed() {
			t.Errorf("nothing was changed meanwhile: %v", seen)
		}
	})
}

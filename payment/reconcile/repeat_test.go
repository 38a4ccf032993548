package reconcile_test

import (
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/payment/reconcile"
)

// A resolution whose COMMIT had no answer is run again, and finds that somebody has resolved the difference: that was
// itself, and the person must not be told that another was faster.
func TestResolutionKnowsItsOwnWork(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	d := newDesk(t, sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "shop")))
	off := payRow(d.paid(t))
	off.amount++
	d.bills.bills[day] = billOf(off)
	d.run(t, day)
	for _, x := range d.diffs(t, day) {
		for _, who := range []reconcile.Cause{fin, fin2} {
			proxy.Next(faultproxy.CutAfter)
			got, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
				Reason: "rounding", Cause: who})
			if err != nil {
				t.Errorf("%s, %v", got.Status, err)
			}
		}
	}
}

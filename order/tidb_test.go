package order_test

import (
	"errors"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

// TiDB refuses to share a lock (1235): what looks for the orders of refused placements asks it for none.
func TestNoLockIsSharedOnTiDB(t *testing.T) {
	dsn, answer := sqldbtest.AsTiDB(t)
	answer(true, "LOCK IN SHARE MODE", "LOCK IN NO MODE")
	f := ordertest.New(t, sqldbtest.Open(t, dsn))
	f.SKU(t, "mug", 1)
	f.PlaceOne(t, "first", "mug", 1)
	_, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "second",
		Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
	if !errors.As(err, new(*order.InsufficientError)) {
		t.Error(err)
	}
}

package order_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// With 500,000 orders a list that reads the whole table takes half a second, and the one that is needed in an incident
// (stuck) was one of them.
func TestListsReadByIndex(t *testing.T) {
	now := time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)
	month := order.Filter{CreatedFrom: now.AddDate(0, 0, -30), CreatedTo: now}
	in := func(change func(*order.Filter)) order.Filter {
		f := month
		change(&f)
		return f
	}
	lists := []struct {
		order.Filter
		index string
		few   bool // rows that it reads, and sorts
	}{
		{order.Filter{}, "PRIMARY", false},
		{order.Filter{Cursor: strings.Repeat("0", 26)}, "PRIMARY", false},
		{order.Filter{State: order.StatePaid}, "ix_orders_due", false},
		{order.Filter{State: order.StateLate, Cursor: strings.Repeat("0", 26)}, "ix_orders_due", false},
		{order.Filter{State: order.StatePending}, "ix_orders_due", true},
		{order.Filter{Stuck: true}, "ix_orders_due", true},
		{order.Filter{Stuck: true, State: order.StateClosing}, "ix_orders_due", true},
		{order.Filter{CustomerID: "c"}, "ix_orders_open", false},
		{order.Filter{CustomerID: "c", State: order.StatePaid}, "ix_orders_open", false},
		{order.Filter{CustomerID: "c", State: order.StatePending, Stuck: true}, "ix_orders_open", false},
		{order.Filter{CustomerID: "c", SkuID: "mug", AmountMin: 1}, "ix_orders_open", false},
		{month, "PRIMARY", false},
		{in(func(f *order.Filter) { f.State = order.StateClosed }), "ix_orders_due", false},
		{in(func(f *order.Filter) { f.SkuID, f.AmountMax, f.TradeType = "mug", 5, payment.JSAPI }), "PRIMARY", false},
		{in(func(f *order.Filter) { f.PaidFrom, f.ClosedTo = now, now }), "PRIMARY", false},
	}
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 100)
		for i := range 20 {
			f.PaidOne(t, fmt.Sprint("r", i), "mug", 1)
		}
		for _, l := range lists {
			query, args := order.ListStatement(l.Filter, now)
			sqldbtest.ReadsPageBy(t, db, l.index, l.few, query, args...)
		}
		for _, one := range []order.Filter{{OrderNo: "x"}, {OutTradeNo: "x"}, {TransactionID: "x"}, {OutRefundNo: "x"},
			{TransactionID: "x", CustomerID: "c", State: order.StatePaid, SkuID: "mug"}} {
			query, args := order.ListStatement(one, now)
			sqldbtest.ReadsByIndex(t, db, query, args...)
		}
		sqldbtest.ReadsByIndex(t, db, order.AccountQuery, "mug", "mug")
		sqldbtest.ReadsPageBy(t, db, "ix_orders_due", false, order.OverdueQuery, "pending", 1, 10_001)
		sqldbtest.ReadsPageBy(t, db, "ix_payments_outcome", true, order.HeldQuery, "", 51)
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, order.WrittenOffQuery, "", 51)
		for _, l := range []struct {
			order.RefundFilter
			index string
			few   bool
		}{
			{order.RefundFilter{}, "PRIMARY", false},
			{order.RefundFilter{State: order.RefundStateSucceeded, Cursor: "x"}, "ix_refunds_state", false},
			{order.RefundFilter{Reason: order.ReasonHeld}, "ix_refunds_reason", false},
			{order.RefundFilter{Reason: order.ReasonHeld, State: order.RefundStateSucceeded}, "ix_refunds_reason",
				false},
			{order.RefundFilter{Reason: order.ReasonLate, State: order.RefundStateOwed}, "ix_refunds_state", false},
			{order.RefundFilter{TransactionID: "x", State: order.RefundStateOwed}, "ix_refunds_transaction", true},
			{order.RefundFilter{OrderNo: "x"}, "ix_refunds_order", true},
		} {
			query, args := order.RefundStatement(l.RefundFilter)
			sqldbtest.ReadsPageBy(t, db, l.index, l.few, query, args...)
		}
	})
}

// What no index has would read every order that there ever was, and one such list a second takes the database down:
// it is refused with the way out.
func TestListsWithoutAnIndexNeedARange(t *testing.T) {
	f := ordertest.New(t, sqldbtest.SQLite(t))
	f.SKU(t, "mug", 10)
	o, now := whole(t, f, f.PaidOne(t, "r", "mug", 2)), f.Clock.Now()
	for name, set := range map[string]func(*order.Filter){
		"sku_id":      func(q *order.Filter) { q.SkuID = "mug" },
		"amount_min":  func(q *order.Filter) { q.AmountMin = o.Total },
		"amount_max":  func(q *order.Filter) { q.AmountMax = o.Total },
		"trade_type":  func(q *order.Filter) { q.TradeType = o.Attempts[0].TradeType },
		"paid_from":   func(q *order.Filter) { q.PaidFrom = o.Payment.SuccessTime },
		"paid_to":     func(q *order.Filter) { q.PaidTo = o.Payment.SuccessTime.Add(time.Millisecond) },
		"closed_from": func(q *order.Filter) { q.ClosedFrom = now.AddDate(0, 0, -1) },
		"closed_to":   func(q *order.Filter) { q.ClosedTo = now.AddDate(0, 0, 1) },
	} {
		found := 1
		if strings.HasPrefix(name, "closed") {
			found = 0
		}
		for i, narrow := range []order.Filter{
			{}, {State: order.StatePaid}, {CreatedFrom: now.AddDate(0, 0, -1)}, {CreatedTo: now.AddDate(0, 0, 1)},
			{CreatedFrom: now.AddDate(0, 0, -31), CreatedTo: now.AddDate(0, 0, 1)},
			{CreatedFrom: now.AddDate(0, 0, -30), CreatedTo: now.AddDate(0, 0, 1)}, // from here on narrow enough
			{CustomerID: o.CustomerID}, {OrderNo: o.OrderNo}, {TransactionID: o.Payment.TransactionID},
		} {
			set(&narrow)
			orders, _, err := f.List(t.Context(), narrow)
			var bad *order.ValidationError
			if wide := i < 5; wide != errors.As(err, &bad) || wide && bad.Fields[0].Pointer != "?"+name {
				t.Errorf("%s %d: %v", name, i, err)
			} else if !wide && len(orders) != found {
				t.Errorf("%s %d: %d orders, %v", name, i, len(orders), err)
			}
		}
	}
}

// The filters of one list mean the same on every engine, to the millisecond, and alone or together.
func TestFiltersOfAList(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		f.SKU(t, "cup", 10)
		paid := whole(t, f, f.PaidOne(t, "paid", "mug", 2))
		f.Clock.Advance(time.Hour)
		closed := f.PlaceOne(t, "closed", "cup", 1)
		f.Clock.Advance(time.Hour)
		closedAt := f.Clock.Now()
		if _, err := f.Cancel(t.Context(), cancel(closed.OrderNo)); err != nil {
			t.Fatal(err)
		}
		f.Clock.Advance(time.Hour)
		open := f.PlaceOne(t, "open", "mug", 1)
		const ms = time.Millisecond
		from, to := paid.CreatedAt, open.CreatedAt.Add(ms)
		all := order.Filter{CreatedFrom: from, CreatedTo: to}
		in := func(change func(*order.Filter)) order.Filter {
			q := all
			change(&q)
			return q
		}
		paidAt := paid.Payment.SuccessTime
		for name, q := range map[string]struct {
			order.Filter
			want string
		}{
			"all":            {all, "open closed paid"},
			"from":           {order.Filter{CreatedFrom: closed.CreatedAt}, "open closed"},
			"after":          {order.Filter{CreatedFrom: closed.CreatedAt.Add(ms)}, "open"},
			"to":             {order.Filter{CreatedTo: closed.CreatedAt}, "paid"},
			"paid":           {order.Filter{State: order.StatePaid}, "paid"},
			"pending":        {order.Filter{State: order.StatePending}, "open"},
			"closed early":   {order.Filter{State: order.StateClosed, CreatedTo: closed.CreatedAt}, ""},
			"stuck":          {order.Filter{Stuck: true}, ""},
			"stuck and paid": {order.Filter{Stuck: true, State: order.StatePaid}, ""},
			"sku":            {in(func(q *order.Filter) { q.SkuID = "mug" }), "open paid"},
			"sku and state":  {in(func(q *order.Filter) { q.SkuID, q.State = "mug", order.StatePaid }), "paid"},
			"amount":         {in(func(q *order.Filter) { q.AmountMin, q.AmountMax = paid.Total, paid.Total }), "paid"},
			"trade type":     {in(func(q *order.Filter) { q.TradeType = paid.Attempts[0].TradeType }), "paid"},
			"no such trade":  {in(func(q *order.Filter) { q.TradeType = payment.App }), ""},
			"paid from":      {in(func(q *order.Filter) { q.PaidFrom = paidAt }), "paid"},
			"paid after":     {in(func(q *order.Filter) { q.PaidFrom = paidAt.Add(ms) }), ""},
			"paid to":        {in(func(q *order.Filter) { q.PaidTo = paidAt }), ""},
			"paid until":     {in(func(q *order.Filter) { q.PaidTo = paidAt.Add(ms) }), "paid"},
			"closed from":    {in(func(q *order.Filter) { q.ClosedFrom = closedAt }), "closed"},
			"closed after":   {in(func(q *order.Filter) { q.ClosedFrom = closedAt.Add(time.Minute) }), ""},
			"closed to":      {in(func(q *order.Filter) { q.ClosedTo = closedAt }), ""},
			"closed within": {in(func(q *order.Filter) {
				q.ClosedFrom, q.ClosedTo = closedAt, closedAt.Add(time.Minute)
			}), "closed"},
			"customer": {order.Filter{CustomerID: "c", State: order.StatePaid}, "paid"},
			"nobody":   {order.Filter{CustomerID: "nobody"}, ""},
			"cursor":   {order.Filter{Cursor: open.OrderNo, CreatedTo: to}, "closed paid"},
		} {
			orders, _, err := f.List(t.Context(), q.Filter)
			if err != nil {
				t.Fatal(name, err)
			}
			var got []string
			for i := range orders {
				switch orders[i].OrderNo {
				case paid.OrderNo:
					got = append(got, "paid")
				case closed.OrderNo:
					got = append(got, "closed")
				case open.OrderNo:
					got = append(got, "open")
				}
			}
			if g := strings.Join(got, " "); g != q.want {
				t.Errorf("%s: %q, want %q", name, g, q.want)
			}
		}
	})
}

// whole reads an order with all that belongs to it.
func whole(t *testing.T, f *ordertest.Fixture, o order.Order) order.Order {
	t.Helper()
	found, err := f.Find(t.Context(), o.OrderNo)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

package bulk

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"orderd/order"
	"orderd/payment"
)

// Filter says what a run is about: Orders of the kinds about orders, Refunds of those about refunds. Limits and cursors
// have no meaning: a run is of all that there is.
type Filter struct {
	Orders  order.Filter
	Refunds order.RefundFilter
}

// Text is the filter in the words of the API's lists, always in one order: what is asked for by the same text is the
// same.
func (f *Filter) Text() string { return f.words().Encode() }

// words are the filter's fields that select, by their names in the API.
func (f *Filter) words() url.Values {
	v := url.Values{}
	text := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	fen := func(name string, n payment.Fen) {
		if n > 0 {
			v.Set(name, strconv.FormatInt(int64(n), 10))
		}
	}
	o := &f.Orders
	text("order_no", o.OrderNo)
	text("customer_id", o.CustomerID)
	text("state", string(o.State))
	text("out_trade_no", o.OutTradeNo)
	text("transaction_id", o.TransactionID)
	text("out_refund_no", o.OutRefundNo)
	text("reference", o.Reference)
	text("sku_id", o.SkuID)
	text("trade_type", string(o.TradeType))
	if o.Stuck {
		v.Set("stuck", "1")
	}
	at("created_from", o.CreatedFrom)
	at("created_to", o.CreatedTo)
	at("paid_from", o.PaidFrom)
	at("paid_to", o.PaidTo)
	at("closed_from", o.ClosedFrom)
	at("closed_to", o.ClosedTo)
	fen("amount_min", o.AmountMin)
	fen("amount_max", o.AmountMax)
	text("order_no", f.Refunds.OrderNo)
	text("transaction_id", f.Refunds.TransactionID)
	text("reason", f.Refunds.Reason)
	return v
}

// find gives what a filter means of what a kind can be done to, the newest first, or ErrTooMany.
func (r *Runs) find(ctx context.Context, kind Kind, f *Filter) ([]Row, error) {
	switch kind {
	case KindClose:
		var all []Row
		for _, s := range order.States() {
			if !s.CanClose() || f.Orders.State != "" && f.Orders.State != s {
				continue
			}
			some := f.Orders
			some.State = s
			rows, err := r.orders(ctx, some, false, MaxRows-len(all))
			if err != nil {
				return nil, err
			}
			all = append(all, rows...)
		}
		return numbered(all), nil
	case KindAsk:
		all, err := r.orders(ctx, f.Orders, true, MaxRows)
		return numbered(all), err
	case KindApprove:
		all, err := r.refunds(ctx, f.Refunds)
		return numbered(all), err
	}
	return nil, ErrNone
}

// numbered gives rows their places.
func numbered(rows []Row) []Row {
	for i := range rows {
		rows[i].Seq, rows[i].State = int64(i)+1, RowWaiting
	}
	return rows
}

// orders gives the orders of a filter, of those that WeChat Pay may know alone if they are to be prepaid.
func (r *Runs) orders(ctx context.Context, f order.Filter, prepaid bool, most int) ([]Row, error) {
	found, whole, err := r.cfg.Orders.Select(ctx, f, prepaid, most)
	switch {
	case err != nil:
		return nil, err
	case !whole:
		return nil, ErrTooMany
	}
	rows := make([]Row, len(found))
	for i, o := range found {
		rows[i] = Row{Ref: o.OrderNo, Version: o.Version, Amount: o.Total}
	}
	return rows, nil
}

// refunds gives the refunds of a filter that wait for the approval of one person.
func (r *Runs) refunds(ctx context.Context, f order.RefundFilter) ([]Row, error) {
	f.State, f.Limit, f.Primary = order.RefundStatePending, refundPage, true
	var rows []Row
	for looked := 0; ; {
		page, next, err := r.cfg.Orders.ListRefunds(ctx, f)
		if err != nil {
			return nil, err
		}
		if looked += len(page); looked > MaxRows {
			return nil, ErrTooMany
		}
		for i := range page {
			if p := &page[i]; !p.MayTakeTwo(r.cfg.Orders.ApprovalsFor) {
				rows = append(rows, Row{Ref: p.OutRefundNo, Version: p.Version, Amount: p.Amount})
			}
		}
		if f.Cursor = next; next == "" {
			return rows, nil
		}
	}
}

// refundPage is how many refunds are read at once: the most that a list gives.
const refundPage = 200

package orderhttp

import (
	"time"

	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

// Amount is a sum of money in the shape of WeChat Pay's API: Total in fen, a hundredth of
// a yuan, Currency is CNY.
type Amount struct {
	Total    payment.Fen `json:"total"`
	Currency string      `json:"currency"`
}

// amountOf is a pointer because a Problem has an amount or none.
func amountOf(f payment.Fen) *Amount { return &Amount{Total: f, Currency: payment.CNY} }

// OrderView is an order as its customer sees it. Openids, trade numbers of attempts, and
// what the scheduler plans are for operators (package console). The field names are a
// contract; docs/openapi.yaml says what each means.
type OrderView struct {
	OrderNo string      `json:"order_no"`
	State   order.State `json:"state"`
	Version int64       `json:"version"`
	Amount  Amount      `json:"amount"`
	Items   []ItemView  `json:"items"`
	Remark  string      `json:"remark,omitempty"`
	Attach  string      `json:"attach,omitempty"`
	// Reference is the number that the shop gave it, absent without one.
	Reference        string `json:"reference,omitempty"`
	CreatedAt        string `json:"created_at"`
	TimeExpire       string `json:"time_expire"`
	ExpiresInSeconds int64  `json:"expires_in_seconds"`
	// Payment is null until the order is paid; Refunds is never null.
	Payment     *PaymentView       `json:"payment"`
	Refunds     []RefundView       `json:"refunds"`
	CloseReason *order.CloseReason `json:"close_reason"`
	// RefundedElsewhere is what of the payment went back by refunds that are HELD, in fen:
	// it counts against what can still go back.
	RefundedElsewhere payment.Fen `json:"refunded_elsewhere,omitempty"`
}

// OrderSummary is an order in a list: without its payment and refunds, which a list does
// not read from the database.
type OrderSummary struct {
	OrderNo string      `json:"order_no"`
	State   order.State `json:"state"`
	// Version counts the changes of the order from 1; it is the ETag, and the since of a
	// long poll.
	Version   int64      `json:"version"`
	Amount    Amount     `json:"amount"`
	Items     []ItemView `json:"items"`
	Reference string     `json:"reference,omitempty"`
	CreatedAt string     `json:"created_at"`
	// TimeExpire is until when WeChat Pay takes a payment. ExpiresInSeconds is how long
	// that is from now, 0 unless the order is pending: a client whose clock is wrong
	// shows the right countdown by it.
	TimeExpire       string `json:"time_expire"`
	ExpiresInSeconds int64  `json:"expires_in_seconds"`
	// CloseReason is who wanted the order closed, of several the first person: timeout
	// (nobody but the clock), cancel (its customer) or operator; null without.
	CloseReason *order.CloseReason `json:"close_reason"`
}

// ItemView is a line of an order, at the price in fen that it was placed for.
type ItemView struct {
	SkuID     string      `json:"sku_id"`
	Quantity  int64       `json:"quantity"`
	UnitPrice payment.Fen `json:"unit_price"`
}

// PaymentView is the payment that paid an order, named as WeChat Pay names it.
type PaymentView struct {
	OutTradeNo    string `json:"out_trade_no"`
	TransactionID string `json:"transaction_id"`
	TradeType     string `json:"trade_type"`
	// TradeState is SUCCESS, or REFUND when all of it went back, or some of it elsewhere:
	// not by a refund of this service.
	TradeState  payment.TradeState `json:"trade_state"`
	Amount      PaidAmount         `json:"amount"`
	SuccessTime string             `json:"success_time"`
}

// PaidAmount is what an order cost and what the buyer paid of it after WeChat Pay's
// coupons, in fen.
type PaidAmount struct {
	Total payment.Fen `json:"total"`
	// PayerTotal is what left the buyer's account; WeChat Pay paid the rest by a coupon. It
	// is absent where WeChat Pay did not say it.
	PayerTotal payment.MaybeFen `json:"payer_total,omitzero"`
	Currency   string           `json:"currency"`
}

// PrepayView is what a client needs to pay: CodeURL for NATIVE, H5URL for H5, JSAPI or
// App for those. TimeExpire is that of the order; PayableUntil is that of these parameters,
// whose own time at WeChat Pay may end first.
type PrepayView struct {
	OrderNo      string               `json:"order_no"`
	OutTradeNo   string               `json:"out_trade_no"`
	TradeType    payment.TradeType    `json:"trade_type"`
	PrepayID     string               `json:"prepay_id,omitempty"`
	TimeExpire   string               `json:"time_expire"`
	PayableUntil string               `json:"payable_until,omitempty"`
	CodeURL      string               `json:"code_url,omitempty"`
	H5URL        string               `json:"h5_url,omitempty"`
	JSAPI        *payment.JSAPIParams `json:"jsapi,omitempty"`
	App          *payment.AppParams   `json:"app,omitempty"`
}

// StockView is what can be bought of a SKU at AsOf, wherever its units are counted. Available
// is null when it is unlimited, and 0 while it is marked as sold out, whatever has come back.
// Of a sale that has not begun it is what there will be. It is for showing; a placement decides
// by the database.
type StockView struct {
	SkuID     string `json:"sku_id"`
	Available *int64 `json:"available"`
	Unlimited bool   `json:"unlimited"`
	// OpensAt is when its flash sale begins, if that is to come; PerCustomer is how many units
	// one customer may have in it, absent without a limit.
	OpensAt     string `json:"opens_at,omitempty"`
	PerCustomer int64  `json:"per_customer,omitempty"`
	AsOf        string `json:"as_of"`
}

// SKUView is what a page of goods shows of a SKU: its name, its price now, and what is left.
// A placement's expected_total says that the price has not changed since.
type SKUView struct {
	StockView
	Title string `json:"title"`
	Price Amount `json:"price"`
}

// skuViewOf shows a SKU as it is at now.
func skuViewOf(s stock.SKU, now time.Time) SKUView {
	return SKUView{StockView: stockViewOf(s, now), Title: s.Title, Price: *amountOf(payment.Fen(s.PriceFen))}
}

// Page is one page of a list. NextCursor is null on the last one; on the others it is
// given back as ?cursor= for the next.
type Page[T any] struct {
	Data       []T     `json:"data"`
	NextCursor *string `json:"next_cursor"`
}

// PageOf shows rows as a page, in their order; next is the cursor of the page after it,
// "" when there is none.
func PageOf[R, V any](rows []R, next string, view func(*R) V) Page[V] {
	page := Page[V]{Data: make([]V, len(rows))} // never nil: an empty page is [], not null
	for i := range rows {
		page.Data[i] = view(&rows[i])
	}
	if next != "" {
		page.NextCursor = &next
	}
	return page
}

// FirstPageOf is PageOf for rows that were read one more than limit, so that the last one
// shows that there is another page. The cursor of that page is what cursor gives for the
// last row shown.
func FirstPageOf[R, V any](rows []R, limit int, view func(*R) V, cursor func(*R) string) Page[V] {
	if len(rows) <= limit {
		return PageOf(rows, "", view)
	}
	return PageOf(rows[:limit], cursor(&rows[limit-1]), view)
}

// viewOf shows an order as it is at a time. Only expires_in_seconds depends on
// the time; for a placement, asked with the time of the placement, the view is
// the same for ever.
func viewOf(o *order.Order, now time.Time) OrderView {
	s := summaryOf(o, now)
	v := OrderView{
		OrderNo: s.OrderNo, State: s.State, Version: s.Version, Amount: s.Amount, Items: s.Items,
		Remark: o.Remark, Attach: o.Attach, Reference: o.Reference, CreatedAt: s.CreatedAt, TimeExpire: s.TimeExpire,
		ExpiresInSeconds: s.ExpiresInSeconds, CloseReason: s.CloseReason, Refunds: make([]RefundView, len(o.Refunds)),
	}
	if p := o.Payment; p != nil {
		v.Payment = &PaymentView{
			OutTradeNo: p.OutTradeNo, TransactionID: p.TransactionID, TradeType: p.TradeType,
			TradeState:  payment.TradeSuccess,
			Amount:      PaidAmount{Total: p.Total, PayerTotal: p.PayerTotal, Currency: p.Currency},
			SuccessTime: rfc3339(p.SuccessTime),
		}
		if o.State == order.StateRefunded || !p.RefundTold.IsZero() {
			v.Payment.TradeState = payment.TradeRefund
		}
	}
	for i := range o.Refunds {
		v.Refunds[i] = RefundViewOf(&o.Refunds[i])
		if p := o.Payment; p != nil && o.Refunds[i].TransactionID == p.TransactionID {
			v.RefundedElsewhere = o.Refunds[i].Elsewhere // the same in every refund of a payment
		}
	}
	return v
}

// summaryOf shows an order as a list does, at a time.
func summaryOf(o *order.Order, now time.Time) OrderSummary {
	s := OrderSummary{
		OrderNo: o.OrderNo, State: o.State, Version: o.Version, Amount: *amountOf(o.Total),
		Items: make([]ItemView, len(o.Items)), Reference: o.Reference, CreatedAt: rfc3339(o.CreatedAt),
		TimeExpire: rfc3339(o.ExpireAt),
	}
	for i, it := range o.Items {
		s.Items[i] = ItemView{SkuID: it.SkuID, Quantity: it.Quantity, UnitPrice: it.UnitPrice}
	}
	if o.State == order.StatePending {
		s.ExpiresInSeconds = max(int64(o.ExpireAt.Sub(now)/time.Second), 0)
	}
	if o.CloseReason != "" {
		s.CloseReason = &o.CloseReason
	}
	return s
}

// prepayViewOf shows what a client needs to pay; the parameters were signed by the
// gateway and are passed on as they are.
func prepayViewOf(p order.Prepayment) PrepayView {
	v := PrepayView{
		OrderNo: p.OrderNo, OutTradeNo: p.OutTradeNo, TradeType: p.TradeType, PrepayID: p.Prepaid.PrepayID,
		TimeExpire: rfc3339(p.TimeExpire), CodeURL: p.Prepaid.CodeURL, H5URL: p.Prepaid.H5URL,
		JSAPI: p.Prepaid.JSAPI, App: p.Prepaid.App,
	}
	if !p.PayableUntil.IsZero() {
		v.PayableUntil = rfc3339(p.PayableUntil)
	}
	return v
}

// stockViewOf shows what can be bought of a SKU, as of a time.
func stockViewOf(s stock.SKU, now time.Time) StockView {
	v := StockView{SkuID: s.SkuID, Unlimited: s.Unlimited, PerCustomer: s.PerCustomer, AsOf: rfc3339(now)}
	if s.OpensAt.After(now) {
		v.OpensAt = rfc3339(s.OpensAt)
	}
	if !s.Unlimited {
		free := s.Free()
		if s.SoldOut {
			free = 0
		}
		v.Available = &free
	}
	return v
}

// rfc3339 writes a time in UTC, with milliseconds where it has some: the database keeps
// milliseconds, and WeChat Pay's own times have whole seconds.
func rfc3339(t time.Time) string {
	t = t.UTC()
	if t.Nanosecond() == 0 {
		return t.Format(time.RFC3339)
	}
	return t.Format("2006-01-02T15:04:05.000Z07:00")
}

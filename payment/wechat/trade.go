package wechat

import (
	"orderd/migrations/bounds"
	"orderd/payment"
)

// tradeAnswer is the body that a query answers and a notification carries, in WeChat's
// names. gopay's own type cannot tell an amount that is absent from 0.
type tradeAnswer struct {
	AppID         string `json:"appid"`
	MchID         string `json:"mchid"`
	OutTradeNo    string `json:"out_trade_no"`
	TransactionID string `json:"transaction_id"`
	TradeType     string `json:"trade_type"`
	TradeState    string `json:"trade_state"`
	SuccessTime   string `json:"success_time"`
	Amount        struct {
		Total      payment.Fen      `json:"total"`
		PayerTotal payment.MaybeFen `json:"payer_total"`
		Currency   string           `json:"currency"`
	} `json:"amount"`
}

// tradeOf turns the body that a query answers and a notification carries into
// ours. WeChat signed it, and still its fields are stored and shown, so their
// length and characters are checked. Fields that WeChat may add are ignored.
func tradeOf(q *tradeAnswer) (payment.Trade, error) {
	state, err := tradeState(q.TradeState)
	if err != nil {
		return payment.Trade{}, err
	}
	if !payment.ValidOutTradeNo(q.OutTradeNo) {
		return payment.Trade{}, badAnswer("out_trade_no is not one of ours")
	}
	for _, v := range []struct {
		f *bounds.Field
		s string
	}{{&bounds.WeChatNo, q.TransactionID}, {&bounds.AppID, q.AppID}, {&bounds.MchID, q.MchID},
		{&bounds.PaidBy, q.TradeType}} {
		if wrong := v.f.Check(v.s); wrong != nil && v.s != "" {
			return payment.Trade{}, badAnswer(wrong.Detail)
		}
	}
	t := payment.Trade{
		OutTradeNo: q.OutTradeNo, State: state, TransactionID: q.TransactionID,
		AppID: q.AppID, MchID: q.MchID, TradeType: q.TradeType,
		Total: q.Amount.Total, PayerTotal: q.Amount.PayerTotal, Currency: q.Amount.Currency,
	}
	if len(t.Currency) > 3 || !payment.MadeOf(t.Currency, payment.Capitals) {
		return payment.Trade{}, badAnswer("amount.currency is not a currency")
	}
	if t.SuccessTime, err = timeOf(q.SuccessTime, "success_time"); err != nil {
		return payment.Trade{}, err
	}
	return t, paidIsComplete(t)
}

// paidIsComplete refuses a "paid" that lacks what money is booked by.
func paidIsComplete(t payment.Trade) error {
	payer, _ := t.PayerTotal.Fen() // one that is not said is possible, as 0 is
	switch {
	case !t.Paid():
		return nil
	case t.TransactionID == "":
		return badAnswer("paid without a transaction_id")
	case t.Total < 1 || t.Total > payment.MaxFen || payer < 0 || payer > t.Total:
		return badAnswer("paid without a possible amount")
	case t.State == payment.TradeSuccess && t.SuccessTime.IsZero():
		return badAnswer("paid without a success_time")
	}
	return nil
}

// tradeState accepts WeChat's states and nothing else: an unknown word means
// that nothing may be concluded.
func tradeState(s string) (payment.TradeState, error) {
	switch st := payment.TradeState(s); st {
	case payment.TradeSuccess, payment.TradeRefund, payment.TradeNotPay, payment.TradeClosed,
		payment.TradeRevoked, payment.TradeUserPaying, payment.TradePayError:
		return st, nil
	case payment.TradeNotFound: // our own word; WeChat says it by 404
	}
	return "", badAnswer("trade_state is unknown")
}

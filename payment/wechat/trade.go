package wechat

import (
	"encoding/json"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// tradeAnswer is what is read of the body that a query answers and a notification carries, in
// WeChat's names. A field that is not here, or is here as json.RawMessage, may be of any type
// and length: what decides nothing must not make a payment disbelieved.
type tradeAnswer struct {
	AppID         string          `json:"appid"`
	MchID         string          `json:"mchid"`
	OutTradeNo    string          `json:"out_trade_no"`
	TransactionID string          `json:"transaction_id"`
	TradeType     json.RawMessage `json:"trade_type"`
	TradeState    string          `json:"trade_state"`
	SuccessTime   string          `json:"success_time"`
	Amount        struct {
		Total         payment.Fen     `json:"total"`
		PayerTotal    json.RawMessage `json:"payer_total"`
		Currency      json.RawMessage `json:"currency"`
		PayerCurrency json.RawMessage `json:"payer_currency"` // of PayerTotal
	} `json:"amount"`
}

// tradeOf turns the body that a query answers and a notification carries into
// ours. WeChat signed it, and still its fields are stored and shown, so their
// length and characters are checked where they decide, and made to fit where they do not.
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
	}{{&bounds.WeChatNo, q.TransactionID}, {&bounds.AppID, q.AppID}, {&bounds.MchID, q.MchID}} {
		if wrong := v.f.Check(v.s); wrong != nil && v.s != "" {
			return payment.Trade{}, badAnswer(wrong.Detail)
		}
	}
	t := payment.Trade{
		OutTradeNo: q.OutTradeNo, State: state, TransactionID: q.TransactionID,
		AppID: q.AppID, MchID: q.MchID, TradeType: fitted(&bounds.PaidBy, q.TradeType),
		Total: q.Amount.Total, PayerTotal: payerTotal(q), Currency: fitted(&bounds.Currency, q.Amount.Currency),
	}
	if t.SuccessTime, err = timeOf(q.SuccessTime, "success_time"); err != nil {
		return payment.Trade{}, err
	}
	return t, paidIsComplete(t)
}

// fitted makes what explains fit its field. What is no text is shown as it is written, so
// that it is not taken for nothing; null and what is absent are nothing.
func fitted(f *bounds.Field, said json.RawMessage) string {
	var text string
	if len(said) > 0 && json.Unmarshal(said, &text) != nil {
		text = string(said)
	}
	return f.Fitted(text)
}

// payerTotal is what the buyer paid, where WeChat Pay says it in yuan and it is possible. In
// another currency it cannot be compared with the total.
func payerTotal(q *tradeAnswer) (none payment.MaybeFen) {
	if unit := fitted(&bounds.Currency, q.Amount.PayerCurrency); unit != "" && unit != payment.CNY {
		return none
	}
	var said payment.MaybeFen
	if json.Unmarshal(q.Amount.PayerTotal, &said) != nil {
		return none
	}
	if fen, ok := said.Fen(); !ok || fen < 0 || fen > q.Amount.Total {
		return none
	}
	return said
}

// paidIsComplete refuses a "paid" that lacks what money is booked by.
func paidIsComplete(t payment.Trade) error {
	switch {
	case !t.Paid():
		return nil
	case t.TransactionID == "":
		return badAnswer("paid without a transaction_id")
	case t.Total < 1 || t.Total > payment.MaxFen:
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

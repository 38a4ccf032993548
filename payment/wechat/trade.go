package wechat

import (
	wechatv3 "github.com/go-pay/gopay/wechat/v3"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// tradeOf turns the body that a query answers and a notification carries into
// ours. WeChat signed it, and still its fields are stored and shown, so their
// length and characters are checked. Fields that WeChat may add are ignored.
func tradeOf(q *wechatv3.QueryOrder) (payment.Trade, error) {
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
	}{{&bounds.WeChatNo, q.TransactionId}, {&bounds.AppID, q.Appid}, {&bounds.MchID, q.Mchid},
		{&bounds.PaidBy, q.TradeType}} {
		if wrong := v.f.Check(v.s); wrong != nil && v.s != "" {
			return payment.Trade{}, badAnswer(wrong.Detail)
		}
	}
	t := payment.Trade{
		OutTradeNo: q.OutTradeNo, State: state, TransactionID: q.TransactionId,
		AppID: q.Appid, MchID: q.Mchid, TradeType: q.TradeType,
	}
	if q.Amount != nil {
		t.Total, t.PayerTotal = payment.Fen(q.Amount.Total), payment.Fen(q.Amount.PayerTotal)
		t.Currency = q.Amount.Currency
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
	switch {
	case !t.Paid():
		return nil
	case t.TransactionID == "":
		return badAnswer("paid without a transaction_id")
	case t.Total < 1 || t.Total > payment.MaxFen || t.PayerTotal < 0 || t.PayerTotal > t.Total:
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

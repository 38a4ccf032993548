package wechatsim

import (
	"net/http"
	"time"
)

// tradeBody is a trade as a query and, when it is paid, a notification tell it, after
// captured answers. An unpaid trade has no transaction id, payer, currency nor trade
// type: a client whose fields are not optional breaks on it.
type tradeBody struct {
	Amount     tradeAmount `json:"amount"`
	AppID      string      `json:"appid"`
	Attach     string      `json:"attach,omitempty"`
	BankType   string      `json:"bank_type,omitempty"`
	MchID      string      `json:"mchid"`
	OutTradeNo string      `json:"out_trade_no"`
	Payer      *tradePayer `json:"payer,omitempty"`
	// Promotion and Scene are always empty here, and there because WeChat sends them.
	Promotion      []struct{}  `json:"promotion_detail"`
	Scene          *tradeScene `json:"scene_info,omitempty"`
	SuccessTime    string      `json:"success_time,omitempty"`
	TradeState     State       `json:"trade_state"`
	TradeStateDesc string      `json:"trade_state_desc"`
	TradeType      string      `json:"trade_type,omitempty"`
	TransactionID  string      `json:"transaction_id,omitempty"`
}

// tradeAmount is in fen. An unpaid trade has a total and no payer_total. payer_total is
// less than total where a coupon paid a part: what the order cost is total.
type tradeAmount struct {
	Currency      string `json:"currency,omitempty"`
	PayerCurrency string `json:"payer_currency"`
	PayerTotal    int64  `json:"payer_total,omitempty"`
	Total         int64  `json:"total"`
}

// tradePayer is who paid; an openid belongs to the merchant's app.
type tradePayer struct {
	OpenID string `json:"openid"`
}

// tradeScene is empty in every answer that was captured.
type tradeScene struct {
	DeviceID string `json:"device_id"`
}

// queryByNumber asks by the merchant's number.
func (s *Sim) queryByNumber(x *exchange) answer { return s.query(x, s.find(x.r.PathValue("no"))) }

// queryByTransaction asks by WeChat's number, which only a paid trade has, also one
// whose money went back.
func (s *Sim) queryByTransaction(x *exchange) answer {
	return s.query(x, s.findByTransaction(x.r.PathValue("id")))
}

// query answers with the trade, or that there is none.
func (s *Sim) query(x *exchange, t *trade) answer {
	if mchID := x.r.URL.Query().Get("mchid"); mchID != s.o.Keys.MchID {
		return wrongIn(inQuery, "mchid", mchID, "mchid与签名的商户号不一致")
	}
	if t == nil {
		return unknownTrade()
	}
	v := t.snapshot(s)
	if v.State == StateNone {
		return unknownTrade() // burned by a close: WeChat has no trade of it
	}
	b := describe(v)
	if v.Paying && s.o.UserPaying {
		// The documents give it to payment codes alone, so that it is no state of a trade here.
		b.TradeState, b.TradeStateDesc = "USERPAYING", "用户支付中，需要输入密码"
	}
	return ok(b)
}

// unknownTrade is 404 ORDER_NOT_EXIST.
func unknownTrade() answer {
	return refuse(http.StatusNotFound, "ORDER_NOT_EXIST", "订单不存在", tailNotFound)
}

// describe makes the body of a trade, after bodies that were captured. success_time is
// in whole seconds, in Beijing's zone.
func describe(v Trade) tradeBody {
	b := tradeBody{
		Amount: tradeAmount{PayerCurrency: "CNY", Total: v.Total}, AppID: v.AppID, MchID: v.MchID,
		OutTradeNo: v.OutTradeNo, Attach: v.Attach, Promotion: []struct{}{}, TradeState: v.State,
		TradeStateDesc: stateText(v.State),
	}
	if v.TransactionID == "" {
		b.Scene = &tradeScene{}
		return b
	}
	b.Amount.Currency, b.Amount.PayerTotal = "CNY", v.PayerTotal
	b.BankType, b.TradeType, b.TransactionID = "OTHERS", v.TradeType, v.TransactionID
	b.Payer = &tradePayer{OpenID: v.OpenID}
	b.SuccessTime = v.SuccessTime.In(beijing()).Format(time.RFC3339)
	return b
}

// stateText is WeChat's description of a state, for people.
func stateText(state State) string {
	switch state {
	case StateNone:
		return ""
	case StateNotPay:
		return "订单未支付"
	case StateSuccess:
		return "支付成功"
	case StateRefund:
		return "订单发生过退款"
	case StateClosed:
		return "订单已关闭"
	case StateProcessing, StateAbnormal: // of refunds only
	}
	panic("trade in unknown state " + string(state))
}

package wechat

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // see seal
	"encoding/base64"
	"maps"
	"net/http"
	"time"

	"github.com/go-pay/gopay"

	"orderd/migrations/bounds"
	"orderd/payment"
)

const (
	// The fixed words of a refund notification, from WeChat's document of it.
	eventRefunded  = "REFUND.SUCCESS"
	eventAbnormal  = "REFUND.ABNORMAL"
	eventClosed    = "REFUND.CLOSED"
	originalRefund = "refund"
)

// Refund asks WeChat to send money back, or repeats that: the number is the key
// by which it is done once, and the answer of a repeat is the present state. A
// nil error means that WeChat has taken it, not that the money is back.
//
// What WeChat would refuse, or what could reach another URL, is refused here
// without a call (KindRejected, no status). The reason is for the buyer to read,
// so that characters WeChat refuses are replaced in it, as in a description.
func (g *Gateway) Refund(ctx context.Context, q payment.RefundRequest) (payment.Refund, error) {
	q.Reason = payment.PlainText(q.Reason)
	if why := g.unrefundable(&q); why != "" {
		return payment.Refund{}, refusal(opRefund, "%s", why)
	}
	body := gopay.BodyMap{"transaction_id": q.TransactionID, "out_refund_no": q.OutRefundNo,
		"amount": gopay.BodyMap{"refund": int64(q.Amount), "total": int64(q.Total), "currency": payment.CNY}}
	if q.Reason != "" {
		body.Set("reason", q.Reason)
	}
	if q.NotifyURL != "" {
		body.Set("notify_url", q.NotifyURL)
	}
	var refund payment.Refund
	f, _, err := g.call(ctx, opRefund, q.OutRefundNo, func(ctx context.Context) error {
		_, err := g.client.refund(ctx, maps.Clone(body)) // gopay writes into the one it is given
		var a refundAnswer
		if ok, err := readAnswer(ctx, err, &a); !ok {
			return err
		}
		if refund, err = refundOf(&a); err != nil {
			return err
		}
		return fits(refund, q)
	})
	refund.RequestID = f.requestID
	if err != nil {
		return payment.Refund{}, err
	}
	return refund, nil
}

// unrefundable says why a request must not be sent, "" if it may. The reason
// names the field and the rule, not the value.
func (g *Gateway) unrefundable(q *payment.RefundRequest) string {
	for _, wrong := range []*bounds.Wrong{
		bounds.OutRefundNo.Check(q.OutRefundNo), bounds.WeChatNo.Check(q.TransactionID),
		bounds.TotalFen.Check(int64(q.Total)), bounds.RefundReason.Check(q.Reason),
	} {
		if wrong != nil {
			return wrong.Detail
		}
	}
	if q.Amount < 1 || q.Amount > q.Total {
		return "the amount is not between 1 fen and the total of the payment"
	}
	if wrong := bounds.CheckNotifyURL(q.NotifyURL, g.loopback); wrong != nil && q.NotifyURL != "" {
		return wrong.Detail
	}
	return ""
}

// fits refuses an answer that is about something else than what was asked.
func fits(r payment.Refund, q payment.RefundRequest) error {
	switch {
	case r.OutRefundNo != q.OutRefundNo:
		return otherAnswer("refund number")
	case r.TransactionID != q.TransactionID:
		return otherAnswer("payment")
	case r.Amount != q.Amount || r.Total != q.Total && r.Total != 0: // 0: not said
		return otherAnswer("amount")
	}
	return nil
}

// AbnormalRefund asks WeChat to send the money of an abnormal refund to a bank card
// (apply-abnormal-refund). A buyer's card is encrypted under the key that answers are asked
// for by, which the request names, with RSA-OAEP and SHA-1 as WeChat's document has it.
func (g *Gateway) AbnormalRefund(ctx context.Context, q payment.AbnormalRequest) (payment.Refund, error) {
	toBuyer := q.To == payment.CardOfUser
	switch {
	case !payment.ValidOutRefundNo(q.OutRefundNo) || !bounds.WeChatNo.Fits(q.RefundID) || q.RefundID == "":
		return payment.Refund{}, refusal(opAbnormal, "a number of the refund is not a plain word")
	case !toBuyer && q.To != payment.CardOfMerchant:
		return payment.Refund{}, refusal(opAbnormal, "the money goes to MERCHANT_BANK_CARD or USER_BANK_CARD")
	case toBuyer && !q.Card.Valid():
		return payment.Refund{}, refusal(opAbnormal, "the card is not a debit card with its owner's name")
	}
	body := gopay.BodyMap{"out_refund_no": q.OutRefundNo, "type": string(q.To)}
	if toBuyer {
		account, err := g.seal(q.Card.Account)
		name, err2 := g.seal(q.Card.RealName)
		if err != nil || err2 != nil {
			return payment.Refund{}, refusal(opAbnormal, "the card cannot be encrypted")
		}
		body.Set("bank_type", q.Card.BankType).Set("bank_account", account).Set("real_name", name)
	}
	var refund payment.Refund
	f, _, err := g.call(ctx, opAbnormal, q.OutRefundNo, func(ctx context.Context) error {
		_, err := g.client.abnormal(ctx, q.RefundID, body)
		var a refundAnswer
		if ok, err := readAnswer(ctx, err, &a); !ok {
			return err
		}
		if refund, err = refundOf(&a); err != nil {
			return err
		}
		return fits(refund, payment.RefundRequest{OutRefundNo: q.OutRefundNo, TransactionID: q.TransactionID,
			Amount: q.Amount, Total: q.Total})
	})
	if err != nil {
		return payment.Refund{}, err
	}
	refund.RequestID = f.requestID
	return refund, nil
}

// seal encrypts a field for WeChat alone, under the key that Wechatpay-Serial names.
func (g *Gateway) seal(text string) (string, error) {
	hash := sha1.New() //nolint:gosec // WeChat's choice; OAEP does not need the hash to resist collisions
	raw, err := rsa.EncryptOAEP(hash, rand.Reader, g.keys[g.responseKey].public, []byte(text), nil)
	return base64.StdEncoding.EncodeToString(raw), err
}

// QueryRefund asks for the present state of a refund. A number that WeChat has
// never seen is an answer, status RefundNotFound.
func (g *Gateway) QueryRefund(ctx context.Context, outRefundNo string) (payment.Refund, error) {
	if !payment.ValidOutRefundNo(outRefundNo) {
		return payment.Refund{}, refusal(opRefundQuery, "the refund number is not 1 to 64 of 0-9 A-Z a-z _ -")
	}
	var refund payment.Refund
	f, v, err := g.call(ctx, opRefundQuery, outRefundNo, func(ctx context.Context) error {
		_, err := g.client.refundQuery(ctx, outRefundNo, nil) // a map, even an empty one, changes what is signed
		var a refundAnswer
		if ok, err := readAnswer(ctx, err, &a); !ok {
			return err
		}
		if refund, err = refundOf(&a); err == nil && refund.OutRefundNo != outRefundNo {
			err = otherAnswer("refund number")
		}
		return err
	})
	if err != nil {
		return payment.Refund{}, err
	}
	if v.absent {
		refund = payment.Refund{OutRefundNo: outRefundNo, Status: payment.RefundNotFound}
	}
	refund.RequestID = f.requestID
	return refund, nil
}

// refundAnswer is what is read of the body that a refund, a query of it and (with another name
// for the status) a notification carry. What is not read may be of any type.
type refundAnswer struct {
	RefundID      string `json:"refund_id"`
	OutRefundNo   string `json:"out_refund_no"`
	TransactionID string `json:"transaction_id"`
	OutTradeNo    string `json:"out_trade_no"`
	Status        string `json:"status"`
	CreateTime    string `json:"create_time"`
	SuccessTime   string `json:"success_time"`
	Amount        struct {
		Refund   payment.Fen `json:"refund"`
		Total    payment.Fen `json:"total"`
		Currency string      `json:"currency"`
	} `json:"amount"`
}

// refundOf turns the body of a refund into ours. WeChat signed it, and still its fields are
// stored and shown, so their bounds are checked, as tradeOf does for a trade.
func refundOf(a *refundAnswer) (payment.Refund, error) {
	r := payment.Refund{OutRefundNo: a.OutRefundNo, RefundID: a.RefundID, TransactionID: a.TransactionID,
		OutTradeNo: a.OutTradeNo, Status: payment.RefundStatus(a.Status)}
	switch r.Status {
	case payment.RefundProcessing, payment.RefundSuccess, payment.RefundClosed, payment.RefundAbnormal:
	case payment.RefundNotFound: // our own word; WeChat says it by 404
		return r, badAnswer("status is unknown")
	default:
		return r, badAnswer("status is unknown")
	}
	switch {
	case !payment.ValidOutRefundNo(a.OutRefundNo):
		return r, badAnswer("out_refund_no is not one of ours")
	case !bounds.WeChatNo.Fits(a.RefundID), !bounds.WeChatNo.Fits(a.TransactionID):
		return r, badAnswer("refund_id or transaction_id is not a plain word")
	case a.OutTradeNo != "" && !bounds.OutTradeNo.Fits(a.OutTradeNo):
		return r, badAnswer("out_trade_no is not a plain word")
	case a.Amount.Refund < 1 || a.Amount.Refund > payment.MaxFen:
		return r, badAnswer("without a possible amount")
	case a.Amount.Total != 0 && a.Amount.Total < a.Amount.Refund || a.Amount.Total > payment.MaxFen:
		return r, badAnswer("without a possible total")
	case a.Amount.Currency != "" && a.Amount.Currency != payment.CNY: // absent in notifications
		return r, badAnswer("its currency is not CNY")
	}
	r.Amount, r.Total = a.Amount.Refund, a.Amount.Total
	var err error
	if r.CreateTime, err = timeOf(a.CreateTime, "create_time"); err != nil {
		return r, err
	}
	if r.SuccessTime, err = timeOf(a.SuccessTime, "success_time"); err != nil {
		return r, err
	}
	return r, nil
}

// timeOf reads a time of WeChat's; an absent one is the zero time. name is the field, for the
// error.
func timeOf(text, name string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, badAnswer(name + " is not RFC 3339")
	}
	return at.UTC(), nil
}

// ParseRefund believes a refund notification or says why not, with the checks
// and the errors of ParseNotification. The merchant is the caller's to compare.
func (g *Gateway) ParseRefund(h http.Header, body []byte) (payment.RefundNotification, error) {
	if err := g.believe(h, body); err != nil {
		return payment.RefundNotification{}, err
	}
	n, err := g.readRefund(body)
	g.watch.read(err)
	return n, err
}

// readRefund reads a believed body as a refund.
func (g *Gateway) readRefund(body []byte) (payment.RefundNotification, error) {
	e, plain, err := g.open(body, originalRefund, eventRefunded, eventAbnormal, eventClosed)
	if err != nil {
		return payment.RefundNotification{}, err
	}
	var n struct {
		MchID        string `json:"mchid"`
		RefundStatus string `json:"refund_status"`
		refundAnswer
	}
	if !decodeOne(plain, &n) {
		return payment.RefundNotification{}, malformed("the decrypted resource is not the JSON of a refund")
	}
	n.Status = n.RefundStatus
	if !bounds.MchID.Fits(n.MchID) {
		return payment.RefundNotification{}, malformed("mchid is not a plain word")
	}
	r, err := refundOf(&n.refundAnswer)
	if err != nil {
		return payment.RefundNotification{}, malformed(err.Error())
	}
	r.MchID = n.MchID
	if want := map[string]payment.RefundStatus{eventRefunded: payment.RefundSuccess,
		eventAbnormal: payment.RefundAbnormal,
		eventClosed:   payment.RefundClosed}[e.EventType]; r.Status != want {
		return payment.RefundNotification{}, malformed("event_type and refund_status contradict one another")
	}
	return payment.RefundNotification{ID: e.ID, Refund: r}, nil
}

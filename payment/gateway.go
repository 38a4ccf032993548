package payment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Gateway is WeChat Pay as an order sees it. Every method is one network call
// bounded by ctx and by the gateway's own short time-out.
//
// The rule of all of them: a nil error means that WeChat answered, the answer
// was signed by WeChat, and it means what the returned value says. Any error
// is a *GatewayError, and unless its Kind is KindRejected nothing is known
// about what happened at WeChat: nothing may move here.
type Gateway interface {
	// Prepay opens (or repeats, with the same parameters) a payable trade.
	Prepay(ctx context.Context, a Attempt) (Prepaid, error)
	// Query asks for the present state of a trade.
	Query(ctx context.Context, outTradeNo string) (Trade, error)
	// Close asks WeChat to make a trade unpayable for good.
	Close(ctx context.Context, outTradeNo string) (CloseReply, error)
	// Refund asks WeChat to send money back, or repeats that with the same
	// number and parameters. A nil error means accepted, not done: Status says.
	Refund(ctx context.Context, r RefundRequest) (Refund, error)
	// QueryRefund asks for the present state of a refund. A number that WeChat
	// has never seen is an answer, RefundNotFound, and proves nothing while a
	// call with it may still be on its way.
	QueryRefund(ctx context.Context, outRefundNo string) (Refund, error)
	// AbnormalRefund asks WeChat to send the money of a refund that is RefundAbnormal to
	// a bank card. A nil error means accepted, not done: Status says.
	AbnormalRefund(ctx context.Context, r AbnormalRequest) (Refund, error)
}

// CloseAnswer is what WeChat said to a close. Only a query makes "closed"
// final where a prepay was ever sent (wechatpay docs: 204 also comes for
// numbers that WeChat has never seen).
type CloseAnswer int

// The definite answers to a close. "No answer" is not among them: it is an error.
const (
	// CloseAccepted: 204. The trade was open, or closed before, or never seen.
	CloseAccepted CloseAnswer = iota + 1
	// CloseAlreadyClosed: ORDER_CLOSED.
	CloseAlreadyClosed
	// ClosePaid: ORDERPAID or ORDER_PAID at any status. The money is there, ask by query.
	ClosePaid
	// CloseNotFound: ORDER_NOT_EXIST.
	CloseNotFound
)

// String names the answer as it appears in timelines and metrics.
func (a CloseAnswer) String() string {
	switch a {
	case CloseAccepted:
		return "accepted"
	case CloseAlreadyClosed:
		return "already_closed"
	case ClosePaid:
		return "paid"
	case CloseNotFound:
		return "not_found"
	}
	return fmt.Sprintf("CloseAnswer(%d)", int(a))
}

// CloseReply is a definite answer to a close with what support asks for.
type CloseReply struct {
	Answer    CloseAnswer
	Status    int    // HTTP status
	Code      string // WeChat's code as sent, "" for 204
	RequestID string // WeChat's Request-ID header
}

// TradeType names how the buyer pays.
type TradeType string

// The trade types that orderd offers. WeChat calls H5 "MWEB" in its answers.
const (
	// Native: the buyer scans a QR code made of code_url, valid for two hours.
	Native TradeType = "NATIVE"
	// JSAPI: a page or mini program inside WeChat; needs the buyer's openid.
	JSAPI TradeType = "JSAPI"
	// H5: a page in another browser of a phone; h5_url is valid for five minutes.
	H5 TradeType = "H5"
	// App: the merchant's own mobile app, through WeChat's SDK.
	App TradeType = "APP"
)

// TradeTypes lists them.
func TradeTypes() []TradeType { return []TradeType{Native, JSAPI, H5, App} }

// TradeState is WeChat's own word for the state of a trade.
type TradeState string

// All states that a query can return, as WeChat's document of the query lists them.
const (
	// TradeSuccess: paid.
	TradeSuccess TradeState = "SUCCESS"
	// TradeRefund: was paid, and at least one fen went back; it stays so for good.
	TradeRefund TradeState = "REFUND"
	// TradeNotPay: open, also while the buyer is typing the password.
	TradeNotPay TradeState = "NOTPAY"
	// TradeClosed: closed by us, or by WeChat itself after seven days.
	TradeClosed TradeState = "CLOSED"
	// TradeRevoked, TradeUserPaying and TradePayError: WeChat documents them for
	// payment codes only, which orderd does not offer. They are known all the same:
	// an answer with one of them is an answer, and none of them means paid.
	TradeRevoked    TradeState = "REVOKED"
	TradeUserPaying TradeState = "USERPAYING"
	TradePayError   TradeState = "PAYERROR"
	// TradeNotFound is ours: WeChat answered 404 ORDER_NOT_EXIST.
	TradeNotFound TradeState = "NOTFOUND"
)

// Attempt is one payable WeChat order, with the parameters of its first call.
// They are stored before that call, and every repeat uses the stored ones:
// WeChat refuses a repeat whose parameters differ (400 INVALID_REQUEST). The
// bounds of the fields are checked by payment/wechat before anything is sent.
type Attempt struct {
	OutTradeNo  string
	OrderNo     string
	TradeType   TradeType
	Description string // ≤ 127 characters
	Attach      string // ≤ 128 characters
	NotifyURL   string
	TimeExpire  string // RFC 3339 with offset, exactly as sent
	Amount      Fen
	OpenID      string // JSAPI
	ClientIP    string // H5 (and optional elsewhere)
	H5Type      string // H5: iOS, Android or Wap
}

// Prepaid is WeChat's answer to a prepay and, for JSAPI and App, the signed
// parameters that the client hands to WeChat. Exactly one of the four is set
// beside PrepayID.
type Prepaid struct {
	PrepayID string
	CodeURL  string
	H5URL    string
	JSAPI    *JSAPIParams
	App      *AppParams
	// Doubt: the same call was sent elsewhere before, without an answer, and may still
	// arrive and make this one invalid. It may be handed out once, and not again.
	Doubt bool `json:"-"`
}

// JSAPIParams are the arguments of wx.requestPayment, named as WeChat names them.
type JSAPIParams struct {
	AppID     string `json:"appId"`
	TimeStamp string `json:"timeStamp"`
	NonceStr  string `json:"nonceStr"`
	Package   string `json:"package"`
	SignType  string `json:"signType"`
	PaySign   string `json:"paySign"`
}

// AppParams are the arguments of the mobile SDK's pay request.
type AppParams struct {
	AppID     string `json:"appid"`
	PartnerID string `json:"partnerid"`
	PrepayID  string `json:"prepayid"`
	Package   string `json:"package"`
	NonceStr  string `json:"noncestr"`
	TimeStamp string `json:"timestamp"`
	Sign      string `json:"sign"`
}

// Trade is what a query or a payment notification says. Whoever receives one
// compares merchant, app id, total and currency with the order: WeChat's
// signature says who sent it, not that it is what we asked for.
type Trade struct {
	OutTradeNo    string
	State         TradeState
	TransactionID string // empty unless paid
	AppID, MchID  string
	TradeType     string   // WeChat's spelling: JSAPI, NATIVE, APP, MWEB …
	Total         Fen      // amount.total: what the order cost
	PayerTotal    MaybeFen // amount.payer_total: less than Total when a coupon paid part of it
	Currency      string
	SuccessTime   time.Time // zero unless paid
	RequestID     string
}

// ErrOtherAnswer: an answer of WeChat Pay is about something else than was asked. It proves
// nothing.
var ErrOtherAnswer = errors.New("the answer is about something else than was asked")

// OtherThan names the field by which a trade is not the one that was asked for, "" when it can
// be. Fields are compared where the answer has them, merchant and app id not of a trade that
// is paid: money is held for a person, and not passed over.
func (t *Trade) OtherThan(outTradeNo, mchID string, appIDs []string) string {
	switch {
	case t.OutTradeNo != "" && t.OutTradeNo != outTradeNo:
		return "out_trade_no"
	case t.Paid():
		return ""
	case t.MchID != "" && t.MchID != mchID:
		return "mchid"
	case t.AppID != "" && !slices.Contains(appIDs, t.AppID):
		return "appid"
	}
	return ""
}

// Paid reports that WeChat holds (or held, before a refund) the buyer's money.
func (t Trade) Paid() bool { return t.State == TradeSuccess || t.State == TradeRefund }

// Kind sorts gateway errors by what the caller may do next.
type Kind int

// The kinds of GatewayError.
const (
	// KindUnknown: no answer, an unverifiable one, 5xx. Ask again with the same parameters.
	KindUnknown Kind = iota + 1
	// KindRateLimited: 429 or FREQUENCY_LIMITED. As unknown, but wait longer.
	KindRateLimited
	// KindUserPaying: 202. As unknown: the buyer is at it.
	KindUserPaying
	// KindRejected: a signed, definite no for this request. Nothing happened at WeChat.
	KindRejected
	// KindMisconfigured: 401, 403 NO_AUTH and the like: our keys or our merchant. Alarm.
	KindMisconfigured
)

// String names the kind as it appears in metrics.
func (k Kind) String() string {
	switch k {
	case KindUnknown:
		return "unknown"
	case KindRateLimited:
		return "rate_limited"
	case KindUserPaying:
		return "user_paying"
	case KindRejected:
		return "rejected"
	case KindMisconfigured:
		return "misconfigured"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// GatewayError is the only error type that a Gateway returns. Its text is safe to
// log: it never holds a body, a key or personal data.
type GatewayError struct {
	Op        string // prepay, query, close, refund, refund_query, abnormal_refund, bill, bill_file, echo
	Kind      Kind
	Status    int    // HTTP status, 0 without an answer
	Code      string // WeChat's code as sent
	Message   string // WeChat's message, cleaned (payment/wechat): operators only
	RequestID string
	// NotSent: nothing of the request left this machine, so that nothing can come of
	// it, whatever the Kind.
	NotSent bool
	// Doubt: before this answer the same was sent elsewhere and not answered, so that it
	// may still arrive, whatever the Kind.
	Doubt bool
	Err   error // a safe cause such as context.DeadlineExceeded, may be nil
}

// Error names the operation, what is known, WeChat's own words and its request id.
func (e *GatewayError) Error() string {
	s := fmt.Sprintf("wechat pay %s: %s", e.Op, e.Kind)
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d %s)", e.Status, e.Code)
	}
	if e.Message != "" {
		s += fmt.Sprintf(" %q", e.Message)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.RequestID != "" {
		s += " [request " + e.RequestID + "]"
	}
	return s
}

// Unwrap gives the safe cause.
func (e *GatewayError) Unwrap() error { return e.Err }

// KindOf returns the kind of a gateway error; anything else is KindUnknown,
// because nothing can be concluded from it.
func KindOf(err error) Kind {
	var g *GatewayError
	if errors.As(err, &g) {
		return g.Kind
	}
	return KindUnknown
}

// Ended reports that a call which failed with err has come to its end at WeChat Pay,
// without any effect there: a definite no, or nothing was sent. After any other error
// the request may still be on its way. A 401 is not signed, and so proves nothing.
func Ended(err error) bool {
	var g *GatewayError
	if !errors.As(err, &g) || g.Doubt {
		return false
	}
	switch g.Kind {
	case KindRejected:
		return true
	case KindMisconfigured:
		return g.NotSent || g.Status != http.StatusUnauthorized
	case KindUnknown, KindRateLimited, KindUserPaying:
	}
	return g.NotSent
}

// Errors of a notification before it may be believed. None of them changes anything.
var (
	// ErrBadSignature: headers missing, time-stamp more than 5 minutes off,
	// unknown serial, or a signature that does not verify. Answer 401.
	ErrBadSignature = errors.New("notification is not signed by WeChat Pay")
	// ErrProbe: WeChat's deliberate probe (signature prefix WECHATPAY/SIGNTEST/).
	// It also matches ErrBadSignature. Answer 401, count apart, no alarm.
	ErrProbe = fmt.Errorf("signature probe: %w", ErrBadSignature)
	// ErrMalformed: signed, but not a notification of this kind. Answer 400.
	ErrMalformed = errors.New("notification is malformed")
)

// UnknownKeyError says that a message names a key as its signer's that is not configured:
// a forger's, or one of WeChat Pay's that is new here. It matches ErrBadSignature.
type UnknownKeyError struct {
	// Serial is the id of that key, as WeChat Pay's ids look, so that it may be logged.
	Serial string
}

// Error names the key.
func (e *UnknownKeyError) Error() string {
	return "signed with key " + e.Serial + ", which is not configured"
}

// Is makes it an ErrBadSignature, and equal to another of the same key.
func (e *UnknownKeyError) Is(target error) bool {
	other, ok := target.(*UnknownKeyError)
	return target == ErrBadSignature || ok && *other == *e
}

// Notification is a verified, decrypted payment notification.
type Notification struct {
	ID    string // WeChat's id; not an idempotency key (not known to be stable over repeats)
	Trade Trade
}

// Echo is a verified callback of WeChat Pay's test of signatures: a message that somebody
// had it say again.
type Echo struct {
	ID      string // WeChat's id of the notification
	Message string // "" when it does not decrypt
}

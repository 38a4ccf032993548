package wechat

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"orderd/payment"
)

// The calls, as they appear in errors, metrics and the table. The file of a bill
// is never signed: its hash decides, and a refusal of it is judged as any
// unsigned answer.
const (
	opPrepay      = "prepay"       // POST /v3/pay/transactions/{native,jsapi,app,h5}
	opQuery       = "query"        // GET  /v3/pay/transactions/out-trade-no/{out_trade_no}
	opClose       = "close"        // POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close
	opRefund      = "refund"       // POST /v3/refund/domestic/refunds
	opRefundQuery = "refund_query" // GET  /v3/refund/domestic/refunds/{out_refund_no}
	// POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund
	opAbnormal = "abnormal_refund"
	opBill     = "bill"      // GET  /v3/bill/tradebill, /v3/bill/fundflowbill
	opBillFile = "bill_file" // GET  /v3/billdownload/file, /v3/bill/downloadurl
	opEcho     = "echo"      // POST /v3/security/echo
)

// verdict is what an answer means. Exactly one of its fields is set.
type verdict struct {
	done   bool                // the expected success of all but close
	closed payment.CloseAnswer // close: a definite answer
	absent bool                // query, refund_query: WeChat does not know the number
	kind   payment.Kind        // anything else is an error of this kind
}

// String names the verdict as the table in docs/wechat.md does.
func (v verdict) String() string {
	switch {
	case v.done:
		return "ok"
	case v.closed != 0:
		return v.closed.String()
	case v.absent:
		return "not_found"
	}
	return v.kind.String()
}

// signing says what a rule demands of an answer's signature.
type signing int

const (
	signed   signing = iota + 1 // verified
	unsigned                    // absent or wrong
	// either: for 401 and 429, which a gateway may give before it knows the merchant.
	// Nothing about the order is believed because of them.
	either
)

// rule is one line of the table: the first that fits an answer decides.
type rule struct {
	op       string // "" = any
	from, to int    // HTTP status, inclusive
	codes    []string
	signing  signing
	verdict  verdict
	why      string
}

// answerRules is everything WeChat Pay can say to a call, in the order in
// which it is tried. Codes are compared without underscores, because WeChat
// writes them both ways (ORDERPAID, ORDER_PAID). docs/wechat.md prints this
// table, and a test keeps the two equal.
//
// The direction of a doubt is always the same: an answer that is not proven
// moves nothing, because stock given back for an order that is paid later is
// worse than stock held a minute longer.
var answerRules = []rule{
	// What needs no signature, because it only ever makes us wait.
	{"", 401, 401, nil, either, failure(payment.KindMisconfigured),
		"WeChat does not accept our signature (and then does not sign); nothing happened there; alarm"},
	{"", 429, 429, nil, either, failure(payment.KindRateLimited),
		"too fast; a gateway in front may answer so unsigned"},
	{"", anyStatus, lastStatus, nil, unsigned, failure(payment.KindUnknown),
		"not proven to be WeChat's answer, whatever it says"},

	// The expected success.
	{opPrepay, 200, 200, nil, signed, success, "the trade is open and payable"},
	{opQuery, 200, 200, nil, signed, success, "the present state of the trade"},
	{opRefund, 200, 200, nil, signed, success, "taken, not done: status says how far it is"},
	{opRefundQuery, 200, 200, nil, signed, success, "the present state of the refund"},
	{opAbnormal, 200, 200, nil, signed, success, "taken, not done: the money is on its way to the card"},
	{opBill, 200, 200, nil, signed, success, "where the bill is and what its SHA-1 must be"},
	{opEcho, 200, 200, nil, signed, success, "our key, its answer's key and both clocks are right; nothing was moved"},
	{opClose, 204, 204, nil, signed, closedAs(payment.CloseAccepted),
		"open, closed before, or never seen: not payable from now on; confirm by query if a prepay was ever sent"},
	{"", 202, 202, nil, signed, failure(payment.KindUserPaying),
		"accepted, or the buyer is at it; repeat with the same parameters"},
	{"", anyStatus, 399, nil, signed, failure(payment.KindUnknown),
		"no answer of this call; 200 to a close is not 204"},

	// Codes that mean the same whatever their status.
	{opClose, 400, lastStatus, []string{"ORDERPAID"}, signed, closedAs(payment.ClosePaid),
		"the money is there: query, then settle"},
	{"", 400, lastStatus, []string{"USERPAYING"}, signed, failure(payment.KindUserPaying),
		"the buyer is at it; ask again later"},
	{"", 400, lastStatus, []string{"FREQUENCYLIMITED", "RATELIMITEXCEEDED"}, signed,
		failure(payment.KindRateLimited), "too fast for this order or merchant; outcome unknown"},
	{"", 400, lastStatus, []string{"SYSTEMERROR", "BANKERROR", "BIZERRNEEDRETRY"}, signed,
		failure(payment.KindUnknown), "WeChat does not know itself; repeat with the same parameters"},
	{opPrepay, 400, lastStatus, []string{"OPENIDMISMATCH"}, signed, failure(payment.KindRejected),
		"the openid belongs to another app id; WeChat lists it under 500, but a repeat cannot help"},
	{"", 500, lastStatus, nil, signed, failure(payment.KindUnknown), "WeChat failed; repeat with the same parameters"},

	// Definite answers to a close and a query.
	{opClose, refused, lastRefused, []string{"ORDERCLOSED"}, signed, closedAs(payment.CloseAlreadyClosed),
		"closed before"},
	{opClose, 404, 404, []string{"ORDERNOTEXIST"}, signed, closedAs(payment.CloseNotFound),
		"WeChat has never seen the number; with a prepay of ours on record this is a wrong merchant or key"},
	{opQuery, 404, 404, []string{"ORDERNOTEXIST"}, signed, verdict{absent: true},
		"WeChat has never seen the number"},
	{opClose, refused, lastRefused, []string{"TRADEERROR"}, signed, failure(payment.KindUnknown),
		"not closed, and perhaps because it is paid: query"},
	{opClose, refused, lastRefused, []string{"ORDERNOTEXIST"}, signed, failure(payment.KindUnknown),
		"contradicts its status; query"},
	{opQuery, refused, lastRefused, []string{"ORDERNOTEXIST"}, signed, failure(payment.KindUnknown),
		"contradicts its status; ask again"},

	// Refunds and bills.
	{opRefundQuery, 404, 404, []string{"RESOURCENOTEXISTS"}, signed, verdict{absent: true},
		"WeChat has never seen the refund number; no proof while a call with it may be on its way"},
	{opRefundQuery, refused, lastRefused, []string{"RESOURCENOTEXISTS"}, signed, failure(payment.KindUnknown),
		"contradicts its status; ask again"},
	{opRefund, refused, lastRefused, []string{"NOTENOUGH"}, signed, failure(payment.KindRejected),
		"the merchant's account lacks the money: the same request again after a top-up; alarm"},
	{opBill, refused, lastRefused, []string{"NOSTATEMENTEXIST"}, signed, failure(payment.KindRejected),
		"nothing happened on that day: an empty bill"},
	{opBill, refused, lastRefused, []string{"STATEMENTCREATING"}, signed, failure(payment.KindRejected),
		"not made yet: again after 10:00 in Beijing"},

	// Our merchant or keys: no order of ours can get a better answer.
	{"", refused, lastRefused, []string{"NOAUTH", "SIGNERROR", "MCHNOTEXISTS", "APPIDMCHIDNOTMATCH"}, signed,
		failure(payment.KindMisconfigured), "merchant number, app id or permission is wrong; alarm"},

	// A definite no to this one request.
	{opPrepay, refused, lastRefused, []string{"ORDERPAID"}, signed, failure(payment.KindRejected),
		"already paid: query, then settle"},
	{opPrepay, refused, lastRefused, []string{"ORDERCLOSED"}, signed, failure(payment.KindRejected),
		"this number is closed for good; a new attempt needs a new number"},
	{opPrepay, refused, lastRefused, []string{"INVALIDREQUEST"}, signed, failure(payment.KindRejected),
		"other parameters than the first call's, or the number was closed before its first prepay"},
	{opPrepay, refused, lastRefused, []string{"OUTTRADENOUSED"}, signed, failure(payment.KindRejected),
		"the number belongs to another order of this merchant"},
	{opRefund, refused, lastRefused, []string{"USERACCOUNTABNORMAL", "REQUESTBLOCKED", "INVALIDREQUEST", "PARAMERROR",
		"RESOURCENOTEXISTS"}, signed, failure(payment.KindRejected),
		"no refund of this number by this request; believed when a query does not know the number either"},
	{"", refused, lastRefused, []string{""}, signed, failure(payment.KindUnknown),
		"says no without a reason; never a ground to act"},
	{"", refused, lastRefused, nil, signed, failure(payment.KindRejected),
		"any other code (PARAM_ERROR, RULE_LIMIT, NOT_ENOUGH, …): a definite no to this request"},
}

// The statuses that rules speak of: all that HTTP knows, and the refusals of a
// request; from 500 on WeChat failed itself.
const (
	anyStatus, lastStatus = 100, 599
	refused, lastRefused  = 400, 499
)

// success is the verdict on the expected success of all but close.
var success = verdict{done: true}

// closedAs is a definite answer to a close.
func closedAs(a payment.CloseAnswer) verdict { return verdict{closed: a} }

// failure is an error of that kind.
func failure(k payment.Kind) verdict { return verdict{kind: k} }

// judge finds the meaning of an answer. It is the only place that looks at
// WeChat's statuses and codes.
func judge(op string, f *facts) verdict {
	if f.status == 0 {
		return verdict{kind: payment.KindUnknown}
	}
	code := spelling(f.code)
	for _, r := range answerRules {
		if r.fits(op, f, code) {
			return r.verdict
		}
	}
	return verdict{kind: payment.KindUnknown} // a status outside 100–599
}

// spelling takes the underscores out of a code, which WeChat writes both ways.
func spelling(code string) string { return strings.ReplaceAll(code, "_", "") }

// fits reports that a rule decides an answer; code is already without underscores.
func (r rule) fits(op string, f *facts, code string) bool {
	if r.op != "" && r.op != op || f.status < r.from || f.status > r.to {
		return false
	}
	if r.signing == signed && f.distrust != nil || r.signing == unsigned && f.distrust == nil {
		return false
	}
	if r.codes == nil {
		return true
	}
	for _, c := range r.codes {
		if c == code {
			return true
		}
	}
	return false
}

// errorOf makes the one error type that leaves the package. Code and message
// are reported only of an answer that WeChat signed, except on 401, where
// WeChat cannot sign and the message says which of our settings is wrong.
func errorOf(op string, k payment.Kind, f *facts, cause error) *payment.GatewayError {
	e := &payment.GatewayError{Op: op, Kind: k, Status: f.status, RequestID: f.requestID, Err: cause,
		NotSent: f.status == 0 && notSent(cause) && !f.doubt, Doubt: f.doubt}
	if f.distrust != nil {
		e.Err = safeCause(f.distrust)
		if errors.Is(f.distrust, payment.ErrProbe) {
			e.Err = errBadSig // the same to a caller of Close: not WeChat's answer
		}
	}
	if f.distrust == nil || f.status == http.StatusUnauthorized {
		e.Code, e.Message = f.code, f.message
	}
	return e
}

// refusal is the error of a request that was never sent, because WeChat would
// refuse it or understand another one.
func refusal(op, format string, args ...any) *payment.GatewayError {
	return &payment.GatewayError{Op: op, Kind: payment.KindRejected, NotSent: true,
		Err: fmt.Errorf("not sent: "+format, args...)}
}

package wechat

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"orderd/payment"
)

const (
	// alarmEvery bounds how often the same alarm is raised: every call may meet its cause.
	alarmEvery = time.Hour
	// maxAlarms bounds the alarms that are remembered for that. Answers come from WeChat
	// Pay alone, by TLS, and whatever else sends callbacks has one between them.
	maxAlarms = 64
	// refusedOrders is how many different orders in a row are refused their prepay before it
	// is taken for everybody's trouble and not for theirs.
	refusedOrders = 5
)

// Where a message comes from, as a label.
const (
	onAnswer   = "answer"
	onCallback = "callback"
)

// Results of looking at a signature, labels too.
const (
	resultOK = "ok"
	// resultUntyped is ok, of a message that does not say how it was signed.
	resultUntyped = "ok_untyped"
	resultProbe   = "probe"
	// resultKey is a key that is not configured, resultDates a certificate outside its
	// dates, resultSkew another clock, resultType another scheme, resultSignature one
	// that does not verify, resultHeaders none at all.
	resultKey, resultDates, resultSkew         = "unknown_key", "key_dates", "skew"
	resultType, resultSignature, resultHeaders = "type", "signature", "headers"
)

// SignatureResults are the labels that Config.Signature is called with.
func SignatureResults() []string {
	return []string{resultOK, resultUntyped, resultProbe, resultKey, resultDates, resultSkew, resultType,
		resultSignature, resultHeaders}
}

// Trust is what is known of the signatures of WeChat Pay's answers since New.
type Trust struct {
	// Verified is when an answer was believed last, under the key Serial, and Skew how far
	// its time-stamp was behind our clock then. Zero: none yet.
	Verified time.Time
	Serial   string
	Skew     time.Duration
	// Trouble says why an answer that came after that is not believed and what to do,
	// "" when none came. Since is when the first of them came.
	Trouble string
	Since   time.Time
}

// watcher looks on while signatures are checked, and raises alarms.
type watcher struct {
	keys   keyRing
	now    func() time.Time
	alarm  func(what, detail string)
	result func(on, result string)

	mu     sync.Mutex
	trust  Trust
	raised map[string]time.Time // when an alarm was raised last
	// unsold are the trades whose prepay was refused since one was taken.
	unsold map[string]bool
}

// answered notes an answer that was believed (err is nil) or not. Whatever is wrong with
// an answer under a signature is our configuration, our clock, or an attack on TLS; none
// at all is what gateways in front of WeChat Pay give, and says nothing of keys.
func (w *watcher) answered(h http.Header, err error) {
	result := w.count(onAnswer, h, err)
	at := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch result {
	case resultOK, resultUntyped:
		w.trust = Trust{Verified: at, Serial: h.Get(headerSerial), Skew: skewOf(h, at)}
	case resultProbe, resultHeaders:
	default:
		if w.trust.Trouble == "" {
			w.trust.Since = at
		}
		w.trust.Trouble = w.advice(err, at, h)
		w.raise("wechat's answers are not believed", result+serialOf(err), w.trust.Trouble, at)
	}
}

// heard notes a callback. Anybody can send one, so that of those with a key that we lack
// one alarm an hour is raised, whatever keys they name.
func (w *watcher) heard(h http.Header, err error) {
	if w.count(onCallback, h, err) != resultKey {
		return
	}
	at := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raise("callbacks are not believed", onCallback, w.advice(err, at, h), at)
}

// read notes whether a callback that WeChat Pay signed could be read. Nobody else can cause
// that it cannot, and what it told is lost: each reason, a fixed text, is an alarm.
func (w *watcher) read(err error) {
	if err == nil {
		return
	}
	detail := "WeChat Pay signed a callback that cannot be used: " + err.Error() + ". Are the addresses of payments " +
		"and refunds swapped? What it told is found by queries, later"
	if errors.Is(err, errSealed) {
		detail = "WeChat Pay signed a callback that wechat APIv3Key does not open: set the merchant's key there " +
			"(merchant platform, API security) and restart. Until then payments are found by queries alone, later"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raise("callbacks cannot be opened", err.Error(), detail, w.now())
}

// failed notes a call about a trade that was no success, and raises an alarm where that is
// not the trade's own trouble.
func (w *watcher) failed(number string, e *payment.GatewayError) {
	switch {
	case e.Kind == payment.KindMisconfigured:
		w.refused(e)
	case e.Op == opPrepay && e.Kind == payment.KindRejected && !slices.Contains(ofOneTrade, spelling(e.Code)):
		w.unpaid(number, e)
	}
}

// ofOneTrade are the refusals of a prepay that say nothing of other trades.
var ofOneTrade = []string{"ORDERPAID", "ORDERCLOSED", "OUTTRADENOUSED"}

// unpaid notes a trade whose prepay was refused. Codes such as RULE_LIMIT and PARAM_ERROR may
// be its own fault or everybody's (a limit of the merchant, a notify_url): many in a row are
// the latter.
func (w *watcher) unpaid(number string, e *payment.GatewayError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.unsold) < refusedOrders {
		w.unsold[number] = true
	}
	if len(w.unsold) == refusedOrders {
		w.raise("wechat refuses every prepay", "", fmt.Sprintf("the last %d orders were all refused, and with them "+
			"all income: mend what WeChat Pay says, %s", refusedOrders, e.Error()), w.now())
	}
}

// sold notes that a prepay was taken.
func (w *watcher) sold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.unsold)
}

// refused raises the alarm of a call that WeChat Pay refuses to this merchant, whatever
// it is about: with WeChat's own words.
func (w *watcher) refused(e *payment.GatewayError) {
	what := "wechat refuses the merchant"
	if e.Status == http.StatusUnauthorized {
		what = "wechat refuses our credentials"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raise(what, e.Op+" "+e.Code, e.Error(), w.now())
}

// raise raises an alarm unless the same was raised within alarmEvery. w.mu is held.
func (w *watcher) raise(what, key, detail string, at time.Time) {
	key = what + key
	if last, ok := w.raised[key]; ok && at.Sub(last) < alarmEvery {
		return
	}
	if len(w.raised) >= maxAlarms {
		clear(w.raised)
	}
	w.raised[key] = at
	w.alarm(what, detail)
}

// count gives the label of a check and counts it.
func (w *watcher) count(on string, h http.Header, err error) (result string) {
	switch {
	case err == nil && untyped(h):
		result = resultUntyped
	case err == nil:
		result = resultOK
	case errors.Is(err, payment.ErrProbe):
		result = resultProbe
	case errors.As(err, new(*payment.UnknownKeyError)):
		result = resultKey
	case errors.Is(err, errKeyDates):
		result = resultDates
	case errors.Is(err, errSkew):
		result = resultSkew
	case errors.Is(err, errSigType):
		result = resultType
	case errors.Is(err, errBadSig):
		result = resultSignature
	default:
		result = resultHeaders
	}
	w.result(on, result)
	return result
}

// advice says what is wrong with a signature, and the next step.
func (w *watcher) advice(err error, at time.Time, h http.Header) string {
	var unknown *payment.UnknownKeyError
	switch {
	case errors.As(err, &unknown):
		var have []string
		for _, k := range w.keys.states("") {
			have = append(have, k.ID)
		}
		return fmt.Sprintf("WeChat Pay signs with key %s and VerifyKeys has %s: download %s from the merchant "+
			"platform (API security), add it to VerifyKeys as %s=FILE, restart; leave the others there",
			unknown.Serial, strings.Join(have, ", "), kindOfKey(unknown.Serial), unknown.Serial)
	case errors.Is(err, errKeyDates):
		return "WeChat Pay signs with certificate " + h.Get(headerSerial) + ", which is outside its dates: is this " +
			"machine's clock right? Then add WeChat Pay's public key or its new certificate to VerifyKeys"
	case errors.Is(err, errSkew):
		return fmt.Sprintf("WeChat Pay's clock and this machine's differ by %s: run NTP here", skewOf(h, at))
	case errors.Is(err, errSigType):
		return "WeChat Pay does not sign with RSA: set RSA keys on the merchant platform, SM2 is not supported"
	}
	return "a signature does not verify under key " + h.Get(headerSerial) + ": the file that VerifyKeys has for it " +
		"is not that key; download it again"
}

// kindOfKey says where an id is to be looked for.
func kindOfKey(id string) string {
	if strings.HasPrefix(id, PublicKeyPrefix) {
		return "the WeChat Pay public key"
	}
	return "the platform certificate"
}

// serialOf is the key that an error names, "" for none.
func serialOf(err error) string {
	var unknown *payment.UnknownKeyError
	if errors.As(err, &unknown) {
		return unknown.Serial
	}
	return ""
}

// skewOf is how far a message's time-stamp is behind at, 0 when it has none.
func skewOf(h http.Header, at time.Time) time.Duration {
	seconds, err := strconv.ParseInt(h.Get(headerTimestamp), 10, 64)
	if err != nil {
		return 0
	}
	return at.Sub(time.Unix(seconds, 0)).Truncate(time.Second)
}

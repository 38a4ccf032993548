package wechat

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
)

const (
	// maxAnswer bounds the body of an answer. A query's answer is about 1 KiB;
	// bills, which are larger, are not fetched through this transport.
	maxAnswer = 1 << 20
	// maxAnswerHeader bounds the headers of an answer: WeChat's are under 2 KiB.
	maxAnswerHeader = 64 << 10
	// connectTimeout and tlsTimeout are parts of a call's time-out: a
	// data centre that does not answer a SYN in 3 s will not do so in 5.
	connectTimeout = 3 * time.Second
	tlsTimeout     = 3 * time.Second
	// keepAlive is the time between TCP probes of a silent connection: half of
	// idleTimeout, so that a dead one is noticed before it is used again.
	keepAlive = 15 * time.Second
	// maxConns bounds the connections to WeChat. At 50 ms per call 256 of them
	// carry 5,000 calls a second, eight times what WeChat allows a merchant (its
	// documents name about 600 prepays a second).
	maxConns = 256
	// idleTimeout closes idle connections before load balancers on the way
	// usually do (60 s): a POST on a connection that has just been closed by
	// the other side is an unknown outcome.
	idleTimeout = 30 * time.Second
	// maxMessage bounds WeChat's message for operators, in characters.
	maxMessage = 120
	// maxWord is the longest word of a message that is shown: what is longer may be a key,
	// an openid or an address that it repeats. WeChat's own words and field names are shorter.
	maxWord = 24
	// maxCode and maxRequestID bound the two tokens that get into logs and errors,
	// in bytes: WeChat's longest codes have some 30, its request ids some 60.
	maxCode      = 64
	maxRequestID = 128
)

// errTooLong: an answer that does not fit is not read to its end, so it cannot be verified.
var errTooLong = errors.New("answer is longer than 1 MiB")

// facts is what the transport learnt about one answer. A call puts a pointer
// to an empty one into its context and reads it when gopay has returned;
// http.Client runs RoundTrip in the caller's goroutine, so there is no race.
type facts struct {
	op        string // which call it answers
	status    int    // 0: no answer came
	requestID string // WeChat's, "" if absent or not a plain token
	serial    string // of the key that signed it, when it is believed
	distrust  error  // why the answer is not believed, nil if WeChat signed it
	cut       bool   // the answer ended before its end
	host      string // scheme and host that it is sent to
	doubt     bool   // an earlier try of the same call may still arrive elsewhere
	body      []byte // of an answer that is believed
	code      string // of an error answer
	message   string // of an error answer
}

// factsKey is the key of a call's facts in its context.
type factsKey struct{}

// readAnswer reads the success that a call of gopay's has just had into a type of ours. ok is
// false without one; then err is gopay's. What gopay made of the answer is left aside: its
// types have every field, so that one which nobody reads could spoil all.
func readAnswer(ctx context.Context, err error, into any) (ok bool, _ error) {
	f, _ := ctx.Value(factsKey{}).(*facts)
	if f == nil || f.status != http.StatusOK || f.body == nil {
		return false, err
	}
	if !decodeOne(f.body, into) {
		return false, badAnswer("it is not the JSON that was asked for")
	}
	return true, nil
}

// verifyingTransport lets an answer through only when WeChat Pay signed it.
// Error answers count as much as success: a forged "order does not exist"
// would give stock back for an order that can still be paid.
type verifyingTransport struct {
	next  http.RoundTripper
	keys  keyRing
	now   func() time.Time
	watch *watcher
}

// RoundTrip sends the request once, reads the whole answer, verifies it, and
// returns an error instead of the answer if it is not WeChat's. What was
// learnt is in the facts of the request's context either way.
func (t *verifyingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	learnt, ok := req.Context().Value(factsKey{}).(*facts)
	if !ok {
		learnt = new(facts) // verified all the same, only nobody asks
	}
	req = req.Clone(req.Context()) // a RoundTripper leaves its argument alone
	if trace := payment.TraceOf(req.Context()).Header(); trace != "" {
		req.Header.Set("traceparent", trace)
	}
	if u, err := url.Parse(learnt.host); err == nil && learnt.host != "" {
		req.URL.Scheme, req.URL.Host, req.Host = u.Scheme, u.Host, u.Host
	}
	res, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	unread(learnt.op)
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if closeErr := res.Body.Close(); err == nil {
		err = closeErr
	}
	learnt.cut = err != nil
	learnt.status = res.StatusCode
	learnt.requestID = plainToken(res.Header.Get("Request-ID"), maxRequestID)
	if err == nil && len(body) > maxAnswer {
		err = errTooLong
	}
	if err == nil {
		err = t.keys.verify(res.Header, body, t.now())
		t.watch.answered(res.Header, err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		learnt.code, learnt.message = errorWords(body)
	}
	if err != nil {
		learnt.distrust = err
		return nil, err
	}
	learnt.body = body
	learnt.serial = wholeID(res.Header.Get(headerSerial))
	res.Body = io.NopCloser(bytes.NewReader(body))
	res.ContentLength = int64(len(body))
	return res, nil
}

// unread marks the moment at which WeChat Pay has acted and we know nothing of it.
func unread(op string) {
	switch op {
	case opPrepay:
		failpoint.Hit("prepay.unread")
	case opClose:
		failpoint.Hit("close.unread")
	case opRefund:
		failpoint.Hit("refund.unread")
	}
}

// errorWords reads code and message of an error body. Anything else in it
// (detail may hold what we sent) is dropped here and reaches no log.
func errorWords(body []byte) (code, message string) {
	var e struct {
		Code    string          `json:"code"`
		Message json.RawMessage `json:"message"` // explains and never decides
	}
	if json.Unmarshal(body, &e) != nil {
		return "", ""
	}
	if json.Unmarshal(e.Message, &message) != nil {
		message = "" // no text
	}
	return plainToken(e.Code, maxCode), cleaned(message)
}

// plainToken returns s if it is a short word that may stand in a log, else "".
func plainToken(s string, limit int) string {
	if len(s) > limit || !payment.MadeOf(s, payment.Word+".") {
		return ""
	}
	return s
}

// cleaned makes a message of WeChat's fit for logs and terminals: one line of at most
// maxMessage characters that are seen, without what it may repeat of our request.
func cleaned(message string) string {
	var out []rune
	word := 0 // where the present word begins: ASCII without a space; Chinese has neither
	end := func() {
		if len(out)-word > maxWord {
			out = append(out[:word], '…')
		}
	}
	for _, r := range message {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar { // control, bidi, joiners, broken
			r = ' '
		}
		if r > unicode.MaxASCII || r == ' ' {
			end()
			out = append(out, r)
			word = len(out)
			continue
		}
		out = append(out, r)
	}
	end()
	return strings.TrimSpace(string(out[:min(len(out), maxMessage)]))
}

// newTransport is the connection pool below the verification.
//
// It speaks HTTP/1.1 only: one stuck connection then delays one call, not all
// of them. It asks for no compression, because the signature is over the bytes
// as sent. It uses no proxy: the environment is read in cmd only.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: keepAlive}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    tlsTimeout,
		MaxIdleConns:           maxConns,
		MaxIdleConnsPerHost:    maxConns,
		MaxConnsPerHost:        maxConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
	}
}

// Causes of a missing answer, with fixed texts: the originals name URLs,
// addresses or (from gopay) whole bodies.
var (
	errNoConnection = errors.New("no connection to WeChat Pay")
	errCut          = errors.New("connection ended before the answer was complete")
	errTLS          = errors.New("the server's TLS certificate is not WeChat Pay's")
	errTimeout      = errors.New("time-out")
	errNoAnswer     = errors.New("no usable answer")
)

// badAnswer is the cause when a signed success does not hold what it must. Its
// text is ours and fixed per place, never the answer's.
type badAnswer string

// Error says what is wrong with the answer.
func (b badAnswer) Error() string { return "answer is not usable: " + string(b) }

// otherAnswer is the cause when a signed success is about something else than was asked.
type otherAnswer string

// Error says what it is about.
func (o otherAnswer) Error() string { return "answer is not usable: it is about another " + string(o) }

// Is makes it a payment.ErrOtherAnswer.
func (o otherAnswer) Is(target error) bool { return target == payment.ErrOtherAnswer }

// safeCause replaces an error of the network or of gopay by one whose text is
// safe to log. Errors that callers test for, and our own, are kept.
func safeCause(err error) error {
	for _, known := range []error{
		context.DeadlineExceeded, context.Canceled, errTooLong,
		errHeaders, errSigType, errSkew, errKeyDates, errBadSig,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	if unknown := (*payment.UnknownKeyError)(nil); errors.As(err, &unknown) {
		return unknown
	}
	var (
		bad   badAnswer
		about otherAnswer
		dial  *net.OpError
		cert  *tls.CertificateVerificationError
		wait  net.Error
	)
	switch {
	case errors.As(err, &bad):
		return bad
	case errors.As(err, &about):
		return about
	case errors.As(err, &cert):
		return errTLS
	case errors.As(err, &dial) && dial.Op == "dial":
		return errNoConnection
	case errors.As(err, &wait) && wait.Timeout():
		return errTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &dial):
		return errCut
	}
	return errNoAnswer
}

package wechatsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// maxBody bounds a request, in bytes: a prepay with its longest fields and goods
	// list stays far below it. It also bounds the bodies of /control.
	maxBody = 64 << 10
	// cutBytes is what a cut connection has said. Not nothing: Go's client
	// silently repeats a GET whose reused connection ends without a byte, and
	// the fault would not be seen.
	cutBytes = "HTTP/1.1 "
)

// Tails of Request-ID that support reads, from the guide to finding errors in
// WeChat's repository wechatpay-skills.
const (
	tailOK           = 0
	tailNotFound     = 268512771 // no such order
	tailPaid         = 268449538 // paid already
	tailClosed       = 268447914 // closed, or its time to pay is over
	tailSignature    = 268443699 // the merchant's signature is wrong
	tailReentry      = 268498688 // a repeat with other parameters
	tailParam        = 268435461 // a parameter is not allowed
	tailUnknownField = 270924358 // a field that the documents do not have
	tailNoOpenID     = 268501013 // JSAPI without the buyer's openid
	tailFrequency    = 268447840 // too often
	tailNotSpecified = 268435456 // ours: the documents name no tail for it
)

// Handler serves WeChat's API under /v3/, that of mini programs under /cgi-bin/ and /wxa/,
// and the control surface under /control/, as the main entry; SecondHandler serves the same trades as the other one.
func (s *Sim) Handler() http.Handler { return s.entry(0, s.routes()) }

// SecondHandler is WeChat's other entry (api2.mch.weixin.qq.com).
func (s *Sim) SecondHandler() http.Handler { return s.entry(1, s.routes()) }

// routes are the addresses of both entries.
func (s *Sim) routes() http.Handler {
	mux := http.NewServeMux()
	routes := map[string]http.Handler{}
	for path, kind := range map[string]string{"native": "NATIVE", "jsapi": "JSAPI", "app": "APP", "h5": "MWEB"} {
		routes["POST /v3/pay/transactions/"+path] = s.api("prepay", s.prepay(kind))
	}
	routes["GET /v3/pay/transactions/out-trade-no/{no}"] = s.api("query", s.queryByNumber)
	routes["GET /v3/pay/transactions/id/{id}"] = s.api("query", s.queryByTransaction)
	routes["POST /v3/pay/transactions/out-trade-no/{no}/close"] = s.api("close", s.closeTrade)
	routes["GET /v3/certificates"] = s.api("certificates", s.certificates)
	routes["POST /v3/security/echo"] = s.api("echo", s.echo)
	routes["POST /v3/refund/domestic/refunds"] = s.api("refund", s.askRefund)
	routes["POST /v3/refund/domestic/refunds/{refund}/apply-abnormal-refund"] = s.api("refund", s.applyAbnormal)
	routes["GET /v3/refund/domestic/refunds/{refund}"] = s.api("refund_query", s.queryRefund)
	routes["GET /v3/bill/tradebill"] = s.api("bill", s.tradeBill)
	routes["GET /v3/bill/fundflowbill"] = s.api("bill", s.fundFlowBill)
	routes["GET /v3/billdownload/file"] = s.api(endpointFile, s.billFile)
	routes["GET /v3/bill/downloadurl"] = s.api(endpointFile, s.billFile)
	for pattern, handler := range routes {
		_, path, _ := strings.Cut(pattern, " ")
		mux.Handle(pattern, handler)
		mux.Handle(path, s.nothing(http.StatusMethodNotAllowed))
	}
	mux.Handle("/v3/", s.nothing(http.StatusNotFound))
	mux.Handle("POST /cgi-bin/stable_token", s.miniProgram(s.stableToken))
	mux.Handle("POST /wxa/sec/order/upload_shipping_info", s.miniProgram(s.uploadShipping))
	mux.Handle("POST /wxa/sec/order/get_order", s.miniProgram(s.shippingStatus))
	mux.Handle("/control/", s.control())
	return mux
}

// nothing answers what no API is at: an empty body that nobody signs, without a
// Request-ID. Probes of the real one, of 2026-09-11, found 404 and 405 so.
func (s *Sim) nothing(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.logRequest(&exchange{r: r, endpoint: "other"}, answer{status: status}, r.Method+" "+r.URL.Path)
		w.WriteHeader(status)
	})
}

// exchange is one request on its way through. It belongs to the goroutine of the
// request.
type exchange struct {
	r          *http.Request
	body       []byte // raw, as signed
	endpoint   string
	outTradeNo string // as the request claims it; empty where it names none
	refundNo   string // the same for a refund
	plan       plan
	requestID  string // set with the answer
}

// answer is what goes back, before it is signed. What it says has happened, or not,
// already: the answer alone can still be lost.
type answer struct {
	status int
	code   string // WeChat's error code, "" on success
	tail   int    // of Request-ID
	body   []byte
	// html: made by a gateway in front, which knows neither JSON nor the key; of a
	// file, a web page in its place.
	html bool
	// unsigned: WeChat signs its answers only when the merchant's own signature was
	// right, and a gateway in front of it never does.
	unsigned bool
	file     func(io.Writer) // instead of body: a bill, which nobody signs
}

// api is the way of every request: read, decide what goes wrong, authenticate, handle,
// log, sign, answer. It is logged before it is answered: a test that has its answer
// finds it in the log.
func (s *Sim) api(endpoint string, handle func(*exchange) answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		x := &exchange{r: r, body: body, endpoint: endpoint}
		if err != nil {
			s.write(w, x, readRefusal(err))
			return
		}
		s.claimNumbers(x)
		x.plan = s.takeFaults(endpoint, x.outTradeNo, x.refundNo)
		s.addNastiness(x)
		s.pause(x.plan.delay) // not ended by the client: a request that was sent is handled
		if x.plan.cutBefore {
			s.logRequest(x, answer{}, "cut before handling")
			cut(w)
			return
		}
		a := s.decide(x, handle)
		x.requestID = newRequestID(a.tail)
		switch {
		case x.plan.hold > 0:
			s.logRequest(x, a, "handled, not answered")
			s.hold(r, x.plan.hold)
			cut(w)
		case x.plan.cutAfter:
			s.logRequest(x, a, "handled, cut before the answer")
			cut(w)
		default:
			s.logRequest(x, a, "")
			s.write(w, x, a)
		}
	})
}

// decide authenticates and handles. What it does to trades has happened whether or not
// the answer arrives. A status fault comes after authentication and before handling: a
// forged request meets the 401 first, and a call that is answered with the fault has
// not happened.
func (s *Sim) decide(x *exchange, handle func(*exchange) answer) answer {
	if refusal := checkHeaders(x); refusal != nil {
		return *refusal
	}
	if refusal := s.authenticate(x); refusal != nil {
		return *refusal
	}
	if x.plan.paidFirst || x.plan.paying > 0 {
		if err := s.Pay(x.outTradeNo, PayOptions{Notify: true, Takes: x.plan.paying}); err != nil {
			s.o.Log.Debug("the buyer could not pay", "out_trade_no", x.outTradeNo, "error", err)
		}
	}
	if x.plan.status != 0 {
		return statusFault(x.plan.status, x.plan.code)
	}
	a := handle(x)
	if a.code != "" && s.roll("spelling", x.outTradeNo, s.nasty.OtherSpelling) {
		if other := otherSpelling(a.code); other != a.code {
			a.body, a.code = respell(a.body, other), other
		}
	}
	return a
}

// checkHeaders refuses a request without Accept or User-Agent, before it looks at the
// signature and so unsigned, as probes of 2026-09-11 were. A bill's file is downloaded
// without them.
func checkHeaders(x *exchange) *answer {
	if x.endpoint == endpointFile || x.r.Header.Get("Accept") != "" && x.r.Header.Get("User-Agent") != "" {
		return nil
	}
	a := refuse(http.StatusBadRequest, "PARAM_ERROR", "Http头缺少Accept或User-Agent", tailParam)
	a.unsigned = true
	return &a
}

// addNastiness adds what the simulator does on its own to the armed faults.
func (s *Sim) addNastiness(x *exchange) {
	p := &x.plan
	if s.roll("slow answer", x.outTradeNo, s.nasty.SlowAnswer) {
		p.names = append(p.names, "slow_answer")
		p.delay += time.Duration(s.fraction("how slow", x.outTradeNo) * float64(s.nasty.MaxAnswerDelay))
	}
	if s.roll("lost answer", x.outTradeNo, s.nasty.LostAnswer) {
		p.names = append(p.names, "lost_answer")
		p.cutAfter = true
	}
}

// claimNumbers notes the trade and the refund that a request names, before
// anything is checked: what faults are matched by.
func (s *Sim) claimNumbers(x *exchange) {
	if no := x.r.PathValue("no"); no != "" {
		x.outTradeNo = no
		return
	}
	transaction := x.r.PathValue("id")
	if x.refundNo = x.r.PathValue("refund"); x.refundNo != "" {
		if r, known := s.Refund(x.refundNo); known {
			x.outTradeNo = r.OutTradeNo
		}
		return
	}
	if transaction == "" {
		var body struct {
			OutTradeNo    string `json:"out_trade_no"`
			TransactionID string `json:"transaction_id"`
			OutRefundNo   string `json:"out_refund_no"`
		}
		_ = json.Unmarshal(x.body, &body) // a broken body names nothing; it is refused later
		x.outTradeNo, x.refundNo, transaction = body.OutTradeNo, body.OutRefundNo, body.TransactionID
	}
	if t := s.findByTransaction(transaction); t != nil {
		x.outTradeNo = t.v.OutTradeNo // set once, before the trade is in the map
	}
}

// logRequest logs a request and what was answered, or why nothing was.
func (s *Sim) logRequest(x *exchange, a answer, detail string) {
	s.log.add(Entry{
		Kind: KindRequest, Endpoint: x.endpoint, OutTradeNo: x.outTradeNo, OutRefundNo: x.refundNo, Status: a.status,
		Code: a.code, RequestID: x.requestID, Faults: x.plan.names, Detail: detail,
	})
}

// write signs and sends. A file (a bill) goes without a signature, as WeChat's do: its
// hash came in a signed answer.
func (s *Sim) write(w http.ResponseWriter, x *exchange, a answer) {
	h := w.Header()
	if x.requestID == "" {
		x.requestID = newRequestID(a.tail)
	}
	// Probes of 2026-09-11: a 401 of the payments' addresses has none.
	if a.status != http.StatusUnauthorized || !strings.HasPrefix(x.r.URL.Path, "/v3/pay/transactions/") {
		h.Set("Request-ID", x.requestID)
	}
	if a.file != nil {
		h.Set("Content-Type", "application/octet-stream")
		if a.html {
			h.Set("Content-Type", "text/html")
		}
		w.WriteHeader(a.status)
		a.file(w)
		return
	}
	switch {
	case a.html:
		h.Set("Content-Type", "text/html")
	case len(a.body) > 0:
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	if !a.unsigned {
		s.seal(h, a.body, s.answerSigner(x.r.Header.Get("Wechatpay-Serial"), x.outTradeNo), x.plan.seal)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client may be gone; the effect stays
}

// hold waits until the client gives up, the time is over or the simulator closes. Until
// then the client gets nothing, not even the end of the connection.
func (s *Sim) hold(r *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	case <-s.ctx.Done():
	}
}

// cut ends the connection in the middle of an answer. A client cannot tell whether its
// request was handled: that is what both cut faults are for.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2, or a recorder in somebody's test
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(conn, cutBytes)
	_ = conn.Close()
}

// Where a parameter that is wrong stood, in WeChat's words.
const (
	inBody  = "body"
	inURL   = "url"
	inQuery = "query"
)

// detail of an error body says which field was wrong, as WeChat's rules of the API have it
// (doc/v3/merchant/4012081709): a JSON pointer into the body, or the name of a parameter of
// the address. Clients should read code alone.
type detail struct {
	Field    string `json:"field,omitempty"`
	Value    any    `json:"value,omitempty"`
	Issue    string `json:"issue,omitempty"`
	Location string `json:"location,omitempty"`
}

// errorBody is WeChat's form of an error, from its rules of the API.
type errorBody struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Detail  *detail `json:"detail,omitempty"`
}

// refuse is an error answer; message is WeChat's, in Chinese, as merchants get it.
func refuse(status int, code, message string, tail int) answer {
	return answer{status: status, code: code, tail: tail, body: mustJSON(errorBody{Code: code, Message: message})}
}

// wrongParam is 400 PARAM_ERROR with the field of the body that is wrong.
func wrongParam(field string, value any, issue string, tail int) answer {
	return paramError("参数错误", detail{Field: field, Value: value, Issue: issue, Location: inBody}, tail)
}

// wrongIn is the same of a parameter of the address.
func wrongIn(location, name, value, issue string) answer {
	return paramError("参数错误", detail{Field: name, Value: value, Issue: issue, Location: location}, tailParam)
}

// wrongLength is the same of a text with too many bytes, as it was captured: the sentence is
// the message, and detail has the number of bytes.
func wrongLength(bytes int, sentence string) answer {
	return paramError(sentence, detail{Value: bytes, Location: inBody}, tailParam)
}

// paramError is 400 PARAM_ERROR.
func paramError(message string, d detail, tail int) answer {
	body := errorBody{Code: "PARAM_ERROR", Message: message, Detail: &d}
	return answer{status: http.StatusBadRequest, code: body.Code, tail: tail, body: mustJSON(body)}
}

// ok is 200 with a body. What is signed are the bytes that mustJSON makes here.
func ok(v any) answer { return answer{status: http.StatusOK, body: mustJSON(v)} }

// readRefusal answers a request whose body could not be read.
func readRefusal(err error) answer {
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return wrongParam("", nil, "请求体过大", tailParam)
	}
	return wrongParam("", nil, "请求体读取失败", tailParam)
}

// statusFault makes the answer of a status fault. 502 and 503 come, as in life,
// from a gateway that knows neither JSON nor the key.
func statusFault(status int, code string) answer {
	if status == http.StatusBadGateway || status == http.StatusServiceUnavailable {
		page := fmt.Sprintf("<html><head><title>%d %s</title></head><body><center>nginx</center></body></html>\n",
			status, http.StatusText(status))
		return answer{status: status, code: code, tail: tailNotSpecified, body: []byte(page), html: true,
			unsigned: true}
	}
	if code == CodeNone {
		return answer{status: status, tail: tailNotSpecified, body: []byte("{}")}
	}
	if code == "" {
		code = usualCode(status)
	}
	a := refuse(status, code, "simulated fault", tailNotSpecified)
	a.unsigned = status == http.StatusUnauthorized
	return a
}

// usualCode is the code that goes with a status when a fault names none.
func usualCode(status int) string {
	switch {
	case status == http.StatusAccepted:
		return "USERPAYING"
	case status == http.StatusUnauthorized:
		return "SIGN_ERROR"
	case status == http.StatusForbidden:
		return "NO_AUTH"
	case status == http.StatusNotFound:
		return "ORDER_NOT_EXIST"
	case status == http.StatusTooManyRequests:
		return "FREQUENCY_LIMITED"
	case status >= http.StatusInternalServerError:
		return "SYSTEM_ERROR"
	}
	return "INVALID_REQUEST"
}

// respell replaces the code of an error body, keeping message and detail: texts do not
// change with the spelling.
func respell(body []byte, code string) []byte {
	var e errorBody
	if err := json.Unmarshal(body, &e); err != nil {
		panic("our own error body: " + err.Error())
	}
	e.Code = code
	return mustJSON(e)
}

// newRequestID looks like WeChat's: what follows the last dash says what happened.
func newRequestID(tail int) string {
	return fmt.Sprintf("08%s-%d", randomFrom("0123456789ABCDEF", 30), tail)
}

// mustJSON encodes our own types, which cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("encode answer: " + err.Error())
	}
	return b
}

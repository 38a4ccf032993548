package wechatsim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// deliveryTimeout is WeChat's, from its document of the payment notification: a
	// merchant who takes longer has not accepted, whatever he answers then.
	deliveryTimeout = 5 * time.Second
	// maxReply bounds what is read of a merchant's answer; only its status counts.
	maxReply = 64 << 10
	// reorderPatience ends the wait for another callback to go first, when none comes:
	// divided by the speed.
	reorderPatience = 2 * time.Second
)

// ladder is the time between deliveries until one is accepted: fifteen repeats within
// 24 hours and 4 minutes, from WeChat's document of the payment notification. The first
// repeat comes 15 seconds after the first delivery, each later one so long after the
// one before it, not after the first.
func ladder() []time.Duration {
	return []time.Duration{
		15 * time.Second, 15 * time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute,
		20 * time.Minute, 30 * time.Minute, 30 * time.Minute, 30 * time.Minute, time.Hour,
		3 * time.Hour, 3 * time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour,
	}
}

// Modes of a callback sent by Notify.
const (
	ModeNormal       = "normal"
	ModeSignTest     = "signtest"       // WeChat's probe: signature begins WECHATPAY/SIGNTEST/
	ModeOldTimestamp = "old_timestamp"  // right signature, an hour old
	ModeWrongAmount  = "wrong_amount"   // signed by WeChat, one fen more
	ModeWrongMchID   = "wrong_mchid"    // signed by WeChat, of another merchant
	ModeWrongAppID   = "wrong_appid"    // signed by WeChat, of another app
	ModeForged       = "forged"         // says a known serial, signed by a stranger
	ModeUnknown      = "unknown_serial" // signed with a key that nobody has heard of
	ModeNoSignature  = "no_signature"   // none of the signature headers
	ModeTruncated    = "truncated"      // half a body, signed rightly
)

// modes lists all of them.
func modes() []string {
	return []string{ModeNormal, ModeSignTest, ModeOldTimestamp, ModeWrongAmount, ModeWrongMchID, ModeWrongAppID,
		ModeForged, ModeUnknown, ModeNoSignature, ModeTruncated}
}

// NotifyOptions say what callback to send.
type NotifyOptions struct {
	Count int    // at the same time; 0 means 1, at most maxCopies
	Mode  string // empty means normal
}

// Delivery is the outcome of one callback on the wire: a status, or why there is none.
type Delivery struct {
	Status int    `json:"status"` // the merchant's, 0 without an answer
	Error  string `json:"error,omitempty"`
}

// Accepted reports that WeChat would not repeat it: by its document of the payment
// notification 200 and 204 are success, whatever the body says.
func (d Delivery) Accepted() bool {
	return d.Status == http.StatusOK || d.Status == http.StatusNoContent
}

// event is the word of the log for it.
func (d Delivery) event() string {
	switch {
	case d.Accepted():
		return "accepted"
	case d.Status == 0:
		return "unanswered"
	}
	return "refused"
}

// Notify sends callbacks of a trade now and waits for the merchant's answers,
// without repeats, faults or nastiness. A normal callback needs a paid trade
// (ErrNotPaid); the lying modes do not. A refusal by the merchant is no error;
// a merchant who cannot be reached is.
func (s *Sim) Notify(outTradeNo string, n NotifyOptions) error {
	deliveries, err := s.notifyNow(outTradeNo, n)
	if err != nil {
		return err
	}
	for _, d := range deliveries {
		if d.Error != "" {
			return fmt.Errorf("notify %s: %s", outTradeNo, d.Error)
		}
	}
	return nil
}

// notifyNow is Notify with the outcome of each delivery.
func (s *Sim) notifyNow(outTradeNo string, n NotifyOptions) ([]Delivery, error) {
	t := s.find(outTradeNo)
	if t == nil {
		return nil, fmt.Errorf("notify %s: %w", outTradeNo, ErrUnknownTrade)
	}
	v := t.snapshot(s)
	if v.NotifyURL == "" {
		return nil, fmt.Errorf("notify %s: it was never prepaid, so there is no notify_url: %w", outTradeNo,
			ErrUnknownTrade)
	}
	if (n.Mode == ModeNormal || n.Mode == "") && v.TransactionID == "" {
		return nil, fmt.Errorf("notify %s: %w", outTradeNo, ErrNotPaid)
	}
	return s.sendNow(callback{t: t}, outTradeNo, n)
}

// sendNow sends copies of a callback at the same time, without repeats. They have one
// id and signatures of their own; number is for the texts of errors.
func (s *Sim) sendNow(c callback, number string, n NotifyOptions) ([]Delivery, error) {
	if n.Mode == "" {
		n.Mode = ModeNormal
	}
	if !slices.Contains(modes(), n.Mode) {
		return nil, fmt.Errorf("notify %s: unknown mode %q, one of %s is needed", number, n.Mode,
			strings.Join(modes(), ", "))
	}
	if n.Count < 0 || n.Count > maxCopies {
		return nil, fmt.Errorf("notify %s: count %d: 0 to %d is needed", number, n.Count, maxCopies)
	}
	c.id, c.mode = newNotifyID(), n.Mode
	deliveries := make([]Delivery, max(n.Count, 1))
	var wg sync.WaitGroup
	for i := range deliveries {
		wg.Go(func() { deliveries[i] = s.post(c, i+1, nil) })
	}
	wg.Wait()
	return deliveries, nil
}

// callback is one message on its way, with what stays the same over its repeats.
type callback struct {
	t    *trade
	r    *refund // nil for a payment's
	id   string
	mode string
	seal sealMode // how to sign when mode is normal
}

// number is the refund's, "" for a payment's callback.
func (c callback) number() string {
	if c.r == nil {
		return ""
	}
	return c.r.v.OutRefundNo // set once
}

// announce starts callbacks, each on its own way, and returns at once. delay is real
// time before the first attempt. What can no longer be started is logged as lost: an
// oracle must not wait for it.
func (s *Sim) announce(c callback, count int, delay time.Duration) {
	no := c.t.v.OutTradeNo // set once
	if s.roll("duplicate", no, s.nasty.DuplicateNotify) {
		count++
	}
	c.id, c.mode = newNotifyID(), ModeNormal
	for range count {
		wait := delay
		if s.roll("delay", no, s.nasty.DelayNotify) {
			wait += s.scaled(time.Duration(s.fraction("how late", no) * float64(s.nasty.MaxNotifyDelay)))
		}
		reorder := s.roll("reorder", no, s.nasty.ReorderNotify)
		probe := s.roll("signtest", no, s.nasty.SignTest)
		started := s.spawn(func() {
			if !s.pause(wait) {
				return
			}
			if reorder {
				s.letOneGoFirst()
			}
			s.deliver(c, probe)
		})
		if !started {
			s.logCallback(no, Entry{Event: "lost",
				Detail: "the simulator is closing or has too many callbacks waiting"})
		}
	}
}

// deliver sends a callback until it is accepted, with WeChat's ladder between the
// attempts. A probe takes the place of the first attempt; what the merchant answers to
// it does not count. A dropped callback is not repeated: WeChat does not promise that
// one arrives, and the merchant has to ask.
func (s *Sim) deliver(c callback, probe bool) {
	no := c.t.v.OutTradeNo
	steps := ladder()
	for attempt := 1; attempt <= len(steps)+1; attempt++ {
		if attempt > 1 && !s.pause(s.scaled(steps[attempt-2])) {
			return
		}
		if attempt > 1 && s.roll("new id", no, s.nasty.NewNotifyID) {
			c.id = newNotifyID()
		}
		p := s.takeFaults("notify", no, c.number())
		if !s.pause(p.delay) {
			return
		}
		switch {
		case p.drop:
			s.logCallback(no, Entry{Event: "lost", Attempt: attempt, Faults: p.names})
			return
		case p.cutBefore:
			s.logCallback(no, Entry{Event: "cut_before", Attempt: attempt, Faults: p.names})
			continue
		}
		c.seal = p.seal
		isProbe := probe && attempt == 1
		if isProbe {
			c.seal = sealProbe
			p.names = append(p.names, "signtest")
		}
		d := s.post(c, attempt, p.names)
		if d.Accepted() && !p.cutAfter && p.status == 0 && !isProbe {
			return
		}
	}
	s.logCallback(no, Entry{Event: "given_up", Attempt: len(steps) + 1})
}

// post puts one callback on the wire, newly encrypted, signed and dated: a repeat with
// the first one's time-stamp would be refused for its age. It waits for one of
// maxInFlight slots.
func (s *Sim) post(c callback, attempt int, names []string) Delivery {
	if !s.takeSlot() {
		return Delivery{Error: "the simulator is closed"}
	}
	defer func() { <-s.slots }()
	v := c.t.snapshot(s)
	url, entry := v.NotifyURL, Entry{OutRefundNo: c.number(), State: v.State, TransactionID: v.TransactionID,
		Amount: v.Total}
	if c.r != nil {
		r, _ := s.Refund(c.number())
		url, entry.State, entry.Amount = r.NotifyURL, r.State, r.Amount
	}
	body, seal := s.compose(c, v)
	d := s.send(url, v.OutTradeNo, body, seal)
	if c.r == nil {
		c.t.mu.Lock()
		c.t.v.CallbacksSent++
		if d.Accepted() {
			c.t.v.CallbacksAccepted++
		}
		c.t.mu.Unlock()
	}
	detail := c.mode
	if d.Error != "" {
		detail += ": " + d.Error
	}
	entry.Event, entry.Status, entry.Attempt, entry.Faults, entry.Detail = d.event(), d.Status, attempt, names, detail
	s.logCallback(v.OutTradeNo, entry)
	s.goneOut()
	return d
}

// takeSlot waits for one of maxInFlight slots; false means that the simulator was closed.
func (s *Sim) takeSlot() bool {
	select {
	case s.slots <- struct{}{}:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// send makes one request of a callback, as WeChat makes it: with the headers of a
// signed answer, no login and no cookie.
func (s *Sim) send(url, outTradeNo string, body []byte, seal sealMode) Delivery {
	ctx, cancel := context.WithTimeout(s.ctx, deliveryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return Delivery{Error: err.Error()}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Mozilla/4.0")
	req.Header.Set("Request-ID", newRequestID(tailOK))
	s.seal(req.Header, body, s.usualSigner(outTradeNo), seal)
	if s.o.NoSignatureType {
		req.Header.Del("Wechatpay-Signature-Type")
	}
	res, err := s.o.NotifyClient.Do(req)
	if err != nil {
		return Delivery{Error: err.Error()}
	}
	defer func() { _ = res.Body.Close() }()
	// Read on so that the connection can be used again. An answer that breaks
	// after its status line has still said its status.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxReply))
	return Delivery{Status: res.StatusCode}
}

// notifyBody is the envelope of a callback, in WeChat's names. Only resource is
// encrypted; the signature covers all of it.
type notifyBody struct {
	ID           string `json:"id"`
	CreateTime   string `json:"create_time"`
	EventType    string `json:"event_type"`
	ResourceType string `json:"resource_type"`
	Summary      string `json:"summary"`
	Resource     sealed `json:"resource"`
}

// compose builds the body of a callback and says how to sign it. The lies about amount,
// merchant and app are inside the encrypted resource and rightly signed: a merchant
// finds them only by comparing with his own order.
func (s *Sim) compose(c callback, v Trade) ([]byte, sealMode) {
	if v.TransactionID == "" { // a lie about an unpaid trade
		v.TransactionID, v.SuccessTime = "4200"+randomDigits(24), s.o.Now()
		v.PayerTotal = v.Total
	}
	v.State = StateSuccess // a payment callback always tells of the payment
	seal := c.seal
	switch c.mode {
	case ModeSignTest:
		seal = sealProbe
	case ModeOldTimestamp:
		seal = sealOld
	case ModeWrongAmount:
		v.Total++
		v.PayerTotal++
	case ModeWrongMchID:
		v.MchID = "1999999999"
	case ModeWrongAppID:
		v.AppID = "wx00000000000000ff"
	case ModeForged:
		seal = sealForged
	case ModeUnknown:
		seal = sealUnknown
	case ModeNoSignature:
		seal = sealNone
	}
	plain, kind, event, summary := mustJSON(describe(v)), "transaction", "TRANSACTION.SUCCESS", "支付成功"
	if c.r != nil {
		r, _ := s.Refund(c.number())
		kind = "refund"
		plain, event, summary = s.composeRefund(c.mode, r)
	}
	associated := kind
	if s.o.NoAssociatedData {
		associated = ""
	}
	resource := s.encrypt(plain, associated)
	resource.OriginalType = kind
	body := mustJSON(notifyBody{
		ID: c.id, CreateTime: wechatTime(s.o.Now()), EventType: event,
		ResourceType: "encrypt-resource", Summary: summary, Resource: resource,
	})
	if c.mode == ModeTruncated {
		body = body[:len(body)/2]
	}
	return body, seal
}

// logCallback logs a delivery, or its loss.
func (s *Sim) logCallback(outTradeNo string, e Entry) {
	e.Kind, e.Endpoint, e.OutTradeNo = KindCallback, "notify", outTradeNo
	s.log.add(e)
}

// letOneGoFirst waits until some other callback has gone out.
func (s *Sim) letOneGoFirst() {
	s.lifeMu.Lock()
	passed := s.passed
	s.lifeMu.Unlock()
	timer := time.NewTimer(s.scaled(reorderPatience))
	defer timer.Stop()
	select {
	case <-passed:
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// goneOut lets those go on that waited for a callback to go first.
func (s *Sim) goneOut() {
	s.lifeMu.Lock()
	close(s.passed)
	s.passed = make(chan struct{})
	s.lifeMu.Unlock()
}

// newNotifyID looks like WeChat's: a UUID, 36 characters.
func newNotifyID() string {
	h := func(n int) string { return randomFrom("0123456789abcdef", n) }
	return h(8) + "-" + h(4) + "-5" + h(3) + "-8" + h(3) + "-" + h(12)
}

// newNotifyClient follows no redirect: to WeChat that is a failed delivery. It keeps as
// many connections to one merchant as there are callbacks at once.
func newNotifyClient() *http.Client {
	return &http.Client{
		Timeout:       deliveryTimeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: maxInFlight, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

package wechatsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// control serves /control: JSON in, JSON out, an error as {"error": "…"}. Callers from
// another machine are refused unless Options.ControlAnywhere, and pages of other sites
// always (fromAPage): whoever may call it may make any trade paid. Nothing here is WeChat's;
// no merchant's code may use it.
func (s *Sim) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /control/trades/{no}/pay", s.controlPay)
	mux.HandleFunc("GET /control/trades/{no}", s.controlTrade)
	mux.HandleFunc("POST /control/trades/{no}/notify", s.controlNotify)
	mux.HandleFunc("GET /control/trades", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"trades": s.Trades()})
	})
	mux.HandleFunc("GET /control/refunds", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"refunds": s.Refunds()})
	})
	mux.HandleFunc("GET /control/refunds/{no}", s.controlRefund)
	mux.HandleFunc("POST /control/refunds/{no}/outcome", s.controlOutcome)
	mux.HandleFunc("POST /control/refunds/{no}/notify", s.controlNotifyRefund)
	mux.HandleFunc("POST /control/balance", s.controlBalance)
	mux.HandleFunc("POST /control/faults", s.controlAddFault)
	mux.HandleFunc("GET /control/faults", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"faults": s.Faults()})
	})
	mux.HandleFunc("DELETE /control/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /control/entries/{n}", s.controlEntry)
	mux.HandleFunc("GET /control/log", s.controlLog)
	mux.HandleFunc("POST /control/clock", s.controlClock)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !s.o.ControlAnywhere && !fromLoopback(r.RemoteAddr):
			complain(w, http.StatusForbidden, errors.New("the control surface answers this machine only"))
		case !s.o.ControlAnywhere && !namesLoopback(r.Host):
			complain(w, http.StatusForbidden, fmt.Errorf("the control surface is called 127.0.0.1 or localhost, not %q",
				r.Host))
		case fromAPage(r.Header):
			complain(w, http.StatusForbidden, errors.New("the control surface answers no page of a browser"))
		case r.ContentLength != 0 && !saysJSON(r.Header):
			complain(w, http.StatusUnsupportedMediaType, errors.New("send Content-Type: application/json"))
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// namesLoopback reports that a Host names this machine to itself. Any other name is one that
// somebody's DNS has turned to this machine, so that a page of theirs is of the same origin.
func namesLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// fromAPage reports that a page in a browser made a request: those have an Origin, or say in
// Sec-Fetch-Site where they come from. What somebody types into the address bar is none.
func fromAPage(h http.Header) bool {
	site := h.Get("Sec-Fetch-Site")
	return h.Get("Origin") != "" || site != "" && site != "none"
}

// saysJSON reports that a body is said to be JSON, which a form of another site cannot say.
func saysJSON(h http.Header) bool {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && media == "application/json"
}

// fromLoopback reports that a request came from this machine. remote is host:port as
// net/http has it. No X-Forwarded-For: a header is anybody's word.
func fromLoopback(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// controlPay pays; "notify" is true unless it is said to be false. It answers with the
// trade as it is then, before the callback has arrived anywhere.
func (s *Sim) controlPay(w http.ResponseWriter, r *http.Request) {
	body := struct {
		Notify        bool      `json:"notify"`
		NotifyDelayMS int       `json:"notify_delay_ms"`
		NotifyCount   int       `json:"notify_count"`
		DropNotify    bool      `json:"drop_notify"`
		PayerTotal    int64     `json:"payer_total"`
		At            time.Time `json:"at"`
		Force         bool      `json:"force"`
		TakesMS       int       `json:"takes_ms"`
		Fails         bool      `json:"fails"`
	}{Notify: true}
	if !read(w, r, &body) {
		return
	}
	no := r.PathValue("no")
	err := s.Pay(no, PayOptions{
		Notify: body.Notify, NotifyDelay: time.Duration(body.NotifyDelayMS) * time.Millisecond,
		NotifyCount: body.NotifyCount, DropNotify: body.DropNotify, PayerTotal: body.PayerTotal, At: body.At,
		Force: body.Force, Takes: time.Duration(body.TakesMS) * time.Millisecond, Fails: body.Fails,
	})
	if err != nil {
		complain(w, controlStatus(err), err)
		return
	}
	v, _ := s.Trade(no)
	reply(w, http.StatusOK, v)
}

// controlTrade shows what the simulator knows of a trade.
func (s *Sim) controlTrade(w http.ResponseWriter, r *http.Request) {
	v, found := s.Trade(r.PathValue("no"))
	if !found {
		complain(w, http.StatusNotFound, ErrUnknownTrade)
		return
	}
	reply(w, http.StatusOK, v)
}

// controlNotify answers when the merchant has, with the status of each delivery.
func (s *Sim) controlNotify(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Count int    `json:"count"`
		Mode  string `json:"mode"`
	}
	if !read(w, r, &body) {
		return
	}
	deliveries, err := s.notifyNow(r.PathValue("no"), NotifyOptions{Count: body.Count, Mode: body.Mode})
	if err != nil {
		complain(w, controlStatus(err), err)
		return
	}
	reply(w, http.StatusOK, map[string]any{"deliveries": deliveries})
}

// controlRefund shows what the simulator knows of a refund.
func (s *Sim) controlRefund(w http.ResponseWriter, r *http.Request) {
	v, found := s.Refund(r.PathValue("no"))
	if !found {
		complain(w, http.StatusNotFound, ErrUnknownRefund)
		return
	}
	reply(w, http.StatusOK, v)
}

// controlOutcome chooses what a refund becomes; without after_ms after the usual delay,
// with 0 at once.
func (s *Sim) controlOutcome(w http.ResponseWriter, r *http.Request) {
	body := struct {
		Status  State `json:"status"`
		AfterMS int   `json:"after_ms"`
	}{AfterMS: -1}
	if !read(w, r, &body) {
		return
	}
	if err := s.SetRefundOutcome(r.PathValue("no"), body.Status,
		time.Duration(body.AfterMS)*time.Millisecond); err != nil {
		complain(w, http.StatusBadRequest, err)
		return
	}
	reply(w, http.StatusOK, body)
}

// controlNotifyRefund is controlNotify for a refund.
func (s *Sim) controlNotifyRefund(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Count int    `json:"count"`
		Mode  string `json:"mode"`
	}
	if !read(w, r, &body) {
		return
	}
	deliveries, err := s.notifyRefundNow(r.PathValue("no"), NotifyOptions{Count: body.Count, Mode: body.Mode})
	if err != nil {
		complain(w, controlStatus(err), err)
		return
	}
	reply(w, http.StatusOK, map[string]any{"deliveries": deliveries})
}

// controlBalance says whether there is money for refunds; an empty body means that there is.
func (s *Sim) controlBalance(w http.ResponseWriter, r *http.Request) {
	body := struct {
		Enough bool `json:"enough"`
	}{Enough: true}
	if !read(w, r, &body) {
		return
	}
	s.SetBalance(body.Enough)
	reply(w, http.StatusOK, body)
}

// controlAddFault arms a fault and answers with it.
func (s *Sim) controlAddFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if !read(w, r, &f) {
		return
	}
	if err := s.AddFault(f); err != nil {
		complain(w, http.StatusBadRequest, err)
		return
	}
	reply(w, http.StatusCreated, f)
}

// controlEntry says what is wrong with an entry, 1 or 2; an empty fault mends it.
func (s *Sim) controlEntry(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Fault string `json:"fault"`
	}
	if !read(w, r, &body) {
		return
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err == nil {
		err = s.SetEntry(n, body.Fault)
	}
	if err != nil {
		complain(w, http.StatusBadRequest, err)
		return
	}
	reply(w, http.StatusOK, body)
}

// controlLog writes JSON lines. A first line of kind "truncated" says that
// entries before it are gone from memory.
func (s *Sim) controlLog(w http.ResponseWriter, r *http.Request) {
	since := 0
	if text := r.URL.Query().Get("since"); text != "" {
		var err error
		if since, err = strconv.Atoi(text); err != nil || since < 0 {
			complain(w, http.StatusBadRequest, fmt.Errorf("since=%s: the number of an entry is needed", text))
			return
		}
	}
	w.Header().Set("Content-Type", "application/jsonl; charset=utf-8")
	encoder := json.NewEncoder(w)
	for _, e := range s.Log(since) {
		if encoder.Encode(e) != nil {
			return // the reader is gone
		}
	}
}

// controlClock changes the speed of waiting; times that are reported stay the clock's.
func (s *Sim) controlClock(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Speed float64 `json:"speed"`
	}
	if !read(w, r, &body) {
		return
	}
	if err := s.SetSpeed(body.Speed); err != nil {
		complain(w, http.StatusBadRequest, err)
		return
	}
	s.log.add(Entry{Kind: KindControl, Event: "speed", Detail: strconv.FormatFloat(body.Speed, 'g', -1, 64)})
	reply(w, http.StatusOK, body)
}

// controlStatus is the HTTP status for an error of the simulator: 404 for a number that
// it does not know, 409 for what the state of the trade forbids, 400 for the rest.
func controlStatus(err error) int {
	switch {
	case errors.Is(err, ErrUnknownTrade), errors.Is(err, ErrUnknownRefund):
		return http.StatusNotFound
	case errors.Is(err, ErrAlreadyPaid), errors.Is(err, ErrPaying), errors.Is(err, ErrClosed),
		errors.Is(err, ErrExpired), errors.Is(err, ErrNotPaid):
		return http.StatusConflict
	}
	return http.StatusBadRequest
}

// read decodes the body strictly; an empty one leaves the defaults. It has answered
// when it returns false. A field that is not known is refused: a misspelt fault would
// otherwise be none, and the test that armed it would pass for the wrong reason.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		complain(w, http.StatusBadRequest, fmt.Errorf("read body: %w", err))
		return false
	}
	return true
}

// complain answers with an error.
func complain(w http.ResponseWriter, status int, err error) {
	reply(w, status, map[string]string{"error": err.Error()})
}

// reply answers with JSON.
func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(mustJSON(v), '\n')) //nolint:gosec // JSON, typed as JSON, < and > escaped
}

package storefront

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
)

// acts are what the buyer can do with an order, by their names in the form.
var acts = map[string]func(*Shop, context.Context, *story) error{
	"code":    (*Shop).code,
	"pay":     (*Shop).pay,
	"twice":   (*Shop).payTwice,
	"lose":    (*Shop).payUnheard,
	"instant": (*Shop).payAtTheClose,
	"cancel":  (*Shop).cancel,
	"leave":   (*Shop).leave,
	"ask":     (*Shop).askPaid,
	"late":    (*Shop).payLate,
	"refund":  (*Shop).askRefund,
}

// act does one of them. What the API or the simulator refuses is a step of the story; an error is
// that nobody answered.
func (s *Shop) act(ctx context.Context, st *story, name string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	// Before it, so that what happened until now is told as it was.
	if err := s.lookLocked(ctx, st, true); err != nil {
		return err
	}
	err := acts[name](s, ctx, st)
	var p *problem
	var no *refusal
	switch {
	case errors.As(err, &p):
		word := "no." + p.Code
		if _, known := words[word]; !known {
			word = "no.other"
		}
		st.add(s.o.Now(), orderd, you, word, p.Status, p.Code)
	case errors.As(err, &no):
		st.refused(s, no)
	case err != nil:
		return err
	}
	return s.lookLocked(ctx, st, true)
}

// refused is WeChat Pay's word that this trade cannot be paid.
func (st *story) refused(s *Shop, no *refusal) {
	word := "no.pay"
	switch {
	case no.Status == http.StatusNotFound:
		st.forgotten, word = true, "no.pay.unknown"
	case strings.Contains(no.Text, "paid already"):
		word = "no.pay.paid"
	case strings.Contains(no.Text, "closed"):
		word = "no.pay.closed"
	case strings.Contains(no.Text, "over"):
		word = "no.pay.over"
	}
	st.add(s.o.Now(), wechat, you, word)
}

// buy places an order for one unit and opens its code. Key makes a repeat the same order.
func (s *Shop) buy(ctx context.Context, customer, sku, key string, english bool) (*story, error) {
	body := map[string]any{"items": []map[string]any{{"sku_id": sku, "quantity": 1}}}
	if s.o.PayFor > 0 {
		body["expires_in"] = int(s.o.PayFor.Seconds())
	}
	began := s.o.Now()
	var o orderView
	if err := s.client.ask(ctx, call{method: http.MethodPost, path: "/v1/orders", customer: customer,
		idempotency: key, english: english, body: body, into: &o}); err != nil {
		return nil, err
	}
	st := s.story(customer, o.OrderNo)
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.steps) == 0 { // else the request was repeated
		st.fromStart = true
		st.add(began, you, orderd, "step.place")
		s.count(ctx, st, o)
		st.add(s.o.Now(), orderd, orderd, "step.state."+o.State, st.shelf())
		st.order = o
	}
	if err := s.code(ctx, st); err != nil {
		var p *problem
		if !errors.As(err, &p) {
			return st, err
		}
		st.add(s.o.Now(), orderd, you, "no.code", p.Status, p.Code)
	}
	return st, nil
}

// prepay opens a trade of the order, or gives the one that is open.
func (s *Shop) prepay(ctx context.Context, st *story, kind string) error {
	var p struct {
		OutTradeNo string `json:"out_trade_no"`
	}
	err := s.client.ask(ctx, call{method: http.MethodPost, path: "/v1/orders/" + st.no + "/prepay",
		customer: st.customer, own: true, body: map[string]any{"trade_type": kind}, into: &p})
	if err == nil && (len(st.trades) == 0 || st.trades[len(st.trades)-1] != p.OutTradeNo) {
		st.trades = append(st.trades, p.OutTradeNo)
	}
	return err
}

// code asks for the QR code.
func (s *Shop) code(ctx context.Context, st *story) error { return s.prepay(ctx, st, "NATIVE") }

// trade gives the number of the newest trade; after a restart it has to be asked for.
func (s *Shop) trade(ctx context.Context, st *story) (string, error) {
	if len(st.trades) == 0 {
		if err := s.code(ctx, st); err != nil {
			return "", err
		}
	}
	return st.trades[len(st.trades)-1], nil
}

// payBy lets the buyer pay the newest trade, with what else shall happen.
func (s *Shop) payBy(ctx context.Context, st *story, how map[string]any) error {
	no, err := s.trade(ctx, st)
	if err != nil {
		return err
	}
	return s.client.control(ctx, "trades/"+no+"/pay", how)
}

// pay is the usual way.
func (s *Shop) pay(ctx context.Context, st *story) error {
	return s.payBy(ctx, st, map[string]any{"notify": true})
}

// payUnheard pays, and the callback is lost on its way.
func (s *Shop) payUnheard(ctx context.Context, st *story) error {
	return s.payBy(ctx, st, map[string]any{"notify": true, "drop_notify": true})
}

// payTwice pays a second trade of the order and then the first one, which orderd had closed: WeChat Pay
// promises that this cannot happen, so the simulator is forced.
func (s *Shop) payTwice(ctx context.Context, st *story) error {
	first, err := s.trade(ctx, st)
	if err == nil {
		err = s.prepay(ctx, st, "APP")
	}
	if err == nil {
		err = s.pay(ctx, st)
	}
	if err != nil {
		return err
	}
	return s.client.control(ctx, "trades/"+first+"/pay", map[string]any{"notify": true, "force": true})
}

// payAtTheClose cancels, and the money arrives at WeChat Pay in the instant before it is asked to close. Of an
// order that will not be closed any more only the cancel is tried: what is armed for a close that does not
// come stays armed.
func (s *Shop) payAtTheClose(ctx context.Context, st *story) error {
	if st.order.State != pending || st.money > 0 {
		return s.cancel(ctx, st)
	}
	no, err := s.trade(ctx, st)
	if err != nil {
		return err
	}
	if err := s.client.control(ctx, "faults", map[string]any{"endpoint": "close", "out_trade_no": no,
		"kind": "paid_first", "count": 1}); err != nil {
		return err
	}
	return s.cancel(ctx, st)
}

// payLate pays a trade that is closed.
func (s *Shop) payLate(ctx context.Context, st *story) error {
	if len(st.trades) == 0 {
		st.forgotten = true
		st.add(s.o.Now(), wechat, you, "no.pay.unknown")
		return nil
	}
	return s.payBy(ctx, st, map[string]any{"notify": true, "force": true})
}

// cancel is the buyer's.
func (s *Shop) cancel(ctx context.Context, st *story) error {
	st.add(s.o.Now(), you, orderd, "step.cancel")
	var o orderView
	err := s.client.ask(ctx, call{method: http.MethodPost, path: "/v1/orders/" + st.no + "/cancel",
		customer: st.customer, own: true, body: map[string]any{"reason": "changed my mind"}, into: &o})
	if err == nil && o.State == closing {
		st.add(s.o.Now(), orderd, you, "step.cancel.waits", http.StatusAccepted)
	}
	return err
}

// leave puts the phone away: the order runs out of time.
func (s *Shop) leave(_ context.Context, st *story) error {
	if !st.left {
		st.left = true
		st.add(s.o.Now(), you, you, "step.leave")
	}
	return nil
}

// askPaid is the app that comes back from paying and asks whether it was heard.
func (s *Shop) askPaid(ctx context.Context, st *story) error {
	st.add(s.o.Now(), you, orderd, "step.ask")
	return s.client.ask(ctx, call{method: http.MethodPost, path: "/v1/orders/" + st.no + "/payment-query",
		customer: st.customer, own: true})
}

// askRefund wants the money back for all of the order; whether it goes is decided by people.
func (s *Shop) askRefund(ctx context.Context, st *story) error {
	st.add(s.o.Now(), you, orderd, "step.askrefund")
	return s.client.ask(ctx, call{method: http.MethodPost, path: "/v1/orders/" + st.no + "/refunds",
		customer: st.customer, own: true, idempotency: rand.Text(),
		body: map[string]any{"items": st.order.Items, "reason": "does not fit"}})
}

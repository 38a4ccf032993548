package storefront

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// lookEvery is how often an order is looked at, however many pages show it.
	lookEvery = 200 * time.Millisecond
	// maxStories bounds the orders that something is remembered of; the one that nobody has looked at for
	// longest is forgotten.
	maxStories = 256
	// maxSteps bounds what is remembered of one.
	maxSteps = 120
)

// who took part in a step.
type who string

const (
	you    who = "you"    // the buyer with a phone
	orderd who = "orderd" // the service
	wechat who = "wechat" // WeChat Pay, simulated
)

// step is one thing that happened: a message from one to another, or, of one alone, what it knows now. Word is its
// text in the table of words, Args its values.
type step struct {
	At       time.Time
	From, To who
	Lost     bool
	Word     string
	Args     []any
}

// story is what this process saw of an order.
type story struct {
	customer, no string
	used         time.Time // under Shop.mu
	inbox        []entry   // what the simulator logged and nobody has read; under Shop.mu

	mu      sync.Mutex
	looked  time.Time
	moved   time.Time // when something was new
	order   orderView
	item    goods // with the stock as it was at the last look
	trades  []string
	steps   []step
	refunds map[string]string // status by number

	fromStart  bool
	left       bool // the buyer put the phone away
	money      int  // payments that WeChat Pay took
	lost       bool // a callback that never came
	paidFirst  bool // a close was answered that it is paid
	forgotten  bool // the simulator does not know the trade
	tradeState map[string]string
}

// story gives that of a customer's order, a new one where there is none.
func (s *Shop) story(customer, no string) *story {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stories[customer+" "+no]
	if st == nil {
		for len(s.stories) >= maxStories {
			oldest := ""
			for name, other := range s.stories {
				if oldest == "" || other.used.Before(s.stories[oldest].used) {
					oldest = name
				}
			}
			delete(s.stories, oldest)
		}
		st = &story{customer: customer, no: no, refunds: map[string]string{}, tradeState: map[string]string{},
			moved: s.o.Now()}
		s.stories[customer+" "+no] = st
	}
	st.used = s.o.Now()
	return st
}

// hear reads what the simulator has logged since the last time, for all stories; unless now, what another one read
// a moment ago will do.
func (s *Shop) hear(ctx context.Context, now bool) error {
	s.hearing.Lock()
	defer s.hearing.Unlock()
	if !now && s.o.Now().Sub(s.heard) < lookEvery {
		return nil
	}
	s.heard = s.o.Now()
	of := map[string][]entry{}
	seq := s.seq
	err := s.client.log(ctx, seq, func(e entry) {
		seq = e.Seq
		if no, _, ok := strings.Cut(e.OutTradeNo, "-"); ok && len(of[no]) < maxSteps {
			of[no] = append(of[no], e)
		}
	})
	if err != nil {
		return err // it is read again
	}
	s.seq = seq
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.stories {
		if room := maxSteps - len(st.inbox); room > 0 {
			st.inbox = append(st.inbox, of[st.no][:min(room, len(of[st.no]))]...)
		}
	}
	return nil
}

// look brings a story up to date: what WeChat Pay did, and the order as the API shows it. A *problem of the API is
// its word that there is no such order of this customer.
func (s *Shop) look(ctx context.Context, st *story) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return s.lookLocked(ctx, st, false)
}

// lookLocked is look by who has the story; unless now, what was seen a moment ago will do. The order is read
// before what WeChat Pay did: of a payment it is known that the money is there before it is known that the
// order is paid, and not the other way round.
func (s *Shop) lookLocked(ctx context.Context, st *story, now bool) error {
	if !now && s.o.Now().Sub(st.looked) < lookEvery {
		return nil
	}
	var o orderView
	if err := s.client.ask(ctx, call{method: http.MethodGet, path: "/v1/orders/" + st.no, customer: st.customer,
		own: true, into: &o}); err != nil {
		return err
	}
	s.count(ctx, st, o)
	if err := s.hear(ctx, now); err != nil {
		return err
	}
	s.mu.Lock()
	heard := st.inbox
	st.inbox = nil
	s.mu.Unlock()
	for _, e := range heard {
		st.hear(e)
	}
	st.see(o, s.o.Now())
	st.looked = s.o.Now()
	return nil
}

// count reads the goods of an order, with their stock. Where nobody says, what was read before stands.
func (s *Shop) count(ctx context.Context, st *story, o orderView) {
	if len(o.Items) == 0 {
		return
	}
	if found, err := s.client.goods(ctx, []string{o.Items[0].SkuID}); err == nil && len(found) == 1 {
		st.item = found[0]
	}
}

// add remembers a step.
func (st *story) add(at time.Time, from, to who, word string, args ...any) {
	if len(st.steps) < maxSteps {
		st.steps = append(st.steps, step{At: at, From: from, To: to, Word: word, Args: args})
	}
	if at.After(st.moved) {
		st.moved = at
	}
}

// hear makes steps of what the simulator logged.
func (st *story) hear(e entry) {
	switch e.Kind {
	case "effect":
		st.effect(e)
	case "request":
		st.request(e)
	case "callback":
		of := map[bool]string{true: "pay", false: "refund"}[e.OutRefundNo == ""]
		switch e.Event {
		case "accepted":
			st.add(e.At, wechat, orderd, "step.told."+of, e.Status)
		case "lost", "cut_before":
			st.lost = true
			st.add(e.At, wechat, orderd, "step.lost")
			st.steps[len(st.steps)-1].Lost = true
		case "refused", "unanswered":
			st.add(e.At, wechat, orderd, "step.refused."+e.Event, e.Status)
		}
	}
}

// effect is what really happened at WeChat Pay.
func (st *story) effect(e entry) {
	if e.OutRefundNo == "" && e.State != "" {
		st.tradeState[e.OutTradeNo] = e.State
	}
	switch e.Event {
	case "paid":
		st.money++
		st.add(e.At, you, wechat, "step.pays", yuan(e.Amount))
	case "paid_after_close":
		st.money++
		st.add(e.At, you, wechat, "step.pays.late", yuan(e.Amount))
	case "paying":
		st.add(e.At, you, wechat, "step.paying")
	case "refund_succeeded":
		st.add(e.At, wechat, you, "step.back", yuan(e.Amount))
	}
}

// request is what orderd asked WeChat Pay, and the answer.
func (st *story) request(e entry) {
	paidAnswer := e.Code == "ORDERPAID" || e.Code == "ORDER_PAID"
	word := "step." + e.Endpoint
	switch {
	case e.Status == 0:
		word = "step.noanswer." + e.Endpoint
	case e.Endpoint == "close" && paidAnswer:
		st.paidFirst = true
		word = "step.close.paid"
	case e.Endpoint == "close" && e.Status != http.StatusNoContent,
		e.Endpoint != "close" && e.Status >= http.StatusMultipleChoices:
		word = "step.error." + e.Endpoint
	case e.Endpoint == "query":
		word = "step.query." + st.tradeState[e.OutTradeNo]
	}
	if _, known := words[word]; known {
		st.add(e.At, orderd, wechat, word, e.Status)
	}
}

// see makes steps of what changed in the order since the last look.
func (st *story) see(o orderView, now time.Time) {
	if o.State != st.order.State && st.order.State != "" {
		st.add(now, orderd, orderd, "step.state."+o.State, st.shelf())
	}
	for _, r := range o.Refunds {
		if st.refunds[r.OutRefundNo] == r.RefundStatus {
			continue
		}
		st.refunds[r.OutRefundNo] = r.RefundStatus
		word := "step.owed." + r.RefundStatus
		if _, known := words[word]; !known {
			word = "step.owed"
		}
		st.add(now, orderd, orderd, word, yuan(r.Amount.Refund), r.RefundStatus)
	}
	st.order = o
}

// shelf is what can be bought of the goods now.
func (st *story) shelf() string {
	if st.item.Available == nil {
		return "∞"
	}
	return number(*st.item.Available)
}

// inOrder is the steps in the order in which they happened.
func (st *story) inOrder() []step {
	all := slices.Clone(st.steps)
	slices.SortStableFunc(all, func(a, b step) int { return a.At.Compare(b.At) })
	return all
}

// refund gives the newest refund of a kind, nil for none.
func (st *story) refund(kind string) *refundView {
	for i := range slices.Backward(st.order.Refunds) {
		if st.order.Refunds[i].Kind == kind {
			return &st.order.Refunds[i]
		}
	}
	return nil
}

// verdict is the one sentence: what just happened, and why nothing was sold twice.
func (st *story) verdict() (word, tone string) {
	asked := st.refund("aftersale")
	switch st.order.State {
	case pending:
		return st.waiting()
	case closing:
		return "verdict.closing", "warn"
	case closed:
		if st.order.CloseReason == "timeout" {
			return "verdict.timeout", "ok"
		}
		return "verdict.cancelled", "ok"
	case late:
		return "verdict.late", "warn"
	case refunded:
		if asked == nil {
			return "verdict.late.back", "ok"
		}
		return "verdict.refunded", "ok"
	}
	switch twice := st.refund("duplicate"); {
	case asked != nil && asked.RefundStatus == askedFor:
		return "verdict.asked", "warn"
	case asked != nil && st.order.State == refunding:
		return "verdict.refunding", "warn"
	case twice != nil && twice.RefundStatus == success:
		return "verdict.twice.back", "ok"
	case twice != nil:
		return "verdict.twice", "warn"
	case st.paidFirst:
		return "verdict.instant", "ok"
	case st.lost:
		return "verdict.found", "ok"
	}
	return "verdict.paid", "ok"
}

// waiting is the verdict of an order that is not paid, as far as orderd knows.
func (st *story) waiting() (word, tone string) {
	switch {
	case st.forgotten:
		return "verdict.forgotten", "warn"
	case st.money > 0 && st.lost:
		return "verdict.lost", "warn"
	case st.money > 0:
		return "verdict.paying", "warn"
	case len(st.trades) == 0 && st.fromStart:
		return "verdict.nocode", "warn"
	case st.left:
		return "verdict.left", ""
	}
	return "verdict.pending", ""
}

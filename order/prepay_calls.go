package order

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"orderd/payment"
)

// Every prepay call, first and repeat, is committed before it is made: it gets the
// next number of its attempt, and is open until its end is known. Several may be
// under way, of several clicks and processes, and their ends come in any order. What
// follows from them:
//
//   - The answer of the newest call is kept: WeChat Pay's documents say that a repeat
//     gives a new code and makes the one before it invalid.
//   - A kept answer is handed out again only while no call is open: one that may
//     still arrive, or has arrived unheard, may have made it invalid.
//   - Calls that are under way at once may overtake one another, so that which answer
//     is the newest is not certain when two of them were answered. One more call,
//     alone, decides.
//   - "No such trade" proves nothing while a call may still arrive.
//
// Only what was committed counts: a call whose end could not be stored is open.

// maxOpenCalls bounds the calls of one attempt whose end is not known: more than a
// buyer clicks in PrepayInFlight, and they fit their column.
const maxOpenCalls = 20

// openCalls are the prepay calls of an attempt whose end is not known, by number.
type openCalls map[int64]openCall

// openCall is one of them.
type openCall struct {
	at time.Time // when it was committed
	by int64     // drawn by lot: whose it is, should its COMMIT get no answer and be run again

	beside bool // another call was answered while this one was open
}

// keptAnswer is what is stored with the answer of an attempt. The program before this
// one stores neither, whatever it stores its answer over.
type keptAnswer struct {
	Call int64 `json:",omitempty"` // whose answer it is
	// Sure: no other call that was answered, or whose end is not known, was under way
	// at the same time.
	Sure bool `json:",omitempty"`
	// AppID is what the trade was opened for. Not App: payment.Prepaid has that beside it.
	AppID string `json:",omitempty"`
}

// underWay reports that one of them may still arrive at WeChat Pay.
func (c openCalls) underWay(now time.Time, within time.Duration) bool {
	for _, call := range c {
		if now.Before(call.at.Add(within)) {
			return true
		}
	}
	return false
}

// begin adds the next call of an attempt, at now; false when by has begun it already.
// Calls that are too old to arrive any more are forgotten, and leave the answer that is
// kept uncertain, unless they came after it: it is not to be taken for the newest should
// this call be refused.
func (a *Attempt) begin(now time.Time, within time.Duration, by int64) (bool, error) {
	kept := openCalls{}
	for no, call := range a.open {
		if call.by == by {
			a.CallNo = no
			return false, nil
		}
		if now.Before(call.at.Add(within)) || no == a.CallNo && no > a.AnswerNo {
			kept[no] = call
			continue
		}
		a.kept.Sure = false
	}
	if len(kept) >= maxOpenCalls {
		return false, &payment.GatewayError{Op: "prepay", Kind: payment.KindUnknown, NotSent: true,
			Err: errors.New("too many prepays of this order are on their way")}
	}
	a.CallNo++
	kept[a.CallNo] = openCall{at: now, by: by}
	a.open, a.CalledAt = kept, now
	return true, nil
}

// sure reports that the answer that is kept is the newest one of those that were heard.
func (a *Attempt) sure() bool { return a.kept.Sure && a.kept.Call == a.AnswerNo }

// opened reports that WeChat Pay has opened this trade by one of its calls, whatever it
// said to a later one. A program that does not count its calls writes the time alone.
func (a *Attempt) opened() bool {
	return a.State == AttemptLive || a.AnswerNo > 0 || !a.AnsweredAt.IsZero()
}

// encode gives the calls for their column, "" for none.
func (c openCalls) encode() string {
	if len(c) == 0 {
		return ""
	}
	all := make(map[int64][3]int64, len(c))
	for no, call := range c {
		all[no] = [3]int64{call.at.UnixMilli(), call.by}
		if call.beside {
			all[no] = [3]int64{call.at.UnixMilli(), call.by, 1}
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // numbers are always JSON
	}
	return string(b)
}

// readCalls takes the open calls of an attempt from their column. A program that did
// not count its calls had the one that made the attempt.
func (a *Attempt) readCalls(column string) error {
	a.calls, a.open = column, openCalls{}
	if a.CallNo == 0 && a.State == AttemptCalling {
		a.open[0] = openCall{at: a.CalledAt}
	}
	if column == "" {
		return nil
	}
	var all map[int64][3]int64
	if err := json.Unmarshal([]byte(column), &all); err != nil {
		return fmt.Errorf("open calls of attempt %s: %w", a.OutTradeNo, err)
	}
	for no, call := range all {
		a.open[no] = openCall{time.UnixMilli(call[0]).UTC(), call[1], call[2] != 0}
	}
	return nil
}

// callEnd is how a prepay call ended.
type callEnd int

const (
	callAnswered callEnd = iota // WeChat Pay opened the trade, or gave the open one again
	callRefused                 // it said a definite no to these parameters
	callVoid                    // nothing came of it, and the same may be sent again
)

// endCall: a prepay call has ended, and how is known.
type endCall struct {
	header
	call   Attempt // as the call was committed
	end    callEnd
	answer payment.Prepaid // with callAnswered

	first bool // it was open until now: not when a COMMIT without an answer is run again
}

// needs adds the attempt.
func (c *endCall) needs(n *needs) {
	n.order(c.orderNo)
	n.attempts[c.call.OutTradeNo] = true
}

// decide takes the call off the open ones. It does not move the order. A refusing cell
// says that an answer must not be handed out.
func (c *endCall) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	entry := b.attempts[c.call.OutTradeNo]
	if entry == nil {
		return applied{}, ErrNotFound
	}
	a := &entry.after
	call, open := a.open[c.call.CallNo]
	delete(a.open, c.call.CallNo)
	done := applied{before: e.after.State, cell: same()}
	c.first = open
	switch c.end {
	case callAnswered:
		a.overlapped()
		done.cell = c.keep(b, e, entry, open && !call.beside && !c.answer.Doubt)
	case callRefused:
		c.refused(b, e, a)
	case callVoid:
	}
	done.order, done.attempt = e.after, *a
	return done, nil
}

// overlapped notes with the open calls that another was answered beside them.
func (a *Attempt) overlapped() {
	for no, call := range a.open {
		call.beside = true
		a.open[no] = call
	}
}

// keep keeps the answer, unless a newer call was answered before it, and whether it was
// alone. An order that left pending meanwhile keeps it for the record.
func (c *endCall) keep(b *batch, e *entry, kept *attemptEntry, alone bool) Cell {
	a := &kept.after
	detail := map[string]string{"out_trade_no": a.OutTradeNo}
	cell := same()
	switch {
	case e.after.State != StatePending:
		cell = refuse("the order left pending before WeChat Pay answered")
	case a.State == AttemptClosed:
		cell = refuse("another payment of the order was opened before WeChat Pay answered")
	}
	switch {
	case c.call.CallNo < a.AnswerNo:
		a.kept.Sure = false
	case a.State != AttemptClosed && c.call.CallNo > a.AnswerNo:
		// The program before this one writes the time of its answer and no number.
		a.kept.Sure = alone && (c.call.AnswerNo != a.AnswerNo || c.call.AnsweredAt.Equal(a.AnsweredAt))
		a.kept.Call, a.kept.AppID = c.call.CallNo, b.s.cfg.AppID
		a.State, a.Answer, a.AnswerNo, a.AnsweredAt = AttemptLive, c.answer, c.call.CallNo, b.now
		a.Answer.Doubt = false // kept.Sure has it
		if wait, asks := b.s.cfg.askAfter(0); asks && e.after.State == StatePending {
			kept.ask = b.now.Add(wait)
		}
	}
	if cell.Verdict == VerdictRefuse {
		c.tell(b, e, "prepay.too_late", detail)
		return cell
	}
	detail["trade_type"] = string(a.TradeType)
	c.tell(b, e, "prepay.opened", detail)
	return cell
}

// tell writes the end of the call into the timeline, once.
func (c *endCall) tell(b *batch, e *entry, event string, detail map[string]string) {
	if c.first {
		b.record(e, &c.header, event, e.after.State, detail)
	}
}

// refused writes a definite no down. It ends the attempt only when it is the newest
// word on it: not when a call was made after this one, nor when another was answered
// while this one was under way, also by the program before this one, which writes the
// time of an answer and not its number.
func (c *endCall) refused(b *batch, e *entry, a *Attempt) {
	newest := a.CallNo == c.call.CallNo && a.AnswerNo == c.call.AnswerNo && a.AnsweredAt.Equal(c.call.AnsweredAt)
	if newest && a.State != AttemptClosed {
		a.State = AttemptRefused
	}
	c.tell(b, e, "prepay.refused", map[string]string{"out_trade_no": a.OutTradeNo})
}

// closeTrade: nobody can pay this attempt any more, which WeChat Pay's answers have
// proven of the calls up to the one that it names.
type closeTrade struct {
	header
	attempt Attempt // as it was when WeChat Pay was asked
}

// needs adds the attempt.
func (c *closeTrade) needs(n *needs) {
	n.order(c.orderNo)
	n.attempts[c.attempt.OutTradeNo] = true
}

// decide closes the attempt. A refusing cell says that a prepay of it was sent after
// WeChat Pay was asked, so that nothing is proven.
func (c *closeTrade) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	entry := b.attempts[c.attempt.OutTradeNo]
	if entry == nil {
		return applied{}, ErrNotFound
	}
	done := applied{order: e.after, before: e.after.State, cell: same()}
	if entry.after.State != AttemptClosed && entry.after.CallNo != c.attempt.CallNo {
		done.cell = refuse("a prepay was sent meanwhile")
		return done, nil
	}
	entry.close(b, e, &c.header)
	done.order = e.after
	return done, nil
}

// close takes an attempt that is not closed yet off the payable ones, and writes down what
// has proven it: of a closed attempt nobody asks WeChat Pay any more.
func (a *attemptEntry) close(b *batch, e *entry, h *header) {
	if a.after.State == AttemptClosed {
		return
	}
	a.after.State = AttemptClosed
	b.record(e, h, "prepay.closed", e.after.State, map[string]string{"out_trade_no": a.after.OutTradeNo})
}

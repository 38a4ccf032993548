// Package model says what an order may look like to somebody who sees only the
// answers: it keeps the set of all states that the order can be in, given what
// was asked, what was answered and what stayed without an answer. An answer
// outside the set is a violation. It does no I/O, knows nothing of the service
// but the names of its states, and its table is written down here once more, so
// that a mistake in order/machine.go does not excuse itself.
//
// Use, one Order per order under a lock of the caller's:
//
//	o := model.New()                          // not placed
//	op := o.Began(model.Place)                // before the request is sent
//	err := o.Answered(op, order.StatePending) // an answer that tells the state
//	err = o.Failed(op)                        // or: it definitely did not happen
//	o.Unknown(op)                             // or: no answer, it may happen any time from now
//	o.May(order.EventPay)                     // from now on it may happen by itself: a callback
//	o.Cannot(order.EventCloseDone)            // a proof: it does not happen from now on
//	err = o.Observe(order.StatePaid)          // a read with nobody else's answer between
//
// The set is exact for what is under way (every order of effects between began
// and answered is kept, as in a check of linearizability) and generous for what
// stayed unknown: that may take effect again and again.
package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"orderd/order"
)

// Absent is the state of an order that is not placed: what a read answers with
// "not found".
const Absent order.State = ""

// Events beside those of the table.
const (
	// Place: an order is asked for.
	Place order.Event = "place"
	// Get: nothing happens, the answer tells the state.
	Get order.Event = "get"
	// Untold is the state in an answer that does not tell one.
	Untold order.State = "?"
)

// moves is every way from state to state. What is not here changes nothing.
var moves = map[order.State]map[order.Event]order.State{
	Absent: {Place: order.StatePending},
	order.StatePending: {order.EventCancel: order.StateClosing, order.EventExpire: order.StateClosing,
		order.EventPay: order.StatePaid},
	order.StateClosing: {order.EventCloseDone: order.StateClosed, order.EventPay: order.StatePaid},
	order.StateClosed:  {order.EventPay: order.StateLate, order.EventRevive: order.StatePaid},
	order.StatePaid:    {order.EventRefund: order.StateRefunding},
	order.StateRefunding: {order.EventRefundPart: order.StatePaid, order.EventRefundFail: order.StatePaid,
		order.EventRefundAll: order.StateRefunded},
	order.StateLate:     {order.EventRefundAll: order.StateRefunded},
	order.StateRefunded: {},
}

// maxOpen is how many operations on one order are followed exactly at a time;
// more than that count as unknown, which only makes the model more generous.
const maxOpen = 6

// Op is an operation that is under way.
type Op int

// untracked is an operation beyond maxOpen: it counted as unknown from its begin on, so
// that its answer says nothing any more.
const untracked Op = -1

// Order is what one order may be. Not safe for concurrent use.
type Order struct {
	paths map[path]bool
	open  [maxOpen]order.Event // "" is a free slot
	loose map[order.Event]bool // may happen at any time, any number of times
	trace []string
}

// path is one way that things may have gone: the state now, and how far each
// operation under way is.
type path struct {
	state order.State
	ops   [maxOpen]progress
}

// progress of an operation: it takes effect, then it reads the state.
type progress struct {
	happened, read bool
	saw            order.State
}

// Violation is an answer that no way of things going explains.
type Violation struct {
	What     string
	Possible []order.State // before the answer
	Trace    []string      // what was asked and answered, oldest first
}

// Error is what a failed test prints: the answer, what was possible, and the way there.
func (v *Violation) Error() string {
	return fmt.Sprintf("%s, possible %q after:\n  %s", v.What, v.Possible, strings.Join(v.Trace, "\n  "))
}

// New is an order that is not placed. What the service does by itself may
// happen from the start: a close is proven, refunds end. Timeouts and payments
// have to be announced with May.
func New() *Order {
	return &Order{paths: map[path]bool{{}: true},
		loose: map[order.Event]bool{order.EventCloseDone: true, order.EventRefundPart: true,
			order.EventRefundAll: true, order.EventRefundFail: true}}
}

// Began says that e is being asked for. Call it before the request leaves.
func (o *Order) Began(e order.Event) Op {
	o.note("began %s", e)
	slot := slices.Index(o.open[:], "")
	if slot < 0 {
		o.loosen(e)
		return untracked
	}
	o.open[slot] = e
	o.spread()
	return Op(slot)
}

// Answered says that an operation has ended, and which state its answer told
// (Untold for none, Absent for "not found"). Call it after the answer has come.
func (o *Order) Answered(op Op, told order.State) error {
	if op == untracked {
		o.note("answered %q (not followed)", told)
		return nil
	}
	what := fmt.Sprintf("answered %s: %q", o.open[op], told)
	return o.end(op, what, func(p progress) bool { return p.happened && (told == Untold || (p.read && p.saw == told)) })
}

// Failed says that an operation has ended and did definitely not happen.
func (o *Order) Failed(op Op) error {
	if op == untracked {
		return nil // it was counted as unknown and stays so
	}
	return o.end(op, fmt.Sprintf("failed %s", o.open[op]), func(p progress) bool { return !p.happened })
}

// Unknown says that an operation has no answer: it happened, or happens at any
// time from now, or never.
func (o *Order) Unknown(op Op) {
	if op == untracked {
		return
	}
	e := o.open[op]
	_ = o.end(op, fmt.Sprintf("unknown %s", e), func(progress) bool { return true })
	o.loosen(e)
}

// May says that an event may happen by itself from now on.
func (o *Order) May(e order.Event) {
	o.note("may %s", e)
	o.loosen(e)
}

// Cannot says that an event does not happen by itself any more, whatever has
// not been answered; it may have happened before.
func (o *Order) Cannot(e order.Event) {
	o.note("cannot %s", e)
	delete(o.loose, e)
}

// Observe is a read that began after everything that was said here and ended
// before anything else.
func (o *Order) Observe(told order.State) error { return o.Answered(o.Began(Get), told) }

// Possible lists the states that the order can be in.
func (o *Order) Possible() []order.State {
	all := map[order.State]bool{}
	for p := range o.paths {
		all[p.state] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// loosen lets an event happen at any time from now on, as often as it likes.
func (o *Order) loosen(e order.Event) {
	if e == Get {
		return
	}
	o.loose[e] = true
	o.spread()
}

// end keeps the paths that an answer leaves and frees the operation's slot. An
// answer that leaves none is a violation; the set stays as it was then.
func (o *Order) end(op Op, what string, fits func(progress) bool) error {
	left := map[path]bool{}
	for p := range o.paths {
		if fits(p.ops[op]) {
			p.ops[op] = progress{}
			left[p] = true
		}
	}
	if len(left) == 0 {
		return &Violation{What: what, Possible: o.Possible(), Trace: slices.Clone(o.trace)}
	}
	o.note("%s", what)
	o.paths, o.open[op] = left, ""
	return nil
}

// spread adds every path that can be reached by what may happen now.
func (o *Order) spread() {
	queue := slices.Collect(maps.Keys(o.paths))
	add := func(p path) {
		if !o.paths[p] {
			o.paths[p] = true
			queue = append(queue, p)
		}
	}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		for e := range o.loose {
			add(path{state: after(p.state, e), ops: p.ops})
		}
		for i, e := range o.open {
			next := p
			switch {
			case e == "" || p.ops[i].read:
				continue
			case !p.ops[i].happened:
				next.state, next.ops[i].happened = after(p.state, e), true
			default:
				next.ops[i].read, next.ops[i].saw = true, p.state
			}
			add(next)
		}
	}
}

// after is the state that an event leads to; the same where it changes nothing.
func after(s order.State, e order.Event) order.State {
	if to, ok := moves[s][e]; ok {
		return to
	}
	return s
}

// maxTrace is how much of the past a violation tells.
const maxTrace = 64

// note adds a line to the trace, and forgets the oldest beyond maxTrace.
func (o *Order) note(format string, args ...any) {
	if len(o.trace) == maxTrace {
		o.trace = slices.Delete(o.trace, 0, 1)
	}
	o.trace = append(o.trace, fmt.Sprintf(format, args...))
}

// Package explore walks through every state that the protocol of stock buckets can reach in a small world: a pool, two
// or three buckets, two processes, three units, and between any two steps a crash, a COMMIT without an answer, a Redis
// that forgets or goes back. In each state it asks whether a unit was lost, doubled or sold twice, and for each answer
// whether it was true.
//
// It is a model: what it shows of the protocol it shows of the code only as far as the code does the same steps. The
// tests therefore walk its transitions on the real code too, and plant faults that it must find.
package explore

import (
	"errors"
	"fmt"
	"slices"
)

// Model is one small world.
type Model struct {
	Name   string
	Units  int16            // in the pool at the start
	Wants  [maxBuyers]int16 // units that each buyer orders; 0: there is no such buyer
	Grants []int16          // units that a grant asks for
	Rows   int8             // bucket ids that may be given out, those of epochs first
	Epochs int8             // epochs of a sale in Redis
	Moves  int8             // moves of one bucket
	Tries  int              // requests at the same time
	Local  bool             // buckets in the memory of processes
	Redis  bool             // buckets in Redis
	Fails  int8             // how often Redis loses everything or goes back
	Split  bool             // or splits into two halves
	Marks  bool             // sold-out marks
	Start  int8             // ticks until the sale begins
	Share  bool             // a grant gets a share of the pool: see share
	Unread bool             // no process reads a mark
	Astray bool             // walks on where an invariant is broken
	Faults Fault            // planted
}

// Kind is what happens in a step.
type Kind int8

// The steps. Each is one transaction, one script of Redis, or one change under a lock in one process.
const (
	StepGrant        Kind = iota // MySQL: pool to bucket, opened for it where there was none
	StepRaise                    // the grant arrives in memory
	StepTake                     // a buyer asks a process: units from its memory, or no ticket
	StepPlace                    // the placing transaction, and its answer
	StepForbid                   // the placing transaction refuses for another reason: price, limit
	StepDoubt                    // the process waits no longer for COMMIT; it may come yet
	StepLate                     // a COMMIT that nobody waits for comes
	StepVanish                   // it never comes
	StepCrash                    // a process dies and starts again, empty
	StepCancel                   // an order is cancelled: its units go to the pool
	StepClose                    // a keeper closes a bucket: its rest goes to the pool
	StepNotice                   // a process sees that its bucket is closed
	StepTick                     // time passes
	StepMarkBegin                // a process takes the time, to read a mark
	StepMarkRead                 // reads closed_until
	StepMarkLoad                 // reads the keys of all orders
	StepDeny                     // refuses from memory
	StepReopen                   // a keeper ends a sold-out mark
	StepEpoch                    // MySQL: all buckets are closed, the next epoch begins
	StepRedisOpen                // open.lua, by the token of an epoch
	StepRedisGive                // grant.lua with one of the moves
	StepRedisTake                // deduct.lua
	StepRedisReturn              // return.lua, for the try that has the ticket
	StepRedisSweep               // return.lua, for a ticket that nobody has any more
	StepRedisSave                // what Redis may go back to
	StepRedisRestore             // it does
	StepRedisSwap                // the other half answers
	StepRedisLose                // FLUSHALL
	StepRedisRefill              // only with a fault: a bucket that Redis lost is filled again from its row
)

var kindNames = [...]string{"grant", "raise", "take", "place", "forbid", "doubt", "late", "vanish", "crash", "cancel",
	"close", "notice", "tick", "mark begin", "mark read", "mark load", "deny", "reopen", "epoch", "redis open",
	"redis give", "redis take", "redis return", "redis sweep", "redis save", "redis restore", "redis swap",
	"redis lose", "redis refill"}

// String is the step's name in a path.
func (k Kind) String() string { return kindNames[k] }

// Answer is what a step tells a buyer.
type Answer int8

// The answers.
const (
	AnswerNone    Answer = iota
	AnswerOrdered        // 201, or 200 for a repeat
	AnswerShort          // 409, decided in the database
	AnswerDenied         // 409, from the memory of a process, or of Redis
)

// Step is one step, with those of the numbers that it has.
type Step struct {
	Kind   Kind
	Proc   int8
	Buyer  int8
	Bucket int8  // id; 0: the pool
	N      int16 // units, or the seq of a move
	Lost   bool  // done, but whoever asked for it never hears so
	Answer Answer
}

// String is the step in a path.
func (s Step) String() string {
	text := fmt.Sprintf("%s process=%d buyer=%d bucket=%d n=%d", s.Kind, s.Proc, s.Buyer, s.Bucket, s.N)
	if s.Lost {
		text += " (answer lost)"
	}
	return text + [...]string{"", " -> ordered", " -> short", " -> denied"}[s.Answer]
}

// Result is what a walk found.
type Result struct {
	States      int
	Transitions int
	Depth       int   // steps to the farthest state, on its shortest path
	Err         error // the first violation, nil for none
	Path        []Step
	kinds       map[Kind]int
	nodes       []node // all states, the nearest first
}

// node is one state with the step that reached it first.
type node struct {
	state  State
	parent int32
	depth  int32
	step   Step
}

// ErrTooBig: there are more states than were allowed, so that nothing was shown.
var ErrTooBig = errors.New("more states than allowed")

// Explore walks through all states, the nearest first, until one breaks an invariant or limit is passed.
func (m *Model) Explore(limit int) Result {
	res := Result{kinds: map[Kind]int{}}
	first := m.first()
	known := map[State]struct{}{first: {}}
	res.nodes = append(res.nodes, node{state: first, parent: -1})
	res.Err = m.check(&first)
	for at := int32(0); int(at) < len(res.nodes) && res.Err == nil; at++ {
		from := res.nodes[at]
		m.steps(&from.state, func(st Step, next State) {
			if res.Err != nil {
				return
			}
			res.Transitions++
			res.kinds[st.Kind]++
			next.settle()
			_, seen := known[next]
			if !seen {
				known[next] = struct{}{}
				res.nodes = append(res.nodes, node{state: next, parent: at, depth: from.depth + 1, step: st})
			}
			if m.Astray {
				return
			}
			if err := m.checkAnswer(&from.state, st); err != nil {
				res.fail(err, append(res.path(int(at)), st))
			} else if !seen {
				if err := m.check(&next); err != nil {
					res.fail(err, res.path(len(res.nodes)-1))
				}
			}
		})
		if len(res.nodes) > limit {
			res.fail(ErrTooBig, nil)
		}
	}
	res.States = len(res.nodes)
	res.Depth = int(res.nodes[len(res.nodes)-1].depth)
	return res
}

// first is the state in which all begins.
func (m *Model) first() State {
	s := State{Pool: m.Units, Closed: m.Start}
	if m.Redis {
		s.Epoch = 1
	}
	return s
}

func (r *Result) fail(err error, path []Step) { r.Err, r.Path = err, path }

// explain prints a violation with the steps that lead to it.
func (m *Model) explain(res Result) string {
	text := fmt.Sprintf("%s: %v", m.Name, res.Err)
	for i, st := range res.Path {
		text += fmt.Sprintf("\n%3d %s", i+1, st)
	}
	return text
}

// path gives the steps that lead to a node.
func (r *Result) path(at int) []Step {
	var steps []Step
	for ; r.nodes[at].parent >= 0; at = int(r.nodes[at].parent) {
		steps = append(steps, r.nodes[at].step)
	}
	slices.Reverse(steps)
	return steps
}

// settle drops what can have no more effect: the transaction of a key that has an order.
func (s *State) settle() {
	for i, t := range s.Tries {
		if t.Phase == TryZombie && s.Orders[t.Buyer].State != OrderNone {
			s.Tries[i] = Try{}
		}
	}
	slices.SortFunc(s.Tries[:], compareTries)
}

// compareTries brings tries into one order, because it means nothing who came first.
func compareTries(a, b Try) int {
	rank := func(t Try) int {
		if t.Phase == TryNone {
			return 1 << 12
		}
		return int(t.Phase) + int(t.Buyer)<<3 + int(t.Proc)<<6 + int(t.Bucket)<<8
	}
	return rank(a) - rank(b)
}

// sold is how many units live orders have.
func (m *Model) sold(s *State) (n int16) {
	for i, o := range s.Orders {
		if o.State == OrderPlaced {
			n += m.Wants[i]
		}
	}
	return n
}

// check holds a state against the invariants.
func (m *Model) check(s *State) error {
	free := m.Units - m.sold(s)
	sum := s.Pool
	for i := range s.Rows {
		r := &s.Rows[i]
		sum += r.Remaining
		if r.Remaining < 0 || r.State == RowClosed && r.Remaining != 0 {
			return fmt.Errorf("bucket %d is %+v", i+1, *r)
		}
		if held := m.promised(s, int8(i+1)); held > r.Remaining && r.State != RowClosed && !r.Lied {
			return fmt.Errorf("bucket %d has %d remaining, its home has and gave away %d", i+1, r.Remaining, held)
		}
	}
	switch {
	case s.Pool < 0:
		return fmt.Errorf("the pool is %d", s.Pool)
	case free < 0:
		return fmt.Errorf("%d sold of %d", m.sold(s), m.Units)
	case sum != free:
		return fmt.Errorf("pool and buckets have %d, put in less sold is %d", sum, free)
	}
	return m.checkRecovery(*s, free)
}

// promised is how many units of a bucket its home has, and tickets have that did not commit.
func (m *Model) promised(s *State, bucket int8) int16 {
	var n int16
	for _, p := range s.Procs {
		if p.Bucket == bucket {
			n += p.Left
		}
	}
	for _, t := range s.Tries {
		local := s.row(bucket).Home != HomeRedis
		if t.Phase != TryNone && t.Bucket == bucket && local {
			n += m.Wants[t.Buyer]
		}
	}
	if s.Redis.Token != bucket || s.row(bucket).Home != HomeRedis {
		return n
	}
	n += s.Redis.Left
	for b, t := range s.Redis.Tickets {
		if t.Taken && !t.Returned && s.Orders[b].State == OrderNone {
			n += m.Wants[b]
		}
	}
	return n
}

// checkRecovery kills everybody, lets a keeper work and time pass, and wants every unit in a pool that is sold.
func (m *Model) checkRecovery(s State, free int16) error {
	for i := range s.Rows {
		if r := &s.Rows[i]; r.State == RowOpen {
			m.closeRow(&s, r)
		}
	}
	m.reopen(&s)
	for i := 0; s.Closed != 0 && s.Closed != SoldOut && i < int(SoldOut); i++ {
		s.Closed--
	}
	if s.Pool != free || free > 0 && s.Closed != 0 {
		return fmt.Errorf("when all are dead the pool recovers %d of %d, closed for %d", s.Pool, free, s.Closed)
	}
	return nil
}

// checkAnswer asks whether what a step said was true in the state that it began in.
func (m *Model) checkAnswer(s *State, st Step) error {
	switch st.Answer {
	case AnswerShort:
		if s.Orders[st.Buyer].State != OrderNone {
			return fmt.Errorf("the database refused buyer %d, who has an order", st.Buyer)
		}
		free := m.Units - m.sold(s) // in the pool, in processes and in Redis
		if s.Closed == 0 && free >= m.Wants[st.Buyer] {
			return fmt.Errorf("buyer %d was refused %d with %d unsold", st.Buyer, m.Wants[st.Buyer], free)
		}
	case AnswerDenied:
		if s.Orders[st.Buyer].State != OrderNone {
			return fmt.Errorf("buyer %d was refused from memory, and has an order", st.Buyer)
		}
	case AnswerNone, AnswerOrdered:
	}
	return nil
}

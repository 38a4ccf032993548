package explore

import "fmt"

// The world is small so that all of it can be walked. These are the sizes of the arrays of a State; a Model may use
// less.
const (
	maxRows   = 3
	maxBuyers = 3
	maxProcs  = 2
	maxTries  = 3
	maxMoves  = 3 // moves of one bucket: grants, backs and the close
)

// State is the whole world between two steps: MySQL, the memory of the processes, Redis, and what is on its way. It is
// comparable, so that two paths to the same state are walked on once.
type State struct {
	Pool   int16 // skus.available
	Closed int8  // skus.closed_until: ticks until the pool is sold again, 0 now, SoldOut never
	Rows   [maxRows]Row
	Orders [maxBuyers]Order
	Procs  [maxProcs]Proc
	Tries  [maxTries]Try // sorted, the empty ones last
	Epoch  int8          // of the sale in Redis, 1 at the start
	Redis  Redis
	Other  Redis // what Redis can go back to or forget to, or its other half after a split
	Fails  int8  // failures of Redis so far
}

// SoldOut is the Closed of a sold-out mark.
const SoldOut int8 = 100

// RowState is stock_buckets.state.
type RowState int8

// The states of a row; RowNone is an id that was not given out yet.
const (
	RowNone RowState = iota
	RowOpen
	RowClosed
)

// HomeRedis is the Home of a bucket in Redis; others are the number of a process.
const HomeRedis int8 = maxProcs

// Row is one of stock_buckets with its stock_moves; its id is its place in State.Rows. The bucket of an epoch in Redis
// has the epoch for its id, those of processes have the ids behind.
type Row struct {
	State     RowState
	Home      int8
	Remaining int16
	Seq       int8
	Moves     [maxMoves]int16 // delta by seq - 1; kept for a home in Redis only, which reads it
	Lied      bool            // Redis lost or went back while this was its bucket: invariant I ends here
}

// OrderState is what the database has of a buyer's key.
type OrderState int8

// The states of an order.
const (
	OrderNone OrderState = iota
	OrderPlaced
	OrderCancelled
)

// Order is the one order that a buyer's key can have.
type Order struct {
	State OrderState
	From  int8 // the bucket, 0 is the pool; see id
}

// Proc is the memory of one API process.
type Proc struct {
	Bucket int8 // id of the bucket that it takes from, 0: none
	Left   int16
	Given  Courier // granted in MySQL, not yet in Left
	Mark   Mark
}

// Courier is a move that is done on one side and on its way to the other.
type Courier struct {
	Bucket, Seq int8
	N           int16
}

// MarkPhase is how far a process is with reading a sold-out mark.
type MarkPhase int8

// The phases of a mark.
const (
	MarkNone   MarkPhase = iota
	MarkBegun            // the clock runs, the database was not read yet
	MarkRead             // closed_until was read, the keys of the orders were not
	MarkLoaded           // it refuses
)

// Mark is a process's leave to refuse from memory.
type Mark struct {
	Phase MarkPhase
	Ticks int8 // it ends then
	Keys  int8 // a bit for every buyer who is known to have an order
}

// TryPhase is where a request for an order is.
type TryPhase int8

// The phases of a try.
const (
	TryNone    TryPhase = iota
	TryTaken            // units were set aside, or none could be: the transaction comes next
	TryZombie           // nobody waits for it any more; its transaction may still run, once
	TryReturns          // MySQL refused it: its units go back to Redis
)

// Try is one request of a buyer that is being worked on.
type Try struct {
	Phase  TryPhase
	Buyer  int8
	Proc   int8
	Bucket int8 // of its ticket; 0: no ticket, the ledger decides
}

// Redis has one bucket of the sale: that of the epoch by which it was opened last.
type Redis struct {
	Token   int8 // the epoch, 0: there is no bucket
	Left    int16
	Seq     int8 // of the last move
	Tickets [maxBuyers]Ticket
}

// Ticket is the entry that makes deduct.lua and return.lua idempotent.
type Ticket struct {
	Taken    bool
	Returned bool
}

// row gives the row of a bucket id, which counts from 1.
func (s *State) row(bucket int8) *Row { return &s.Rows[bucket-1] }

// String prints a state for a person who reads a path.
func (s State) String() string {
	text := fmt.Sprintf("pool %d closed %d", s.Pool, s.Closed)
	for i, r := range s.Rows {
		if r.State != RowNone {
			text += fmt.Sprintf(" | bucket %d %+v", i+1, r)
		}
	}
	for i, p := range s.Procs {
		if p != (Proc{}) {
			text += fmt.Sprintf(" | process %d %+v", i, p)
		}
	}
	for _, t := range s.Tries {
		if t.Phase != TryNone {
			text += fmt.Sprintf(" | try %+v", t)
		}
	}
	if s.Redis != (Redis{}) || s.Other != (Redis{}) {
		text += fmt.Sprintf(" | epoch %d, redis %+v, other %+v", s.Epoch, s.Redis, s.Other)
	}
	return text + fmt.Sprintf(" | orders %+v", s.Orders)
}

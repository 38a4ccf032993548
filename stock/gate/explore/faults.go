package explore

// Fault is a set of mistakes that can be planted in the protocol. A walk that does not find them would show nothing.
type Fault uint64

// The faults, each named after what the wrong program does.
const (
	FaultGuardNoState  Fault = 1 << iota // the commit does not ask whether the bucket is open
	FaultGuardNoSum                      // the commit does not ask whether enough remains
	FaultCloseKeepsSum                   // a closed row keeps its remaining, though the pool gets it
	FaultCloseForgets                    // a closed row loses its remaining, and the pool does not get it
	FaultRecallOpen                      // a recall empties the row and leaves it open
	FaultNoRecall                        // a short pool is the end
	FaultRecallLocal                     // a short pool calls back what processes have, and not what Redis has
	FaultFencedShort                     // a ticket whose bucket is closed is refused
	FaultIDReused                        // a closed row is opened again
	FaultRaiseFirst                      // memory gets the grant before MySQL
	FaultGrantNoGuard                    // a grant does not ask what the pool has
	FaultGrantClosed                     // a grant does not ask whether the row is still open
	FaultBackTwice                       // refused units go back to memory twice
	FaultBackAnyBucket                   // refused units go to whatever bucket the process has now
	FaultDoubtIsNo                       // a COMMIT without an answer counts as refused
	FaultCancelTwice                     // a cancelled order goes back to the pool and to its bucket
	FaultMarkNoBuckets                   // sold out is set without a look at the buckets
	FaultMarkLong                        // a mark lives longer than a reopening takes
	FaultMarkLateClock                   // its life is counted from the answer of the database
	FaultMarkNoEnd                       // its life is not cut at closed_until
	FaultMarkKeysFirst                   // the keys are read before closed_until
	FaultMarkOldKeys                     // the keys of an earlier mark are taken for those of this one
	FaultReopenAtOnce                    // a reopening waits for no mark
	FaultReopenNever                     // what comes back stays unsold
	FaultSellsClosed                     // the pool is sold before closed_until
	FaultGrantSoldOut                    // a grant is made before closed_until
	FaultGiveNoSeq                       // grant.lua does not ask which move it is
	FaultReturnNoRef                     // return.lua does not ask whether it did this return before
	FaultRepeatTicket                    // a repeat uses the ticket of a try that still runs
	FaultGiveFirst                       // Redis gets units that the row does not have yet
	FaultReturnNoToken                   // return.lua asks neither for the epoch nor for what was deducted
	FaultOpenKeeps                       // open.lua leaves the units of the epoch before
	FaultEpochReused                     // the next epoch has the number of the last one
	FaultSweepRunning                    // the ticket of a try that still runs is given back
	FaultRefill                          // a bucket that Redis lost is filled again from its row
	FaultDenyUnasked                     // Redis' "nothing left" is told without asking for an order of this key
)

// has says whether a fault is planted.
func (m *Model) has(f Fault) bool { return m.Faults&f != 0 }

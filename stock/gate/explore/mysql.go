package explore

// Life of a mark and of a reopening, in ticks of about half a second: the second is longer than the first (1 s, 1.2 s).
const (
	markTicks   int8 = 2
	reopenTicks int8 = 3
)

// outcome is how a placing transaction decided.
type outcome int8

const (
	outcomeRepeat outcome = iota // the key has an order
	outcomeBucket                // new, from the bucket of its ticket
	outcomePool                  // new, from the pool
	outcomeShort
)

// place is the placing transaction of one order: from the bucket of its ticket, else from the pool, else, after a
// recall of all buckets, from the sum. One that is short on an empty pool sets the sold-out mark.
func (m *Model) place(s *State, buyer, bucket int8) outcome {
	o, want := &s.Orders[buyer], m.Wants[buyer]
	if o.State != OrderNone {
		return outcomeRepeat
	}
	if bucket != 0 {
		if r := s.row(bucket); m.guard(r, want) {
			r.Remaining -= want
			o.State = OrderPlaced
			if m.Redis {
				o.From = bucket
			}
			return outcomeBucket
		}
		if m.has(FaultFencedShort) {
			return outcomeShort
		}
	}
	if m.sells(s) {
		if s.Pool < want && !m.has(FaultNoRecall) {
			m.recall(s)
		}
		if s.Pool >= want {
			s.Pool -= want
			*o = Order{State: OrderPlaced}
			return outcomePool
		}
	}
	if m.Marks && s.Pool == 0 && (m.has(FaultMarkNoBuckets) || m.empty(s)) {
		s.Closed = SoldOut
	}
	return outcomeShort
}

// guard is the WHERE of the UPDATE that takes from a bucket.
func (m *Model) guard(r *Row, want int16) bool {
	return (r.State == RowOpen || m.has(FaultGuardNoState)) && (r.Remaining >= want || m.has(FaultGuardNoSum))
}

// sells says whether closed_until has come.
func (m *Model) sells(s *State) bool { return s.Closed == 0 || m.has(FaultSellsClosed) }

// empty says whether no bucket has a unit that could still be sold.
func (m *Model) empty(s *State) bool {
	for _, r := range s.Rows {
		if r.Remaining > 0 {
			return false
		}
	}
	return true
}

// recall closes all buckets, in processes and in Redis.
func (m *Model) recall(s *State) {
	for i := range s.Rows {
		if r := &s.Rows[i]; r.State == RowOpen && !(r.Home == HomeRedis && m.has(FaultRecallLocal)) {
			m.closeRow(s, r)
			if m.has(FaultRecallOpen) {
				r.State = RowOpen
			}
		}
	}
}

// closeRow takes what remains of a bucket back to the pool. Whoever has units of it finds no row from now on.
func (m *Model) closeRow(s *State, r *Row) {
	if !m.has(FaultCloseForgets) {
		s.Pool += r.Remaining
	}
	r.State = RowClosed
	if !m.has(FaultCloseKeepsSum) {
		r.Remaining = 0
	}
	r.Moves, r.Lied = [maxMoves]int16{}, false // nothing reads them any more
}

// grant moves units from the pool into a bucket, 0 for a new one, and gives its number and how many they were: 0 when
// that cannot be.
func (m *Model) grant(s *State, home, bucket int8, want int16) (id int8, n int16) {
	n = m.share(s, bucket, want)
	if n == 0 || s.Pool < n && !m.has(FaultGrantNoGuard) || s.Closed != 0 && !m.has(FaultGrantSoldOut) {
		return 0, 0
	}
	if bucket == 0 {
		if bucket = m.fresh(s); bucket == 0 {
			return 0, 0
		}
		*s.row(bucket) = Row{State: RowOpen, Home: home}
	}
	r := s.row(bucket)
	if home == HomeRedis && r.State == RowNone { // the bucket of its epoch
		*r = Row{State: RowOpen, Home: home}
	}
	if r.State != RowOpen && !m.has(FaultGrantClosed) || r.Seq >= m.Moves {
		return 0, 0
	}
	s.Pool -= n
	r.Remaining += n
	r.Seq++
	if home == HomeRedis {
		r.Moves[r.Seq-1] = n
	}
	return bucket, n
}

// The rule of package stock for how much a holder gets, written down once more.
const (
	leastGrant    int16 = 16
	keepPerHolder int16 = 64
)

// share is what a grant gets of what it wants: all of it, or by the rule half of what the pool has for each holder, and
// nothing when the pool is not deep.
func (m *Model) share(s *State, bucket int8, want int16) int16 {
	if !m.Share {
		return want
	}
	holders := int16(1)
	for i, r := range s.Rows {
		if r.State == RowOpen && int8(i+1) != bucket {
			holders++
		}
	}
	n := min(want, s.Pool/(2*holders))
	if s.Pool < keepPerHolder*holders || n < leastGrant {
		return 0
	}
	return n
}

// fresh gives an id that no bucket had, 0 when the world has no more of them.
func (m *Model) fresh(s *State) int8 {
	for i := m.Epochs; i < m.Rows; i++ {
		if r := s.Rows[i]; r.State == RowNone || r.State == RowClosed && m.has(FaultIDReused) {
			return i + 1
		}
	}
	return 0
}

// reopen ends a sold-out mark when there is something to sell, after the time that all marks need to end.
func (m *Model) reopen(s *State) bool {
	if s.Closed != SoldOut || s.Pool == 0 || m.has(FaultReopenNever) {
		return false
	}
	s.Closed = reopenTicks
	if m.has(FaultReopenAtOnce) {
		s.Closed = 0
	}
	return true
}

// cancel gives the units of an order back to the pool, wherever they came from.
func (m *Model) cancel(s *State, buyer int8) {
	o := &s.Orders[buyer]
	s.Pool += m.Wants[buyer]
	if m.has(FaultCancelTwice) && o.From != 0 {
		s.row(o.From).Remaining += m.Wants[buyer]
	}
	o.State = OrderCancelled
}

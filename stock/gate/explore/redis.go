package explore

// stepsOfRedis are those of buckets in Redis, and of a Redis that fails. Any keeper does them at any time, also one
// that has no reason to: the protocol may not need one.
func (m *Model) stepsOfRedis(s *State, yield emit) {
	for _, want := range m.Grants {
		next := *s
		if id, n := m.grant(&next, HomeRedis, s.Epoch, want); id != 0 {
			yield(Step{Kind: StepGrant, Proc: HomeRedis, Bucket: id, N: n}, next)
		}
	}
	m.newEpoch(s, yield)
	m.redisOpen(s, yield)
	if s.Redis.Token != 0 {
		m.stepsOfBucket(s, yield)
	}
	m.stepsOfFailure(s, yield)
}

// newEpoch closes all buckets of the SKU, in Redis and elsewhere, and begins the next epoch in the same transaction.
func (m *Model) newEpoch(s *State, yield emit) {
	next := *s
	for i := range next.Rows {
		if r := &next.Rows[i]; r.State == RowOpen {
			m.closeRow(&next, r)
		}
	}
	switch {
	case m.has(FaultEpochReused):
		*next.row(s.Epoch) = Row{}
	case s.Epoch < m.Epochs:
		next.Epoch++
	default:
		return
	}
	if next != *s {
		yield(Step{Kind: StepEpoch, Bucket: next.Epoch}, next)
	}
}

// redisOpen is open.lua with the token of any epoch so far, from whichever keeper: one that is not higher than that of
// the bucket that is there does nothing.
func (m *Model) redisOpen(s *State, yield emit) {
	for epoch := s.Redis.Token + 1; epoch <= s.Epoch; epoch++ {
		next := *s
		next.Redis = Redis{Token: epoch}
		if m.has(FaultOpenKeeps) {
			next.Redis.Left = s.Redis.Left
		}
		yield(Step{Kind: StepRedisOpen, Bucket: epoch}, next)
	}
	r := s.row(s.Epoch)
	if m.has(FaultRefill) && r.Lied && s.Redis.Token == 0 {
		next := *s
		next.Redis = Redis{Token: s.Epoch, Left: r.Remaining, Seq: r.Seq}
		next.row(s.Epoch).Lied = false // so it believes
		yield(Step{Kind: StepRedisRefill, Bucket: s.Epoch}, next)
	}
}

// stepsOfBucket are the scripts on the bucket that is there. The keeper reads its row before it does a move.
func (m *Model) stepsOfBucket(s *State, yield emit) {
	bucket := s.Redis.Token
	r := s.row(bucket)
	last := r.Seq
	if m.has(FaultGiveFirst) && last < m.Moves {
		last++
	}
	for seq := int8(1); seq <= last && r.State != RowClosed; seq++ {
		next := *s
		if m.redisGive(&next, bucket, seq) {
			yield(Step{Kind: StepRedisGive, Bucket: bucket, N: int16(seq)}, next)
		}
	}
	for b := range int8(maxBuyers) {
		if m.Wants[b] > 0 {
			m.redisTake(s, b, yield)
			m.redisSweep(s, b, yield)
		}
	}
}

// redisGive is grant.lua: a move of MySQL is applied when it is the next one, and only then.
func (m *Model) redisGive(s *State, bucket, seq int8) bool {
	h, delta := &s.Redis, s.row(bucket).Moves[seq-1]
	if delta == 0 { // only with a fault: MySQL does not have it
		delta = m.Grants[0]
	}
	if seq != h.Seq+1 && !m.has(FaultGiveNoSeq) || h.Left+delta > 2*m.Units {
		return false
	}
	h.Seq = max(h.Seq, seq)
	h.Left += delta
	return true
}

// redisTake is deduct.lua and what its caller makes of the answer. A request that finds the ticket of another try, or
// not enough, is left to the ledger, like one that asks no bucket: that is in stepsOfBuyer.
func (m *Model) redisTake(s *State, b int8, yield emit) {
	next := *s
	h, ticket := &next.Redis, &next.Redis.Tickets[b]
	switch {
	case ticket.Taken && (ticket.Returned || !m.has(FaultRepeatTicket)):
		return
	case ticket.Taken:
	case h.Left >= m.Wants[b]:
		h.Left -= m.Wants[b]
		*ticket = Ticket{Taken: true}
	default:
		if m.has(FaultDenyUnasked) {
			yield(Step{Kind: StepDeny, Buyer: b, Bucket: h.Token, Answer: AnswerDenied}, *s)
		}
		return
	}
	if next.begin(Try{Phase: TryTaken, Buyer: b, Bucket: h.Token}, m.Tries) {
		yield(Step{Kind: StepRedisTake, Buyer: b, Bucket: h.Token}, next)
	}
}

// redisSweep gives back the units of a ticket that became no order, when its try has ended: a ticket is swept long
// after the last transaction of its try can have run.
func (m *Model) redisSweep(s *State, b int8, yield emit) {
	ticket := s.Redis.Tickets[b]
	placed := s.Orders[b].State != OrderNone && s.Orders[b].From == s.Redis.Token
	if !ticket.Taken || ticket.Returned || placed || s.inUse(b) && !m.has(FaultSweepRunning) {
		return
	}
	next := *s
	m.redisReturn(&next, Try{Buyer: b, Bucket: s.Redis.Token})
	yield(Step{Kind: StepRedisSweep, Buyer: b, Bucket: s.Redis.Token}, next)
}

// inUse says whether a try of a buyer is on its way.
func (s *State) inUse(b int8) bool {
	for _, t := range s.Tries {
		if t.Phase != TryNone && t.Buyer == b {
			return true
		}
	}
	return false
}

// redisReturn is return.lua: once for a ticket, and only to the bucket that it is of.
func (m *Model) redisReturn(s *State, t Try) {
	h, ticket := &s.Redis, &s.Redis.Tickets[t.Buyer]
	ours := h.Token == t.Bucket || h.Token != 0 && m.has(FaultReturnNoToken)
	known := ticket.Taken && !ticket.Returned
	if ours && (known || (m.has(FaultReturnNoRef) || m.has(FaultReturnNoToken)) && h.Left < m.Units) {
		h.Left += m.Wants[t.Buyer]
		ticket.Taken, ticket.Returned = true, true
	}
}

// stepsOfFailure are those of a Redis that loses everything, goes back to what it was at some earlier moment, or splits
// in two halves that answer in turn.
func (m *Model) stepsOfFailure(s *State, yield emit) {
	lie := func(next State, kind Kind) {
		if next.Redis == s.Redis {
			return
		}
		for i := range next.Rows {
			if r := &next.Rows[i]; r.Home == HomeRedis && r.State == RowOpen {
				r.Lied = true
			}
		}
		yield(Step{Kind: kind}, next)
	}
	next := *s
	if s.Other == (Redis{}) && s.Redis != s.Other && s.Fails < m.Fails {
		next.Other = s.Redis
		yield(Step{Kind: StepRedisSave}, next)
	}
	if m.Split {
		next.Redis, next.Other = s.Other, s.Redis
		lie(next, StepRedisSwap)
		return
	}
	if s.Fails >= m.Fails {
		return
	}
	next = *s
	next.Redis, next.Other, next.Fails = s.Other, Redis{}, s.Fails+1
	kind := StepRedisRestore
	if s.Other == (Redis{}) {
		kind = StepRedisLose
	}
	lie(next, kind)
}

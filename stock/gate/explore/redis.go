package explore

// stepsOfRedis are those of buckets in Redis, and of a Redis that fails.
func (m *Model) stepsOfRedis(s *State, yield emit) {
	for _, want := range m.Grants {
		for bucket := range m.Rows + 1 { // 0: a new one
			if bucket != 0 && s.row(bucket).Home != HomeRedis {
				continue
			}
			next := *s
			if id, n := m.grant(&next, HomeRedis, bucket, want); id != 0 {
				yield(Step{Kind: StepGrant, Proc: HomeRedis, Bucket: id, N: n}, next)
			}
		}
	}
	for i := range m.Rows {
		if r := &s.Rows[i]; r.State != RowNone && r.Home == HomeRedis {
			m.stepsOfRedisHome(s, i+1, yield)
		}
	}
	m.stepBack(s, yield)
	m.stepsOfFailure(s, yield)
}

// stepsOfRedisHome are the scripts on one bucket.
func (m *Model) stepsOfRedisHome(s *State, bucket int8, yield emit) {
	r, h := s.row(bucket), &s.Redis.Homes[bucket-1]
	if !h.Exists {
		next := *s
		if r.State == RowOpen {
			next.Redis.Homes[bucket-1] = Home{Exists: true}
			yield(Step{Kind: StepRedisOpen, Bucket: bucket}, next)
		}
		if m.has(FaultRefill) && r.Lied {
			next.Redis.Homes[bucket-1] = Home{Exists: true, Left: r.Remaining, Seq: r.Seq}
			next.row(bucket).Lied = false // so it believes
			yield(Step{Kind: StepRedisRefill, Bucket: bucket}, next)
		}
		return
	}
	for seq := int8(1); seq <= r.Seq && r.State != RowClosed; seq++ {
		next := *s
		if m.redisGive(&next, bucket, seq) {
			yield(Step{Kind: StepRedisGive, Bucket: bucket, N: int16(seq)}, next)
		}
	}
	for b := range int8(maxBuyers) {
		if m.Wants[b] > 0 {
			m.redisTake(s, bucket, b, yield)
		}
	}
	m.redisBack(s, bucket, yield)
}

// redisGive is grant.lua: a move of MySQL is applied when it is the next one, and only then.
func (m *Model) redisGive(s *State, bucket, seq int8) bool {
	h, delta := &s.Redis.Homes[bucket-1], s.row(bucket).Moves[seq-1]
	if seq != h.Seq+1 && !m.has(FaultGiveNoSeq) || h.Left+delta < 0 || h.Left+delta > 2*m.Units {
		return false
	}
	h.Seq, h.M = max(h.Seq, seq), 0
	h.Left += delta
	return true
}

// redisTake is deduct.lua and what its caller makes of the answer. The ticket is found again by whoever repeats the
// request. While the try that made it is on its way a repeat has no use of it; afterwards, when no transaction of that
// can still run, anybody places it.
func (m *Model) redisTake(s *State, bucket, b int8, yield emit) {
	next := *s
	h, ticket := &next.Redis.Homes[bucket-1], &next.Redis.Tickets[b]
	switch {
	case ticket.Bucket != 0 && ticket.Bucket != bucket:
		return // a buyer is always sent to the same bucket
	case m.has(FaultTakeNoTicket) && h.Left >= m.Wants[b]:
		h.Left -= m.Wants[b]
		*ticket = Ticket{Bucket: bucket}
	case ticket.Bucket != 0 && (ticket.Returned || !m.has(FaultRepeatTicket) && s.inUse(b)):
		return
	case ticket.Bucket != 0:
	case h.Left >= m.Wants[b]:
		h.Left -= m.Wants[b]
		*ticket = Ticket{Bucket: bucket}
	default:
		if s.Orders[b].State == OrderNone || m.has(FaultDenyUnasked) {
			yield(Step{Kind: StepDeny, Buyer: b, Bucket: bucket, Answer: AnswerDenied}, *s)
		}
		return
	}
	if next.begin(Try{Phase: TryTaken, Buyer: b, Bucket: bucket}, m.Tries) {
		yield(Step{Kind: StepRedisTake, Buyer: b, Bucket: bucket}, next)
	}
}

// inUse says whether a try with the ticket of a buyer is on its way.
func (s *State) inUse(b int8) bool {
	for _, t := range s.Tries {
		if t.Phase != TryNone && t.Buyer == b {
			return true
		}
	}
	return false
}

// redisReturn is return.lua: once for a ticket.
func (m *Model) redisReturn(s *State, t Try) {
	h, ticket := &s.Redis.Homes[t.Bucket-1], &s.Redis.Tickets[t.Buyer]
	known := ticket.Bucket == t.Bucket && !ticket.Returned
	if h.Exists && (known || m.has(FaultReturnNoRef) && h.Left < m.Units) {
		h.Left += m.Wants[t.Buyer]
		ticket.Returned = true
	}
}

// redisBack is back.lua, with the number that follows what the keeper read in MySQL, which may be old: a move of this
// number that Redis did before is told again, anything else is nothing.
func (m *Model) redisBack(s *State, bucket int8, yield emit) {
	r, h := s.row(bucket), &s.Redis.Homes[bucket-1]
	if r.State == RowClosed {
		return
	}
	next := *s
	switch {
	case m.has(FaultBackMySQLFirst):
		if s.Back.Bucket != 0 || r.Remaining == 0 || r.Seq >= m.Moves {
			return
		}
		n := min(1, r.Remaining)
		next.Pool += n
		next.row(bucket).Remaining -= n
		next.row(bucket).Seq++
		next.row(bucket).Moves[r.Seq] = -n
		yield(Step{Kind: StepBack, Bucket: bucket, N: n}, next)
		return
	case h.Seq <= r.Seq && h.Seq < m.Moves && h.Left > 0:
		to := &next.Redis.Homes[bucket-1]
		*to = Home{Exists: true, Left: h.Left - 1, Seq: h.Seq + 1, M: 1}
		next.Back = Courier{Bucket: bucket, Seq: to.Seq, N: 1}
	case h.M > 0:
		next.Back = Courier{Bucket: bucket, Seq: h.Seq, N: h.M}
	}
	if next != *s {
		yield(Step{Kind: StepRedisBack, Bucket: bucket}, next)
	}
}

// stepBack is the second half of a back: MySQL takes from the bucket what Redis gave up. The answer may be lost, so
// that it is done again.
func (m *Model) stepBack(s *State, yield emit) {
	if s.Back.Bucket == 0 {
		return
	}
	next, r := *s, s.row(s.Back.Bucket)
	ours := r.Seq == s.Back.Seq-1 || m.has(FaultBackNoSeq) && r.Seq < m.Moves
	if ours && r.Remaining >= s.Back.N && (r.State == RowOpen || r.State == RowClosing) {
		to := next.row(s.Back.Bucket)
		to.Remaining -= s.Back.N
		to.Moves[r.Seq] = -s.Back.N
		to.Seq++
		next.Pool += s.Back.N
		yield(Step{Kind: StepBack, Bucket: s.Back.Bucket, N: s.Back.N, Lost: true}, next)
	}
	next.Back = Courier{}
	yield(Step{Kind: StepBack, Bucket: s.Back.Bucket, N: s.Back.N}, next)
}

// stepsOfFailure are those of a Redis that loses everything, goes back to what it was at some earlier moment, or splits
// in two halves that answer in turn.
func (m *Model) stepsOfFailure(s *State, yield emit) {
	lie := func(next State, kind Kind) {
		if next.Redis == s.Redis {
			return
		}
		for i := range next.Rows {
			if r := &next.Rows[i]; r.Home == HomeRedis && (r.State == RowOpen || r.State == RowClosing) {
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

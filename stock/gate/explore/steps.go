package explore

// emit is called with a step and what it leads to.
type emit func(st Step, next State)

// steps gives every step that can come next.
func (m *Model) steps(s *State, yield emit) {
	for p := range int8(maxProcs) {
		if m.Local {
			m.stepsOfHome(s, p, yield)
		}
		if m.Marks && !m.Unread {
			m.stepsOfMark(s, p, yield)
		}
		m.crash(s, p, yield)
	}
	for b := range int8(maxBuyers) {
		if m.Wants[b] > 0 {
			m.stepsOfBuyer(s, b, yield)
		}
	}
	for i, t := range s.Tries {
		m.stepsOfTry(s, i, t, yield)
	}
	m.stepsOfKeeper(s, yield)
	if m.Redis {
		m.stepsOfRedis(s, yield)
	}
}

// stepsOfHome are those of a bucket in the memory of a process: grant in MySQL, raise in memory, notice the end.
func (m *Model) stepsOfHome(s *State, p int8, yield emit) {
	me := s.Procs[p]
	if me.Given != (Courier{}) {
		next := *s
		if me.Bucket == 0 || me.Bucket == me.Given.Bucket {
			next.Procs[p].Bucket = me.Given.Bucket
			next.Procs[p].Left += me.Given.N
		}
		next.Procs[p].Given = Courier{}
		yield(Step{Kind: StepRaise, Proc: p, Bucket: me.Given.Bucket, N: me.Given.N}, next)
		return // one grant at a time
	}
	for _, want := range m.Grants {
		next := *s
		bucket, n := m.grant(&next, p, me.Bucket, want)
		if bucket == 0 {
			continue
		}
		yield(Step{Kind: StepGrant, Proc: p, Bucket: bucket, N: n, Lost: true}, next)
		next.Procs[p].Given = Courier{Bucket: bucket, N: n}
		yield(Step{Kind: StepGrant, Proc: p, Bucket: bucket, N: n}, next)
	}
	if me.Bucket == 0 {
		return
	}
	if m.has(FaultRaiseFirst) && me.Left < m.Units {
		next := *s
		next.Procs[p].Left++
		yield(Step{Kind: StepRaise, Proc: p, Bucket: me.Bucket, N: 1}, next)
	}
	if s.row(me.Bucket).State == RowClosed {
		next := *s
		m.leave(&next, p, me.Bucket)
		yield(Step{Kind: StepNotice, Proc: p, Bucket: me.Bucket}, next)
	}
}

// leave makes a process forget a bucket. What its memory had of it stays in the row until somebody closes that.
func (m *Model) leave(s *State, p, bucket int8) {
	if bucket != 0 && s.Procs[p].Bucket == bucket {
		s.Procs[p].Bucket, s.Procs[p].Left = 0, 0
	}
}

// crash empties a process. The transactions of its requests may have been sent.
func (m *Model) crash(s *State, p int8, yield emit) {
	next := *s
	next.Procs[p] = Proc{}
	for i, t := range s.Tries {
		if t.Proc == p && t.Phase == TryTaken {
			next.Tries[i] = Try{Phase: TryZombie, Buyer: t.Buyer, Bucket: t.Bucket}
		}
		if t.Proc == p && t.Phase == TryReturns { // its ticket is nobody's: see redisSweep
			next.Tries[i] = Try{}
		}
	}
	if next != *s {
		yield(Step{Kind: StepCrash, Proc: p}, next)
	}
}

// stepsOfBuyer are a request, which a process may refuse from memory, or set units aside for, or leave to the ledger;
// and the end of an order. What the ledger decides alone holds nothing while it is on its way, so it is one step.
func (m *Model) stepsOfBuyer(s *State, b int8, yield emit) {
	for p, me := range s.Procs {
		if me.Mark.Phase == MarkLoaded && me.Mark.Keys>>b&1 == 0 {
			yield(Step{Kind: StepDeny, Proc: int8(p), Buyer: b, Answer: AnswerDenied}, *s)
		} else if me.Bucket != 0 && me.Left >= m.Wants[b] {
			next := *s
			next.Procs[p].Left -= m.Wants[b]
			if next.begin(Try{Phase: TryTaken, Buyer: b, Proc: int8(p), Bucket: me.Bucket}, m.Tries) {
				yield(Step{Kind: StepTake, Proc: int8(p), Buyer: b, Bucket: me.Bucket}, next)
			}
		}
	}
	m.answer(s, -1, Try{Buyer: b}, yield)
	if s.Orders[b].State == OrderPlaced {
		next := *s
		m.cancel(&next, b)
		yield(Step{Kind: StepCancel, Buyer: b}, next)
	}
}

// begin puts a request with a ticket on its way, where limit leaves room for it.
func (s *State) begin(t Try, limit int) bool {
	for i := range s.Tries[:limit] {
		if s.Tries[i].Phase == TryNone {
			s.Tries[i] = t
			return true
		}
	}
	return false
}

// stepsOfTry are those of one request: its transaction runs and is answered, or refuses for a reason of its own, or is
// not heard of again.
func (m *Model) stepsOfTry(s *State, i int, t Try, yield emit) {
	st := Step{Proc: t.Proc, Buyer: t.Buyer, Bucket: t.Bucket}
	emit := func(kind Kind, answer Answer, change func(next *State)) {
		next := *s
		change(&next)
		st.Kind, st.Answer = kind, answer
		yield(st, next)
	}
	switch t.Phase {
	case TryTaken:
		m.answer(s, i, t, yield)
		if s.Orders[t.Buyer].State == OrderNone {
			emit(StepForbid, AnswerNone, func(next *State) { m.unspent(next, i, t) })
		}
		emit(StepDoubt, AnswerNone, func(next *State) {
			if m.has(FaultDoubtIsNo) {
				m.unspent(next, i, t)
			} else {
				m.leave(next, t.Proc, t.Bucket)
			}
			next.Tries[i] = Try{Phase: TryZombie, Buyer: t.Buyer, Bucket: t.Bucket}
		})
	case TryZombie:
		emit(StepLate, AnswerNone, func(next *State) {
			m.place(next, t.Buyer, t.Bucket)
			next.Tries[i] = Try{}
		})
		emit(StepVanish, AnswerNone, func(next *State) { next.Tries[i] = Try{} })
	case TryReturns:
		for _, lost := range []bool{false, true} {
			next := *s
			m.redisReturn(&next, t)
			if !lost {
				next.Tries[i] = Try{}
			}
			yield(Step{Kind: StepRedisReturn, Buyer: t.Buyer, Bucket: t.Bucket, Lost: lost}, next)
		}
	case TryNone:
	}
}

// answer runs the transaction of a request, at i of those on their way or -1, and settles its ticket: spent, or given
// back, or fenced, and then the process leaves that bucket.
func (m *Model) answer(s *State, i int, t Try, yield emit) {
	next := *s
	st := Step{Kind: StepPlace, Proc: t.Proc, Buyer: t.Buyer, Bucket: t.Bucket, Answer: AnswerOrdered}
	if i >= 0 {
		next.Tries[i] = Try{}
	}
	switch m.place(&next, t.Buyer, t.Bucket) {
	case outcomeRepeat: // of a try whose ticket was another one
		if t.Bucket != 0 {
			m.unspent(&next, i, t)
		}
	case outcomeBucket:
	case outcomePool:
		m.leave(&next, t.Proc, t.Bucket)
	case outcomeShort:
		st.Answer = AnswerShort
		m.leave(&next, t.Proc, t.Bucket)
	}
	yield(st, next)
}

// unspent gives the units of a ticket back to their home, when it still is that.
func (m *Model) unspent(s *State, i int, t Try) {
	s.Tries[i] = Try{}
	if t.Bucket == 0 {
		return
	}
	if s.row(t.Bucket).Home == HomeRedis {
		t.Phase = TryReturns
		s.Tries[i] = t
		return
	}
	me := &s.Procs[t.Proc]
	if me.Bucket == t.Bucket || me.Bucket != 0 && m.has(FaultBackAnyBucket) {
		me.Left += m.Wants[t.Buyer]
		if m.has(FaultBackTwice) {
			me.Left += m.Wants[t.Buyer]
		}
	}
}

// stepsOfKeeper are those that any process may do for all: close buckets, reopen the pool. Time passes here too.
func (m *Model) stepsOfKeeper(s *State, yield emit) {
	for i := range s.Rows {
		r, st := &s.Rows[i], Step{Kind: StepClose, Bucket: int8(i + 1)}
		if r.State == RowOpen {
			next := *s
			m.closeRow(&next, &next.Rows[i])
			yield(st, next)
		}
	}
	next := *s
	if m.reopen(&next) {
		yield(Step{Kind: StepReopen}, next)
	}
	next = *s
	if m.tick(&next) {
		yield(Step{Kind: StepTick}, next)
	}
}

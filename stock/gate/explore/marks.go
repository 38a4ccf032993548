package explore

// tick lets time pass for the pool and for all marks, and says whether anything waited for it.
func (m *Model) tick(s *State) bool {
	before := *s
	if s.Closed > 0 && s.Closed != SoldOut {
		s.Closed--
	}
	for p := range s.Procs {
		mark := &s.Procs[p].Mark
		if mark.Phase == MarkNone || mark.Phase != MarkLoaded && m.has(FaultMarkLateClock) {
			continue
		}
		if mark.Ticks--; mark.Ticks == 0 {
			m.endMark(mark)
		}
	}
	return *s != before
}

// endMark makes a process ask the database again.
func (m *Model) endMark(mark *Mark) {
	old := mark.Keys
	*mark = Mark{}
	if m.has(FaultMarkOldKeys) {
		mark.Keys = old
	}
}

// stepsOfMark are those of a process that reads a mark: the time first, then closed_until, then the keys of the orders.
func (m *Model) stepsOfMark(s *State, p int8, yield emit) {
	next, st := *s, Step{Proc: p}
	mark := &next.Procs[p].Mark
	switch mark.Phase {
	case MarkNone:
		if s.Closed == 0 {
			return // nobody reads a mark without having seen one
		}
		st.Kind = StepMarkBegin
		mark.Phase, mark.Ticks = MarkBegun, markTicks
		if m.has(FaultMarkLong) {
			mark.Ticks = reopenTicks + 1
		}
		if m.has(FaultMarkKeysFirst) {
			mark.Keys = keys(s)
		}
	case MarkBegun:
		st.Kind = StepMarkRead
		mark.Phase = MarkRead
		if s.Closed == 0 {
			m.endMark(mark)
		} else if passed := markTicks - mark.Ticks; s.Closed < markTicks && !m.has(FaultMarkNoEnd) {
			if mark.Ticks = s.Closed - passed; mark.Ticks <= 0 {
				m.endMark(mark)
			}
		}
	case MarkRead:
		st.Kind = StepMarkLoad
		mark.Phase = MarkLoaded
		if !m.has(FaultMarkKeysFirst) && (!m.has(FaultMarkOldKeys) || mark.Keys == 0) {
			mark.Keys = keys(s)
		}
	case MarkLoaded:
		return
	}
	yield(st, next)
}

// keys is the set of those who have an order.
func keys(s *State) (set int8) {
	for b, o := range s.Orders {
		if o.State != OrderNone {
			set |= 1 << b
		}
	}
	return set
}

package explore

import "fmt"

// Line is one small world of a sale with a queue: a pool, one bucket of each epoch in Redis, buyers of one unit each,
// and drainers that make orders of those who wait. A step is one transaction, one script of Redis, or the death of
// somebody. Keepers do theirs at any time, also without a reason.
type Line struct {
	Name     string
	Units    int8 // in the pool at the start
	Buyers   int8 // at most lineBuyers
	Drainers int8 // at most lineDrainers
	Epochs   int8 // at most lineEpochs
	Numbers  int8 // order numbers of one buyer: tries that may be new
	Fails    int8 // how often Redis loses everything or goes back
	Faults   LineFault
}

// Sizes of the arrays of a LineState.
const (
	lineBuyers   = 3
	lineDrainers = 2
	lineEpochs   = 2
)

// LineFault is a set of mistakes that can be planted in the protocol of the queue.
type LineFault uint16

// The faults, each named after what the wrong program does.
const (
	LineDoneUnplaced  LineFault = 1 << iota // what could not be made at this moment is told as done
	LineClaimRemoves                        // a claim takes the entry out of the queue
	LineWithdrawsLate                       // what is claimed is withdrawn all the same
	LineOpensEarly                          // the next epoch is opened while somebody of before waits
	LineAloneSells                          // a process without Redis sells from the pool of a sale that others keep
	LineUnasked                             // who is new to the bucket is not looked for among the orders
	LineNewNumber                           // an order is made under a number of its own
	LineRefusesTwice                        // a refusal that is told again gives its unit back again
	LineForgetsEnd                          // what became of a placement that was refused is not kept
	LineRecalls                             // a short pool calls back what is set aside for those who wait
	LineEndsEarly                           // an epoch ends in order while somebody waits
)

func (m *Line) has(f LineFault) bool { return m.Faults&f != 0 }

// lineEntry is a buyer's place in line, as Redis has it.
type lineEntry struct {
	No      int8 // the number of his order, 0: he does not wait
	Epoch   int8 // of the bucket that his unit is from
	Claimed bool
}

// lineEnded is what Redis tells of a place in line that has ended.
type lineEnded struct {
	Withdrawn int8 // the number
	Refused   int8 // a bit for each number
}

// lineRedis is the bucket of the last opening, and all who wait.
type lineRedis struct {
	Token int8 // the epoch, 0: there is no bucket
	Open  bool
	Left  int8
	Given bool // the move of its row has arrived
	Line  [lineBuyers]lineEntry
	Ended [lineBuyers]lineEnded
}

// lineRow is the row of the bucket of an epoch.
type lineRow struct {
	State     RowState // RowOpen, also while it runs out
	Closing   bool
	Remaining int8
	Lied      bool // Redis went back or forgot while this was its bucket: from then on it may promise too much
}

// lineTold is what a buyer was told last.
type lineTold struct {
	No        int8 // 202, under this number
	Withdrawn int8 // this number is withdrawn
	Doubt     bool // Redis lost something since
	Earlier   bool // Redis lost something since he was told anything: his order may be of an earlier number
	TooMuch   bool // he was told by a bucket that may promise too much
}

// lineClaim is what a drainer works on.
type lineClaim struct {
	Buyer, No, Epoch int8 // No 0: nothing
	Phase            linePhase
}

// linePhase is how far a drainer is.
type linePhase int8

// The phases of a claim.
const (
	lineClaimed linePhase = iota // its transaction comes next
	linePlaced                   // the queue is to be told that it is done
	lineRefused                  // the queue is to be told that there is none
)

// LineState is the world between two steps. It is comparable.
type LineState struct {
	Pool   int8
	Epoch  int8
	Rows   [lineEpochs]lineRow
	Orders [lineBuyers]int8 // the number of the order of a buyer's key, 0: he has none
	Last   [lineBuyers]int8 // the last number that was made for him
	Told   [lineBuyers]lineTold
	Redis  lineRedis
	Saved  lineRedis // what Redis may go back to
	Claims [lineDrainers]lineClaim
	Fails  int8
}

// lineEmit is called with a step, what it leads to, and what was wrong about the step itself.
type lineEmit func(step string, next LineState, wrong error)

// first is the state in which all begins.
func (m *Line) first() LineState { return LineState{Pool: m.Units, Epoch: 1} }

// steps gives every step that can come next.
func (m *Line) steps(s *LineState, yield lineEmit) {
	for b := range m.Buyers {
		m.ask(s, b, yield)
		m.withdraw(s, b, yield)
	}
	for d := range m.Drainers {
		m.drain(s, d, yield)
	}
	m.keep(s, yield)
	m.fail(s, yield)
}

// row gives the row of an epoch's bucket.
func (s *LineState) row(epoch int8) *lineRow { return &s.Rows[epoch-1] }

// waits says that somebody is in line.
func (s *LineState) waits() bool {
	for _, e := range s.Redis.Line {
		if e.No != 0 {
			return true
		}
	}
	return false
}

// elsewhere says that a bucket which is not closed has units.
func (s *LineState) elsewhere() bool {
	for _, r := range s.Rows {
		if r.State == RowOpen && r.Remaining > 0 {
			return true
		}
	}
	return false
}

// told notes a 202.
func (s *LineState) told(b, no int8) {
	lied := false
	if e := s.Redis.Line[b]; e.No == no {
		lied = s.row(e.Epoch).Lied
	}
	s.Told[b] = lineTold{No: no, Withdrawn: s.Told[b].Withdrawn, Earlier: s.Told[b].Earlier || lied, TooMuch: lied}
}

// ask is a placement, the first one or a repeat with the same key. The ledger is asked before an answer is given that
// an order of this key would belie.
func (m *Line) ask(s *LineState, b int8, yield lineEmit) {
	r, name := &s.Redis, func(what string) string { return fmt.Sprintf("buyer %d asks: %s", b, what) }
	switch e := r.Line[b]; {
	case s.Orders[b] != 0 && !m.has(LineUnasked):
		return // it is answered with his order
	case e.No != 0:
		next := *s
		next.told(b, e.No)
		yield(name("he waits"), next, nil)
		return
	case r.Ended[b].Withdrawn != 0:
		return // he is told so
	case r.Token != 0 && r.Open && r.Left > 0:
		if s.Last[b] == m.Numbers {
			return
		}
		next := *s
		next.Last[b]++
		next.Redis.Left--
		no := next.Last[b]
		direct := next
		next.Redis.Line[b] = lineEntry{No: no, Epoch: r.Token}
		yield(name("he is put in line, the answer is lost"), next, nil)
		next.told(b, no)
		yield(name("he is put in line"), next, nil)
		if _, ok := m.place(&direct, b, no, r.Token); ok {
			yield(name("ordered at once"), direct, nil)
		}
		return
	}
	m.ledger(s, b, yield)
}

// ledger is a placement that no bucket takes: of the pool it has nothing, which is for those who wait.
func (m *Line) ledger(s *LineState, b int8, yield lineEmit) {
	if s.Last[b] == m.Numbers {
		return
	}
	next := *s
	if m.has(LineRecalls) {
		m.closeRows(&next)
	}
	sells := m.has(LineAloneSells) || m.has(LineRecalls)
	switch {
	case next.Pool > 0 && sells:
		next.Last[b]++
		next.Pool--
		next.Orders[b] = next.Last[b]
		yield(fmt.Sprintf("buyer %d buys from the pool", b), next, nil)
	case s.Pool == 0 && !s.elsewhere():
		var wrong error
		if free := m.Units - s.sold(); free > 0 {
			wrong = fmt.Errorf("buyer %d was refused with %d unsold", b, free)
		}
		yield(fmt.Sprintf("buyer %d is refused", b), *s, wrong)
	}
}

// sold is how many orders there are.
func (s *LineState) sold() (n int8) {
	for _, no := range s.Orders {
		if no != 0 {
			n++
		}
	}
	return n
}

// place is the placing transaction: of its bucket, of the pool when that is closed, once for a key. refused: it becomes
// no order. Neither: it can be made later.
func (m *Line) place(s *LineState, b, no, epoch int8) (refused, placed bool) {
	r := s.row(epoch)
	switch {
	case s.Orders[b] != 0:
		return s.Orders[b] != no, s.Orders[b] == no
	case r.State == RowOpen && r.Remaining > 0:
		r.Remaining--
	case s.Pool > 0:
		s.Pool--
	default:
		return !s.elsewhere(), false
	}
	s.Orders[b] = no
	return false, true
}

// withdraw is a cancel of who was told to wait, while there is no order.
func (m *Line) withdraw(s *LineState, b int8, yield lineEmit) {
	e := s.Redis.Line[b]
	if s.Orders[b] != 0 || s.Told[b].No == 0 || e.No != s.Told[b].No || e.Claimed && !m.has(LineWithdrawsLate) {
		return
	}
	next := *s
	m.leave(&next, b, e)
	next.Redis.Ended[b].Withdrawn = e.No
	yield(fmt.Sprintf("buyer %d withdraws, the answer is lost", b), next, nil)
	// A Redis that went back may have forgotten a claim, too.
	next.Told[b] = lineTold{Withdrawn: e.No, Earlier: s.Told[b].Earlier, Doubt: s.row(e.Epoch).Lied}
	yield(fmt.Sprintf("buyer %d withdraws", b), next, nil)
}

// leave takes an entry out of the line, and gives its unit back to the bucket that it is of.
func (m *Line) leave(s *LineState, b int8, e lineEntry) {
	s.Redis.Line[b] = lineEntry{}
	if s.Redis.Token == e.Epoch {
		s.Redis.Left++
	}
}

// drain is what a drainer does: it claims an entry, also one that was claimed long ago, makes the order, tells the
// queue, and may die before each.
func (m *Line) drain(s *LineState, d int8, yield lineEmit) {
	c := s.Claims[d]
	if c.No == 0 {
		for b, e := range s.Redis.Line {
			if e.No == 0 {
				continue
			}
			next := *s
			next.Claims[d] = lineClaim{Buyer: int8(b), No: e.No, Epoch: e.Epoch}
			if next.Redis.Line[b].Claimed = true; m.has(LineClaimRemoves) {
				next.Redis.Line[b] = lineEntry{}
			}
			yield(fmt.Sprintf("drainer %d claims buyer %d", d, b), next, nil)
		}
		return
	}
	next := *s
	next.Claims[d] = lineClaim{}
	yield(fmt.Sprintf("drainer %d dies", d), next, nil)
	next = *s
	if c.Phase != lineClaimed {
		m.tell(&next, c)
		yield(fmt.Sprintf("drainer %d tells the queue of buyer %d", d, c.Buyer), next, nil)
		next.Claims[d] = lineClaim{}
		yield(fmt.Sprintf("drainer %d tells the queue of buyer %d and hears so", d, c.Buyer), next, nil)
		return
	}
	if m.has(LineDoneUnplaced) {
		next.Claims[d].Phase = linePlaced
		yield(fmt.Sprintf("drainer %d cannot place buyer %d", d, c.Buyer), next, nil)
		next = *s
	}
	no := c.No
	if m.has(LineNewNumber) {
		no += m.Numbers
	}
	refused, placed := m.place(&next, c.Buyer, no, c.Epoch)
	var wrong error
	switch {
	case placed:
		next.Claims[d].Phase = linePlaced
	case refused:
		next.Claims[d].Phase = lineRefused
		if t := s.Told[c.Buyer]; t.No == c.No && !t.Doubt && !t.TooMuch && s.Orders[c.Buyer] == 0 {
			wrong = fmt.Errorf("buyer %d was told to wait as %d, and is refused for stock", c.Buyer, c.No)
		}
	default:
		return
	}
	yield(fmt.Sprintf("drainer %d places buyer %d", d, c.Buyer), next, wrong)
}

// tell is done.lua, or cancel.lua with a refusal: once for an entry.
func (m *Line) tell(s *LineState, c lineClaim) {
	mine := s.Redis.Line[c.Buyer].No == c.No
	again := m.has(LineRefusesTwice) && s.Redis.Token == c.Epoch && s.Redis.Left < m.Units
	switch {
	case c.Phase == linePlaced && mine:
		s.Redis.Line[c.Buyer] = lineEntry{}
	case c.Phase == lineRefused && (mine || again):
		m.leave(s, c.Buyer, lineEntry{Epoch: c.Epoch})
		if !m.has(LineForgetsEnd) {
			s.Redis.Ended[c.Buyer].Refused |= 1 << c.No
		}
	}
}

// closeRows closes all buckets: their units are in the pool.
func (m *Line) closeRows(s *LineState) {
	for i := range s.Rows {
		if r := &s.Rows[i]; r.State == RowOpen {
			s.Pool += r.Remaining
			*r = lineRow{State: RowClosed, Lied: r.Lied}
		}
	}
}

// keep is what keepers do: open the bucket of the epoch when nobody of before waits, fill it with all of the pool, end
// the epoch in order or at once.
func (m *Line) keep(s *LineState, yield lineEmit) {
	row, r := s.row(s.Epoch), &s.Redis
	if r.Token < s.Epoch && row.State == RowNone && (!s.waits() || m.has(LineOpensEarly)) {
		next := *s
		next.Redis.Token, next.Redis.Open, next.Redis.Left, next.Redis.Given = s.Epoch, true, 0, false
		yield("open", next, nil)
	}
	if r.Token == s.Epoch && row.State == RowNone && s.Pool > 0 {
		next := *s
		*next.row(s.Epoch) = lineRow{State: RowOpen, Remaining: s.Pool}
		next.Pool = 0
		yield("grant", next, nil)
	}
	if r.Token == s.Epoch && row.State == RowOpen && !row.Closing && !r.Given {
		next := *s
		next.Redis.Left, next.Redis.Given = r.Left+row.Remaining, true
		yield("give", next, nil)
	}
	if row.State == RowOpen && !row.Closing {
		next := *s
		next.row(s.Epoch).Closing = true
		yield("drain", next, nil)
	}
	if r.Token != 0 && r.Open && (r.Token < s.Epoch || row.Closing) {
		next := *s
		next.Redis.Open = false
		yield("close", next, nil)
	}
	if s.Epoch == m.Epochs {
		return
	}
	if next := *s; row.State != RowNone {
		m.closeRows(&next)
		next.Epoch++
		yield("new epoch at once", next, nil)
	}
	if row.Closing && !r.Open && (!s.waits() || m.has(LineEndsEarly)) {
		next := *s
		m.closeRows(&next)
		if next.Epoch++; m.has(LineEndsEarly) { // and it is opened, as if nobody waited
			next.Redis.Token, next.Redis.Open, next.Redis.Left, next.Redis.Given = next.Epoch, true, 0, false
		}
		yield("new epoch in order", next, nil)
	}
}

// fail is a Redis that forgets everything, or goes back to what it was.
func (m *Line) fail(s *LineState, yield lineEmit) {
	if s.Fails == m.Fails {
		return
	}
	if s.Saved == (lineRedis{}) && s.Redis != s.Saved {
		next := *s
		next.Saved = s.Redis
		yield("Redis is saved", next, nil)
	}
	next := *s
	next.Redis, next.Saved, next.Fails = s.Saved, lineRedis{}, s.Fails+1
	if next.Redis == s.Redis {
		return
	}
	for i := range next.Rows {
		next.Rows[i].Lied = true
	}
	for b := range next.Told {
		next.Told[b].Doubt, next.Told[b].Earlier = true, true
	}
	yield("Redis goes back", next, nil)
}

// check holds a state against what was promised.
func (m *Line) check(s *LineState) error {
	sum := s.Pool + s.sold()
	for _, r := range s.Rows {
		sum += r.Remaining
	}
	if sum != m.Units || s.Pool < 0 {
		return fmt.Errorf("pool, buckets and orders have %d of %d", sum, m.Units)
	}
	for i := range s.Rows {
		epoch := int8(i + 1)
		promised := int8(0)
		if s.Redis.Token == epoch {
			promised = s.Redis.Left
		}
		for b, e := range s.Redis.Line {
			if e.No != 0 && e.Epoch == epoch && s.Orders[b] == 0 {
				promised++
			}
		}
		if r := &s.Rows[i]; r.State == RowOpen && !r.Lied && promised > r.Remaining {
			return fmt.Errorf("bucket %d has %d remaining, Redis has and promised %d", epoch, r.Remaining, promised)
		}
	}
	for b := range m.Buyers {
		if err := s.checkTold(b); err != nil {
			return err
		}
	}
	return nil
}

// checkTold holds what a buyer was told last against what there is. What Redis may have lost since is excused.
func (s *LineState) checkTold(b int8) error {
	t, no, e, ended := s.Told[b], s.Orders[b], s.Redis.Line[b], s.Redis.Ended[b]
	switch {
	case t.Doubt:
	case t.Withdrawn != 0 && no == t.Withdrawn && !t.Earlier:
		return fmt.Errorf("buyer %d was told that %d is withdrawn, and it is an order", b, no)
	case t.No == 0:
	case no != 0 && no != t.No && !t.Earlier:
		return fmt.Errorf("buyer %d waits as %d, and his order is %d", b, t.No, no)
	case no == 0 && e.No != t.No && ended.Withdrawn != t.No && ended.Refused>>t.No&1 == 0:
		return fmt.Errorf("buyer %d was told to wait as %d, and nobody knows of it", b, t.No)
	}
	return nil
}

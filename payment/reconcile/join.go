package reconcile

import (
	"bytes"
	"context"
	"hash/maphash"
	"sort"
	"sync"

	"orderd/migrations/sqldb/failpoint"
)

// joiners is how many partitions are compared at once, each in memory: half of the work is
// to take records apart.
const joiners = 2

// join compares the two sides. Partitions are compared side by side; what they found is
// looked up and written here, one after the other in their order.
func (p *pass) join(ctx context.Context) error {
	type joined struct {
		part *pass
		err  error
	}
	ctx, stop := context.WithCancel(ctx)
	var found [joiners]chan joined // each has every joiners-th partition, in their order
	parts := len(p.bill.files)
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	for j := range joiners {
		found[j] = make(chan joined)
		all.Go(func() {
			room := newRoom()
			for i := j; i < parts && ctx.Err() == nil; i += joiners {
				part := &pass{r: p.r, run: p.run, from: p.from, to: p.to, bill: p.bill, ours: p.ours}
				err := part.joinPart(i, room)
				select {
				case <-ctx.Done():
				case found[j] <- joined{part, err}: // is taken before the next one is begun
				}
			}
		})
	}
	for i := range parts {
		var done joined
		select {
		case <-ctx.Done():
			return ctx.Err()
		case done = <-found[i%joiners]:
		}
		if done.err != nil {
			return done.err
		}
		p.take(done.part)
		if err := p.settle(ctx, false); err != nil {
			return err
		}
		p.run.progress("matching", int64(i+1), int64(parts))
	}
	return p.settle(ctx, true)
}

// take adds what one partition found to the whole.
func (p *pass) take(part *pass) {
	p.payments.addAll(&part.payments)
	p.refunds.addAll(&part.refunds)
	p.pending = append(p.pending, part.pending...)
	p.billOnly = append(p.billOnly, part.billOnly...)
	p.oursOnly = append(p.oursOnly, part.oursOnly...)
	p.edges = append(p.edges, part.edges...)
}

// settle looks up what is on one side alone, and writes what was found: full batches, and
// with all the rest too.
func (p *pass) settle(ctx context.Context, all bool) error {
	if err := p.lookUp(ctx, all); err != nil {
		return err
	}
	return p.flush(ctx, all)
}

// room is what one partition needs in memory to be compared. It is used again for the next one:
// a day has a million rows, and a string of each would be the cost of the whole stage.
type room struct {
	bill, ours []byte // the two sides as they are on disk
	rows       []billRow
	again      []item // second rows of numbers that are perhaps not ours at all
	// index finds a row of the bill by kind and number: an open-addressed table, with the
	// place in rows + 1, and 0 for none. Half of it at least is empty.
	index []int32
	seed  maphash.Seed
}

// billRow is where a row of the bill begins in room.bill, and whether one of ours is it.
type billRow struct {
	at  int
	met bool
}

func newRoom() *room { return &room{seed: maphash.MakeSeed()} }

// clear makes room for a partition of so many rows of the bill.
func (m *room) clear(rows int) {
	size := 16
	for size < 2*rows {
		size *= 2
	}
	if cap(m.index) < size {
		m.index = make([]int32, size)
	}
	m.index = m.index[:size]
	clear(m.index)
	m.rows, m.again = m.rows[:0], nil
}

// find gives the row of the bill with a number, or -1, and its place in index.
func (m *room) find(refund bool, key []byte) (row, place int) {
	mask := len(m.index) - 1
	place = int(maphash.Bytes(m.seed, key)) & mask //nolint:gosec // any bits of it
	for ; m.index[place] != 0; place = (place + 1) & mask {
		row := int(m.index[place]) - 1
		if r := recordAt(m.bill, m.rows[row].at); r.isRefund() == refund && bytes.Equal(r.key(), key) {
			return row, place
		}
	}
	return -1, place
}

// joinPart compares one partition: the bill's rows go into a table, ours are looked up in
// it, and what is left is only on one side, in the order of the bill's lines. It asks the
// database nothing.
func (p *pass) joinPart(i int, m *room) (err error) {
	m.clear(p.bill.rows[i])
	if m.bill, err = p.bill.whole(i, m.bill); err != nil {
		return err
	}
	if m.ours, err = p.ours.whole(i, m.ours); err != nil {
		return err
	}
	if err := eachRecord(m.bill, func(at int, r record) { p.addBill(m, at, r) }); err != nil {
		return err
	}
	if err := eachRecord(m.ours, func(_ int, r record) { p.meet(m, r) }); err != nil {
		return err
	}
	p.leave(m)
	return nil
}

// addBill takes in a row of the bill. One row of ours answers for one row of the bill: a later
// row of the same number is the duplicate. A partition has its rows in the order of the lines.
func (p *pass) addBill(m *room, at int, r record) {
	row, place := m.find(r.isRefund(), r.key())
	if row < 0 {
		m.rows = append(m.rows, billRow{at: at})
		m.index[place] = int32(len(m.rows)) //nolint:gosec // a partition has not two milliards of rows
		return
	}
	it := r.item(true)
	if p.r.foreign(&it) {
		m.again = append(m.again, it)
		return
	}
	p.duplicate(&it)
}

// meet finds the row of the bill that one of ours is.
func (p *pass) meet(m *room, r record) {
	row, _ := m.find(r.isRefund(), r.key())
	if row < 0 || m.rows[row].met {
		p.oursOnly = append(p.oursOnly, r.item(false))
		return
	}
	m.rows[row].met = true
	p.compare(recordAt(m.bill, m.rows[row].at), r)
	failpoint.Hit("recon.line")
}

// compare holds a row of the bill against the one of ours with its number. One pair is
// one difference at most: where the amounts differ, the states are not looked at.
func (p *pass) compare(billRow, oursRow record) {
	bill, billState, _ := billRow.facts(true)
	ours, oursState, _ := oursRow.facts(false)
	s := p.side(bill.refund)
	s.Matched++
	if bill.refund || p.neighbour(ours.at) != "" {
		p.edges = append(p.edges, pair{billRow.item(true), oursRow.item(false)})
	}
	s.matchedBill += bill.amount
	s.matchedOurs += ours.amount
	if bill.amount != ours.amount {
		s.Amounts.add(bill.amount - ours.amount)
	}
	kind := p.mismatch(&bill, &ours, string(billState), string(oursState))
	if kind == "" {
		return
	}
	if kind == StateMismatch || kind == RefundStateMismatch {
		s.States++
	}
	b, o := billRow.item(true), oursRow.item(false)
	p.differ(kind, &b, &o, ours.amount)
}

// leave keeps the rows of the bill that none of ours has answered for, and of the second rows
// those whose first row is one of them.
func (p *pass) leave(m *room) {
	var rest []item
	for _, row := range m.rows {
		if !row.met {
			rest = append(rest, recordAt(m.bill, row.at).item(true))
		}
	}
	for i := range m.again {
		it := &m.again[i]
		if row, _ := m.find(it.refund, []byte(it.key)); !m.rows[row].met {
			it.again = true
			rest = append(rest, *it)
			continue
		}
		p.duplicate(it) // the first one was ours
	}
	// package sort: an instance of slices.Sort for rows this wide is 20 kB of binary
	sort.Slice(rest, func(i, j int) bool { return rest[i].line < rest[j].line })
	p.billOnly = append(p.billOnly, rest...)
}

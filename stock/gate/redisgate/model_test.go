package redisgate_test

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"orderd/stock"
	"orderd/stock/gate/redisgate"
)

// model is a bucket as the scripts should treat it, written once more without Redis and without batches: an order after
// the other, a line after the other. It stands for one opening of one bucket, and for what earlier ones left behind.
type model struct {
	prefix  string
	queueOf int64 // most entries of the queue

	there, open, filling         bool
	token, entry, claimed, limit int64
	skus                         map[string]*modelSKU
	keys                         map[redisgate.Key]modelTicket
	records                      map[string]redisgate.Record // by order number
	wal, queue                   []modelEntry
}

type modelSKU struct {
	bucketID, seq, size, left int64
	lost                      bool             // the key with what is left is gone
	flow, back                map[string]int64 // by line id
	refs                      map[string]int64 // line id|ref
	buyer                     map[string]int64
	moves, pooled             int64 // units of all moves; units that went back to the pool without a move
}

type modelTicket struct {
	no   string
	body [8]byte
}

// modelEntry is an entry of a stream: its fields as they are written, order number and payload in turn.
type modelEntry struct {
	token, n int64
	fields   []string
}

func (e modelEntry) id() string { return fmt.Sprintf("%d-%d", e.token, e.n) }

func (m *model) is(b redisgate.Bucket) bool { return m.there && m.token == b.Token }

func (m *model) sku(id string) *modelSKU {
	if s := m.skus[id]; s != nil && !s.lost {
		return s
	}
	return nil
}

func (m *model) deduct(b redisgate.Bucket, orders []redisgate.Order) ([]redisgate.Reply, error) {
	if !m.is(b) || !m.open {
		return nil, redisgate.ErrNotReady
	}
	entry, waiting := m.entry+1, int64(len(m.queue))
	queued := int64(0)
	var direct []string
	replies := make([]redisgate.Reply, len(orders))
	for i, o := range orders {
		r := redisgate.Reply{OrderNo: o.OrderNo, Filling: m.filling}
		no, code := m.look(o, waiting+queued)
		switch {
		case no != "":
			record, found := m.records[no]
			if !found {
				record.State = redisgate.StateOrder
			}
			r.Repeat, r.OrderNo, r.Entry, r.State = true, no, record.Entry, record.State
		case code < 0:
			r.Code = code
		case o.Queued:
			queued++
			r.State, r.Entry, r.Ahead = redisgate.StateQueued, entry+queued, waiting+queued-1
			m.queue = append(m.queue, modelEntry{m.token, r.Entry, []string{o.OrderNo, string(o.Payload)}})
		default:
			r.State, r.Entry = redisgate.StateDirect, entry
			direct = append(direct, o.OrderNo, string(o.Payload))
		}
		if r.State != "" && !r.Repeat {
			r.Code = m.take(o, r)
			m.entry = entry + queued
		}
		replies[i] = r
	}
	if direct != nil {
		m.wal = append(m.wal, modelEntry{m.token, entry, direct})
	}
	return replies, nil
}

// look finds the order that this one repeats, or else the code that it is refused with, 0 for none.
func (m *model) look(o redisgate.Order, waiting int64) (repeat string, code int64) {
	for _, l := range o.Lines {
		if m.sku(l.SkuID) == nil {
			return "", redisgate.CodeNotReady
		}
	}
	if t, found := m.keys[o.Key]; found &&
		(m.records[t.no].State != redisgate.StateWithdrawn || t.no == o.OrderNo) {
		if t.body != o.Body {
			return "", redisgate.CodeKeyReused
		}
		return t.no, 0
	}
	for _, l := range o.Lines {
		if m.limit > 0 && m.skus[l.SkuID].buyer[o.CustomerID]+l.Quantity > m.limit {
			return "", redisgate.CodeOverLimit
		}
	}
	for _, l := range o.Lines {
		if left := m.skus[l.SkuID].left; left >= 0 && left < l.Quantity {
			return "", redisgate.CodeInsufficient
		}
	}
	if o.Queued && waiting >= m.queueOf {
		return "", redisgate.CodeQueueFull
	}
	// An order deducts all its lines at once: the first stands for all.
	if _, flowed := m.skus[o.Lines[0].SkuID].flow[redisgate.LineID(o.OrderNo, o.Lines[0].No)]; flowed {
		return o.OrderNo, 0
	}
	return "", 0
}

// take gives what is left of the scarcest SKU.
func (m *model) take(o redisgate.Order, r redisgate.Reply) int64 {
	least, units := int64(redisgate.CodeUnlimited), int64(0)
	for _, l := range o.Lines {
		s := m.skus[l.SkuID]
		s.flow[redisgate.LineID(o.OrderNo, l.No)] = l.Quantity
		units += l.Quantity
		if m.limit > 0 {
			s.buyer[o.CustomerID] += l.Quantity
		}
		if s.left < 0 {
			continue
		}
		s.left -= l.Quantity
		if least < 0 || s.left < least {
			least = s.left
		}
	}
	m.keys[o.Key] = modelTicket{o.OrderNo, o.Body}
	m.records[o.OrderNo] = redisgate.Record{Entry: r.Entry, State: r.State, Units: units, CustomerID: o.CustomerID}
	return least
}

func (m *model) giveBack(b redisgate.Bucket, r redisgate.Return) (bool, error) {
	if !m.is(b) {
		return false, redisgate.ErrNotReady
	}
	var todo []redisgate.Line
	for _, l := range r.Lines {
		s := m.sku(l.SkuID)
		if s == nil {
			return false, redisgate.ErrNotReady
		}
		id := redisgate.LineID(r.OrderNo, l.No)
		if _, done := s.refs[id+"|"+r.Ref]; done {
			continue
		}
		if s.back[id]+l.Quantity > s.flow[id] {
			return false, stock.ErrReturnExceeds
		}
		todo = append(todo, l)
	}
	for _, l := range todo {
		m.backOf(r.OrderNo, r.Ref, l, r.To == redisgate.ToBucket)
	}
	if record, found := m.records[r.OrderNo]; found && len(todo) > 0 && record.Units == 0 &&
		r.To == redisgate.ToBucket && record.State != redisgate.StateCancelled {
		record.State = redisgate.StateWithdrawn
		m.records[r.OrderNo] = record
	}
	return len(todo) > 0, nil
}

// backOf gives units of a line back under a ref.
func (m *model) backOf(orderNo, ref string, l redisgate.Line, toBucket bool) {
	s, id := m.skus[l.SkuID], redisgate.LineID(orderNo, l.No)
	s.back[id] += l.Quantity
	s.refs[id+"|"+ref] = l.Quantity
	if record, found := m.records[orderNo]; found {
		record.Units = max(record.Units-l.Quantity, 0)
		m.records[orderNo] = record
		if s.buyer[record.CustomerID] > 0 {
			s.buyer[record.CustomerID] = max(s.buyer[record.CustomerID]-l.Quantity, 0)
		}
	}
	if toBucket && s.left >= 0 {
		s.left += l.Quantity
	}
	if !toBucket {
		s.pooled += l.Quantity
	}
}

// moved checks a move and gives its SKU.
func (m *model) moved(v redisgate.Move) (*modelSKU, error) {
	s := m.sku(v.SkuID)
	if !m.there || s == nil || s.bucketID != v.BucketID {
		return nil, redisgate.ErrNotReady
	}
	return s, nil
}

func (m *model) grant(v redisgate.Move) (int64, error) {
	s, err := m.moved(v)
	switch {
	case err != nil:
		return 0, err
	case v.Seq <= s.seq:
		return 0, redisgate.ErrDone
	case v.Seq > s.seq+1:
		return 0, redisgate.ErrGap
	case s.left >= 0 && s.left+v.Units < 0:
		return 0, redisgate.ErrWentBack
	}
	s.seq, s.size = v.Seq, v.Units
	if s.left >= 0 {
		s.left += v.Units
		s.moves += v.Units
	}
	return s.left, nil
}

func (m *model) takeBack(v redisgate.Move) (int64, error) {
	s, err := m.moved(v)
	switch {
	case err != nil:
		return 0, err
	case s.left < 0:
		return -1, nil
	case v.Seq == s.seq && s.size <= 0:
		return -s.size, nil
	case v.Seq <= s.seq:
		return 0, redisgate.ErrDone
	case v.Seq > s.seq+1:
		return 0, redisgate.ErrGap
	}
	taken := min(s.left, v.Units)
	s.seq, s.size = v.Seq, -taken
	s.left -= taken
	s.moves -= taken
	return taken, nil
}

func (m *model) opened(b redisgate.Bucket, o redisgate.Opening) (bool, error) {
	if m.there && m.token >= b.Token {
		if m.token == b.Token {
			return false, nil
		}
		return false, redisgate.ErrNotReady
	}
	*m = model{prefix: m.prefix, queueOf: m.queueOf, wal: m.wal, queue: m.queue, // entries stay
		there: true, open: true, filling: o.Filling, token: b.Token, limit: o.Limit,
		skus: map[string]*modelSKU{}, keys: map[redisgate.Key]modelTicket{}, records: map[string]redisgate.Record{}}
	for _, s := range o.Slices {
		sku := &modelSKU{bucketID: s.BucketID, flow: map[string]int64{}, back: map[string]int64{},
			refs: map[string]int64{}, buyer: map[string]int64{}}
		if s.Unlimited {
			sku.left = -1
		}
		m.skus[s.SkuID] = sku
	}
	return true, nil
}

// left is what Close and Stat say of a SKU.
func (m *model) left(sku string) int64 {
	if s := m.sku(sku); s != nil {
		return s.left
	}
	return -3
}

func (m *model) closed(b redisgate.Bucket, skus []string) (redisgate.Closed, error) {
	if !m.is(b) {
		return redisgate.Closed{}, redisgate.ErrNotReady
	}
	m.open = false
	c := redisgate.Closed{Entry: m.entry, WAL: int64(len(m.wal)), Queue: int64(len(m.queue)), Left: map[string]int64{}}
	for _, sku := range skus {
		c.Left[sku] = m.left(sku)
	}
	return c, nil
}

func (m *model) stat(skus []string) (redisgate.Stat, error) {
	if !m.there {
		return redisgate.Stat{}, redisgate.ErrNotReady
	}
	s := redisgate.Stat{Token: m.token, Open: m.open, Entry: m.entry, Claimed: m.claimed, Limit: m.limit,
		Filling: m.filling, WAL: int64(len(m.wal)), Queue: int64(len(m.queue)), SKUs: map[string]redisgate.SKUStat{}}
	for _, sku := range skus {
		of := m.skus[sku]
		s.SKUs[sku] = redisgate.SKUStat{BucketID: of.bucketID, Seq: of.seq, Units: of.size, Left: m.left(sku)}
	}
	return s, nil
}

func (m *model) cancel(b redisgate.Bucket, c redisgate.Cancel) (bool, error) {
	if !m.is(b) {
		return false, redisgate.ErrNotReady
	}
	record, found := m.records[c.OrderNo]
	switch {
	case !found || record.Entry != c.Entry:
		return false, nil
	case record.State == redisgate.StateCancelled:
		return true, nil
	case record.State != redisgate.StateQueued || c.Entry <= m.claimed:
		return false, nil
	}
	at := slices.IndexFunc(m.queue, func(e modelEntry) bool { return e.token == m.token && e.n == c.Entry })
	if at < 0 {
		return false, nil
	}
	for _, l := range c.Lines {
		if m.sku(l.SkuID) == nil {
			return false, redisgate.ErrNotReady
		}
	}
	m.queue = slices.Delete(slices.Clone(m.queue), at, at+1)
	for _, l := range c.Lines {
		s, id := m.skus[l.SkuID], redisgate.LineID(c.OrderNo, l.No)
		if l.Quantity = s.flow[id] - s.back[id]; l.Quantity > 0 {
			m.backOf(c.OrderNo, "cancel", l, true)
		}
	}
	record.State, record.Units = redisgate.StateCancelled, 0
	m.records[c.OrderNo] = record
	return true, nil
}

func (m *model) claim(b redisgate.Bucket, limit int) ([]redisgate.Entry, error) {
	if !m.is(b) {
		return nil, redisgate.ErrNotReady
	}
	entries := []redisgate.Entry{}
	for _, e := range m.queue[:min(limit, len(m.queue))] {
		if e.token == m.token {
			m.claimed = max(m.claimed, e.n)
		}
		entries = append(entries, redisgate.Entry{ID: e.id(),
			Orders: []redisgate.Ticket{{OrderNo: e.fields[0], Payload: []byte(e.fields[1])}}})
	}
	return entries, nil
}

// balance says what is wrong with the model itself: what no sequence of calls may ever lead to.
func (m *model) balance() string {
	for id, s := range m.skus {
		out := int64(0)
		for line, q := range s.flow {
			out += q - s.back[line]
			if s.back[line] > q {
				return fmt.Sprintf("%s: %d of %d units came back", line, s.back[line], q)
			}
		}
		if s.left >= 0 && s.left+out+s.pooled != s.moves {
			return fmt.Sprintf("%s: %d left, %d with orders, %d back in the pool, %d came by moves",
				id, s.left, out, s.pooled, s.moves)
		}
		for customer, units := range s.buyer {
			if m.limit > 0 && units > m.limit {
				return fmt.Sprintf("%s has %d units of %s, the limit is %d", customer, units, id, m.limit)
			}
		}
	}
	return ""
}

// dump gives all keys as Redis should have them: name, fields and values. It is the format that the design fixes.
func (m *model) dump() map[string]string {
	d, tag := map[string]string{}, "{sale/3}"
	hash := func(name string, fields ...string) {
		if len(fields) > 0 {
			sort.Strings(fields)
			d[m.prefix+name] = strings.Join(fields, "\n")
		}
	}
	f := func(name string, value any) string { return fmt.Sprintf("%q=%q", name, fmt.Sprint(value)) }
	stream := func(name string, entries []modelEntry) {
		var lines []string
		for _, e := range entries {
			lines = append(lines, fmt.Sprintf("%s %q", e.id(), e.fields))
		}
		if len(lines) > 0 {
			d[m.prefix+name] = strings.Join(lines, "\n")
		}
	}
	stream("wal_"+tag, m.wal)
	stream("queue_"+tag, m.queue)
	if !m.there {
		return d
	}
	state := map[bool]string{true: "open", false: "closed"}[m.open]
	flows := map[bool]string{true: "filling", false: "complete"}[m.filling]
	gate := []string{f("tok", m.token), f("st", state), f("n", m.entry), f("taken", m.claimed), f("lim", m.limit),
		f("flows", flows)}
	for id, s := range m.skus {
		gate = append(gate, f("b:"+id, s.bucketID), f("s:"+id, s.seq), f("m:"+id, s.size))
		if !s.lost {
			d[m.prefix+"sku_leaved_amount_"+tag+":"+id] = fmt.Sprint(s.left)
		}
		var flow, back, buyer []string
		for line, q := range s.flow {
			flow = append(flow, f(line, q))
		}
		for line, q := range s.back {
			back = append(back, f(line, q))
		}
		for line, q := range s.refs {
			back = append(back, f(line, q))
		}
		for customer, units := range s.buyer {
			buyer = append(buyer, f(customer, units))
		}
		hash("inventory_flow_"+tag+":"+id, flow...)
		hash("inventory_back_"+tag+":"+id, back...)
		hash("buyer_"+tag+":"+id, buyer...)
	}
	hash("gate_"+tag, gate...)
	var tickets []string
	for key, t := range m.keys {
		tickets = append(tickets, f(string(key[:]), t.no+string(t.body[:])))
	}
	for no, r := range m.records {
		tickets = append(tickets, f(no, fmt.Sprintf("%d %s %d %s", r.Entry, r.State, r.Units, r.CustomerID)))
	}
	hash("ticket_"+tag, tickets...)
	return d
}

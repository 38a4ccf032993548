package redisgate_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"orderd/stock"
	"orderd/stock/gate/redisgate"
)

// model is a bucket as the scripts should treat it, written once more without Redis and without batches: an order after
// the other, a line after the other. It stands for one opening of one bucket, and for what earlier ones left behind.
type model struct {
	prefix string

	there, open, filling bool
	token, entry, limit  int64
	skus                 map[string]*modelSKU
	keys                 map[redisgate.Key]modelTicket
	records              map[string]redisgate.Record // by order number
	wal, queue           []modelEntry

	// What outlives an opening.
	paced       bool  // tat and at are there
	tat, at     int64 // microseconds
	places      map[string]modelPlace
	placeKeys   map[redisgate.Key]modelTicket
	claimed     map[string]int64 // when, by id of an entry
	lastClaimed modelID
	ended       map[string]string
}

// modelID is of an entry.
type modelID struct{ token, n int64 }

func (i modelID) String() string { return fmt.Sprintf("%d-%d", i.token, i.n) }

// modelPlace is where an order waits.
type modelPlace struct {
	id       modelID
	key      redisgate.Key
	customer string
}

func newModel(prefix string) *model {
	return &model{prefix: prefix, places: map[string]modelPlace{}, placeKeys: map[redisgate.Key]modelTicket{},
		claimed: map[string]int64{}, ended: map[string]string{}}
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
	modelID
	fields []string
}

func (e modelEntry) id() string { return e.modelID.String() }

// due gives the time that a pace counts from, and when the next order is due by it.
func (m *model) due(p redisgate.Pace) (now, tat int64) {
	if now, tat = p.Now.UnixMicro(), m.tat; now < m.at && m.at-now <= 10_000_000 {
		now = m.at
	}
	if burst := max(p.Burst.Microseconds(), 0); tat > now+burst+p.Every.Microseconds() {
		tat = now + burst
	}
	return now, max(tat, now)
}

func (m *model) is(b redisgate.Bucket) bool { return m.there && m.token == b.Token }

func (m *model) sku(id string) *modelSKU {
	if s := m.skus[id]; s != nil && !s.lost {
		return s
	}
	return nil
}

func (m *model) deduct(b redisgate.Bucket, p redisgate.Pace, orders []redisgate.Order) ([]redisgate.Reply, error) {
	if !m.is(b) || !m.open {
		return nil, redisgate.ErrNotReady
	}
	entry, waiting, unread, queued := m.entry+1, int64(0), int64(0), int64(0)
	if p.Every > 0 {
		waiting = int64(len(m.queue))
		unread = max(waiting-int64(len(m.claimed)), 0)
	}
	now, tat := m.due(p)
	var direct []string
	refused := false
	replies := make([]redisgate.Reply, len(orders))
	for i, o := range orders {
		r := redisgate.Reply{OrderNo: o.OrderNo, Filling: m.filling}
		no, code := m.look(o, waiting > 0)
		switch {
		case no != "":
			record, found := m.records[no]
			if place, waits := m.places[no]; !found && waiting > 0 && waits {
				record.Entry, record.State = place.id.n, redisgate.StateQueued
			} else if !found {
				record.State = redisgate.StateOrder
			}
			r.Repeat, r.OrderNo, r.Entry, r.State = true, no, record.Entry, record.State
		case code < 0:
			r.Code = code
			refused = refused || code == redisgate.CodeInsufficient
		case p.Every == 0, unread == 0 && tat-now <= p.Burst.Microseconds():
			if p.Every > 0 {
				tat += p.Every.Microseconds()
				m.paced, m.tat, m.at = true, tat, now
			}
			r.State, r.Entry = redisgate.StateDirect, entry
			direct = append(direct, o.OrderNo, string(o.Payload))
		case waiting+queued >= p.Room || !o.MayWait:
			r.Code, refused = redisgate.CodeQueueFull, true
		default:
			queued++
			id := modelID{m.token, entry + queued}
			r.State, r.Entry, r.Ahead = redisgate.StateQueued, id.n, waiting+queued-1
			m.queue = append(m.queue, modelEntry{id, []string{o.OrderNo, string(o.Payload)}})
			m.places[o.OrderNo] = modelPlace{id, o.Key, o.CustomerID}
			m.placeKeys[o.Key] = modelTicket{o.OrderNo, o.Body}
		}
		if r.State != "" && !r.Repeat {
			r.Code = m.take(o, r)
			m.entry = entry + queued
		}
		replies[i] = r
	}
	m.filling = m.filling || refused && p.Every > 0
	if direct != nil {
		m.wal = append(m.wal, modelEntry{modelID{m.token, entry}, direct})
	}
	return replies, nil
}

// look finds the order that this one repeats, or else the code that it is refused with, 0 for none.
func (m *model) look(o redisgate.Order, waits bool) (repeat string, code int64) {
	for _, l := range o.Lines {
		if m.sku(l.SkuID) == nil {
			return "", redisgate.CodeNotReady
		}
	}
	t, found := m.keys[o.Key]
	if !found && waits {
		t, found = m.placeKeys[o.Key]
	}
	if found && (m.records[t.no].State != redisgate.StateWithdrawn || t.no == o.OrderNo) {
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

func (m *model) opened(b redisgate.Bucket, o redisgate.Opening) (bool, error) {
	if m.there && m.token >= b.Token {
		if m.token == b.Token {
			return false, nil
		}
		return false, redisgate.ErrNotReady
	}
	*m = model{prefix: m.prefix, wal: m.wal, queue: m.queue, places: m.places, placeKeys: m.placeKeys, // these stay
		claimed: m.claimed, lastClaimed: m.lastClaimed, ended: m.ended, paced: m.paced, tat: m.tat, at: m.at,
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

func (m *model) closed(b redisgate.Bucket) (int64, error) {
	if !m.is(b) {
		return 0, redisgate.ErrNotReady
	}
	m.open = false
	return int64(len(m.queue)), nil
}

func (m *model) stat(skus []string) (redisgate.Stat, error) {
	if !m.there {
		return redisgate.Stat{}, redisgate.ErrNotReady
	}
	s := redisgate.Stat{Token: m.token, Open: m.open, Entry: m.entry, Limit: m.limit,
		Filling: m.filling, WAL: int64(len(m.wal)), Queue: int64(len(m.queue)), SKUs: map[string]redisgate.SKUStat{}}
	for _, sku := range skus {
		of := m.skus[sku]
		s.SKUs[sku] = redisgate.SKUStat{BucketID: of.bucketID, Seq: of.seq, Units: of.size, Left: m.left(sku)}
	}
	return s, nil
}

func (m *model) cancel(c redisgate.Cancel) bool {
	place, waits := m.places[c.OrderNo]
	if !waits {
		return strings.HasPrefix(m.ended[c.OrderNo], string(c.To))
	}
	late := place.id.token < m.lastClaimed.token ||
		place.id.token == m.lastClaimed.token && place.id.n <= m.lastClaimed.n
	if (c.To == redisgate.StateCancelled || c.Unclaimed) && (late || place.id.String() != c.ID) {
		return false
	}
	record, here := m.records[c.OrderNo]
	here = here && record.State == redisgate.StateQueued
	if of := m.placeKeys[place.key]; c.To == redisgate.StateCancelled && of.no == c.OrderNo {
		m.ended[string(c.Key[:])] = of.no + string(of.body[:])
	}
	m.leave(c.ID, c.OrderNo)
	m.ended[c.OrderNo] = string(c.To) + string([]byte{byte(len(c.CustomerID))}) + c.CustomerID + string(c.Problem)
	if !here {
		return true
	}
	for _, l := range c.Lines {
		s, id := m.sku(l.SkuID), redisgate.LineID(c.OrderNo, l.No)
		if s == nil {
			continue
		}
		if l.Quantity = s.flow[id] - s.back[id]; l.Quantity > 0 {
			m.backOf(c.OrderNo, "queue", l, true)
		}
	}
	record.State, record.Units = c.To, 0
	m.records[c.OrderNo] = record
	return true
}

// leave takes an entry out of the queue, and the order that waits there.
func (m *model) leave(id, orderNo string) {
	m.queue = slices.DeleteFunc(slices.Clone(m.queue), func(e modelEntry) bool { return e.id() == id })
	delete(m.claimed, id)
	if place, waits := m.places[orderNo]; waits {
		delete(m.placeKeys, place.key)
		delete(m.places, orderNo)
	}
}

func (m *model) done(entries []redisgate.Entry) {
	for _, e := range entries {
		record, here := m.records[e.OrderNo]
		if place, waits := m.places[e.OrderNo]; waits && place.id.String() == e.ID {
			if here && record.State == redisgate.StateQueued {
				record.State = redisgate.StateOrder
				m.records[e.OrderNo] = record
			}
			m.leave(e.ID, e.OrderNo)
		} else {
			m.leave(e.ID, "")
		}
	}
}

func (m *model) claim(p redisgate.Pace, lapse time.Duration, limit int) []redisgate.Entry {
	now, tat := m.due(p)
	most := int64(limit)
	if every := p.Every.Microseconds(); every > 0 {
		most = min(most, (now+p.Burst.Microseconds()-tat+every)/every)
		if now+p.Burst.Microseconds()-tat < 0 {
			most = 0
		}
	}
	found := []redisgate.Entry{}
	add := func(e modelEntry) {
		found = append(found, redisgate.Entry{ID: e.id(), OrderNo: e.fields[0], Payload: []byte(e.fields[1])})
	}
	ids := slices.SortedFunc(maps.Keys(m.claimed), func(a, b string) int {
		return cmp.Or(cmp.Compare(m.claimed[a], m.claimed[b]), cmp.Compare(a, b))
	})
	lapsed := int64(0)
	var over []string
	for _, future := range []bool{false, true} {
		for _, id := range ids {
			if at := m.claimed[id]; !future && at <= now-lapse.Microseconds() || future && at > now+10_000_000 {
				over = append(over, id)
			}
		}
	}
	for _, id := range over {
		if lapsed < most {
			lapsed++
			i := slices.IndexFunc(m.queue, func(e modelEntry) bool { return e.id() == id })
			if i < 0 {
				delete(m.claimed, id)
				continue
			}
			add(m.queue[i])
		}
	}
	fresh, last, room := len(m.claimed) == 0, m.lastClaimed, most-int64(len(found))
	for _, e := range m.queue {
		after := e.token > m.lastClaimed.token || e.token == m.lastClaimed.token && e.n > m.lastClaimed.n
		if (fresh || after) && room > 0 {
			room--
			last = e.modelID
			if !slices.ContainsFunc(found, func(of redisgate.Entry) bool { return of.ID == e.id() }) {
				add(e)
			}
		}
	}
	m.lastClaimed = last
	if len(found) > 0 && p.Every > 0 && m.there {
		m.paced, m.tat, m.at = true, tat+int64(len(found))*p.Every.Microseconds(), now
	}
	for _, e := range found {
		m.claimed[e.ID] = now
	}
	return found
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
	var places, claims []string
	for key, t := range m.placeKeys {
		places = append(places, f(string(key[:]), t.no+string(t.body[:])))
	}
	for no, p := range m.places {
		places = append(places, f(no, p.id.String()+" "+string(p.key[:])+p.customer))
	}
	if m.lastClaimed != (modelID{}) {
		places = append(places, f("c", m.lastClaimed))
	}
	hash("queued_"+tag, places...)
	for id, at := range m.claimed {
		claims = append(claims, f(id, at))
	}
	hash("claimed_"+tag, claims...)
	for no, told := range m.ended {
		d[m.prefix+"ended_"+tag+":"+no] = told
	}
	if !m.there {
		return d
	}
	state := map[bool]string{true: "open", false: "closed"}[m.open]
	flows := map[bool]string{true: "filling", false: "complete"}[m.filling]
	gate := []string{f("tok", m.token), f("st", state), f("n", m.entry), f("lim", m.limit),
		f("flows", flows)}
	if m.paced {
		gate = append(gate, f("tat", m.tat), f("at", m.at))
	}
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

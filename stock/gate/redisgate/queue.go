package redisgate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/stock"
	"orderd/stock/gate"
)

// The queue of a sale is one queue in each of its buckets, and each is drained by its part of
// the rate. Those that may have entries are in one set of Redis, so that what waits is found
// when its sale has other buckets by now, another name, or no gate at all.

// How a queue is shaped.
const (
	// burstFor is how much of the rate may be made up for: drainers come several times in it.
	burstFor = 250 * time.Millisecond
	// longestLine and mostQueued bound the queue of a bucket: by the time that its last one
	// would wait, and in entries, which are some 600 bytes of Redis each.
	longestLine = 10 * time.Minute
	mostQueued  = 100_000
)

// paceOf gives the pace of one of so many buckets, by a rate in orders a second for all of them; 0
// is none.
func paceOf(rate, buckets int64) Pace {
	if rate == 0 {
		return Pace{}
	}
	every := time.Duration((buckets*time.Second.Microseconds()+rate-1)/rate) * time.Microsecond
	return Pace{Every: every, Burst: burstFor, Room: min(max(int64(longestLine/every), 1), mostQueued)}
}

// queues gives the names of the set of buckets that may have a queue: "sale/number". In a cluster it
// is kept several times, on each master, so that one that dies takes along what lives there and
// not the word where the others are.
func (s *Shared) queues() []string {
	names := []string{s.cfg.Prefix + "gate_queues"}
	if _, cluster := s.cfg.Client.(*redis.ClusterClient); cluster {
		for i := range aliveKeys {
			names = append(names, fmt.Sprintf("%s_{%d}", names[0], i))
		}
	}
	return names
}

// pipelined sends calls together, for patience. An error is that of all: in a cluster some may have an
// error of their own, whose master cannot be reached.
func (s *Shared) pipelined(ctx context.Context, calls func(ctx context.Context, p redis.Pipeliner)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pipe := s.cfg.Client.Pipeline()
	if calls(ctx, pipe); pipe.Len() == 0 {
		return nil
	}
	done, err := pipe.Exec(ctx)
	if s.answered(done, err) {
		err = nil
	}
	s.noted(err)
	return err
}

// answered reports that Redis has answered some of the calls of a pipeline. Those of a client of one
// server have no error when its connection was refused again and again (go-redis v9.14,
// generalProcessPipeline): the pipeline has.
func (s *Shared) answered(done []redis.Cmder, err error) bool {
	var reply redis.Error
	_, cluster := s.cfg.Client.(*redis.ClusterClient)
	return err == nil || errors.As(err, &reply) || cluster && slices.ContainsFunc(done, func(c redis.Cmder) bool {
		return c.Err() == nil || errors.Is(c.Err(), redis.Nil)
	})
}

// member is a bucket in that set.
func (b Bucket) member() string { return b.Sale + "/" + strconv.FormatInt(b.No, 10) }

// list notes a bucket in that set.
func (s *Shared) list(ctx context.Context, l *lane) error {
	if l.listed.Load() {
		return nil
	}
	err := s.pipelined(ctx, func(ctx context.Context, p redis.Pipeliner) {
		for _, name := range s.queues() {
			p.SAdd(ctx, name, l.bucket.member())
		}
	})
	if err == nil {
		l.listed.Store(true)
	}
	return err
}

// inLine gives the buckets that may have a queue, without tokens. While Redis is away that is known
// only when no sale has one, and none was left behind.
func (s *Shared) inLine(ctx context.Context) ([]Bucket, error) {
	if !s.breaker.up() {
		if s.noQueue.Load() {
			return nil, nil
		}
		return nil, gate.ErrQueueAway
	}
	var sets []*redis.StringSliceCmd
	err := s.pipelined(ctx, func(ctx context.Context, p redis.Pipeliner) {
		for _, name := range s.queues() {
			sets = append(sets, p.SMembers(ctx, name))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look for queues: %w", err)
	}
	var members []string
	for _, set := range sets {
		members = append(members, set.Val()...)
	}
	for _, v := range s.view.Load().names {
		for _, l := range v.lanes {
			if v.queues() {
				members = append(members, l.bucket.member())
			}
		}
	}
	slices.Sort(members)
	var buckets []Bucket
	for _, m := range slices.Compact(members) {
		i := strings.LastIndexByte(m, '/')
		no, err := strconv.ParseInt(m[i+1:], 10, 64)
		if i < 0 || err != nil {
			continue // nobody else writes this set
		}
		buckets = append(buckets, Bucket{Sale: m[:i], No: no})
	}
	s.left.Store(len(buckets) > 0)
	return buckets, nil
}

// paceIn is the pace of a bucket at this moment. Where there is no gate any more there is no rate.
func (s *Shared) paceIn(b Bucket) Pace {
	var p Pace
	if v := s.view.Load().names[b.Sale]; v != nil {
		p = v.pace
	}
	p.Now = s.cfg.Now()
	return p
}

// queuedAs is the answer to a claim that waits, or was withdrawn.
func (s *Shared) queuedAs(l *lane, r *Reply) *gate.Queued {
	q := &gate.Queued{OrderNo: r.OrderNo, State: gate.QueueWaiting, Repeat: r.Repeat, Position: r.Ahead + 1}
	if r.State == StateCancelled {
		q.State, q.Position = gate.QueueWithdrawn, 0
		return q
	}
	every := l.pace.Load().Every
	if q.Wait = time.Duration(q.Position) * every; r.Repeat {
		s.position(q, l.bucket, every)
	}
	return q
}

// position looks how far one is that waits in a bucket.
func (s *Shared) position(q *gate.Queued, b Bucket, every time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, found, err := s.home.Places(ctx, []Bucket{b}, q.OrderNo)
	s.noted(err)
	if q.Position = 1; err == nil && found {
		q.Position = p.Ahead + 1
	}
	q.Wait = time.Duration(q.Position) * every
}

// earlier gives the answer to a claim whose key has an earlier try in another bucket or of an earlier
// epoch, which waits or was withdrawn; nil when nobody knows of one.
func (s *Shared) earlier(v *saleView, o *Order) *got {
	all, err := s.known(context.Background(), v.lines, o.Key)
	if err != nil {
		return nil
	}
	for _, of := range all {
		switch {
		case of.orderNo == o.OrderNo: // this very try
			continue
		case of.body != o.Body:
			return &got{reused: true}
		case of.withdrawn:
			return &got{queued: &gate.Queued{OrderNo: of.orderNo, State: gate.QueueWithdrawn, Repeat: true}}
		}
		q := &gate.Queued{OrderNo: of.orderNo, State: gate.QueueWaiting, Repeat: true}
		s.position(q, of.bucket, v.pace.Every)
		return &got{queued: q}
	}
	return nil
}

// leave takes one out of the queue that has just come in and is one too many. When it is too late, the
// order of its key is made once all the same.
func (s *Shared) leave(l *lane, o *Order, entry int64) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := s.home.Cancel(ctx, l.bucket, Cancel{OrderNo: o.OrderNo, To: StateWithdrawn, Unclaimed: true,
		ID: l.bucket.token() + "-" + strconv.FormatInt(entry, 10), Lines: o.Lines, Key: o.Key,
		CustomerID: o.CustomerID, Told: gate.KeepProblem})
	s.noted(err)
}

// place is where an entry is, for gate.Entry.
type place struct {
	bucket Bucket // its token is that of the entry
	id     string
	lines  []Line
}

// Find implements gate.Queue.
func (s *Shared) Find(ctx context.Context, customerID, orderNo string) (gate.Queued, bool, error) {
	p, found, err := s.find(ctx, customerID, orderNo)
	if err != nil || !found {
		return gate.Queued{}, false, err
	}
	q := gate.Queued{OrderNo: orderNo, Problem: p.Problem}
	switch {
	case p.State == StateCancelled:
		q.State, q.Problem = gate.QueueWithdrawn, nil
	case p.State == StateWithdrawn:
		q.State = gate.QueueRefused
	default:
		q.State, q.Position = gate.QueueWaiting, p.Ahead+1
		q.Wait = time.Duration(q.Position) * s.paceIn(p.Bucket).Every
		parcel, _, err := s.parcelOf(ctx, p)
		if err != nil {
			return gate.Queued{}, false, err
		}
		q.Payload = parcel.Payload
	}
	return q, true, nil
}

// find gives where the queued order of a customer is, "" for whoever's. It is an error when it may be
// where nobody can be asked.
func (s *Shared) find(ctx context.Context, customerID, orderNo string) (Place, bool, error) {
	buckets, err := s.inLine(ctx)
	if err != nil || len(buckets) == 0 {
		return Place{}, false, err
	}
	all := len(buckets)
	buckets = slices.DeleteFunc(buckets, s.resting.rests)
	p, found, err := s.home.Places(ctx, buckets, orderNo)
	s.noted(err)
	if err == nil && !found && len(buckets) < all {
		err = gate.ErrQueueAway
	}
	return p, found && (customerID == "" || p.CustomerID == customerID), err
}

// parcelOf reads the entry of a queued order; false: it is not there any more.
func (s *Shared) parcelOf(ctx context.Context, p Place) (parcel, bool, error) {
	entries, err := s.cfg.Client.XRange(ctx, s.home.keys(p.Bucket).queue(), p.ID, p.ID).Result()
	s.noted(err)
	if err != nil || len(entries) == 0 {
		return parcel{}, false, err
	}
	for _, text := range entries[0].Values {
		written, _ := text.(string)
		var of parcel
		err := json.Unmarshal([]byte(written), &of)
		return of, err == nil, nil
	}
	return parcel{}, false, nil
}

// Withdraw implements gate.Queue.
func (s *Shared) Withdraw(ctx context.Context, customerID, orderNo string) (withdrawn, found bool, err error) {
	p, found, err := s.find(ctx, customerID, orderNo)
	if err != nil || !found {
		return false, false, err
	}
	if p.State != StateQueued {
		return p.State == StateCancelled, true, nil
	}
	of, there, err := s.parcelOf(ctx, p)
	if err != nil || !there {
		return false, true, err
	}
	withdrawn, err = s.home.Cancel(ctx, p.Bucket, Cancel{OrderNo: orderNo, ID: p.ID, To: StateCancelled,
		Lines: of.Lines, CustomerID: p.CustomerID, Key: p.Key, Told: gate.KeepProblem})
	s.noted(err)
	return withdrawn, true, err
}

// Claim implements gate.Queue. The buckets are asked in turn, each time another one first.
func (s *Shared) Claim(ctx context.Context, limit int) ([]gate.Entry, error) {
	if !s.view.Load().kept {
		return nil, nil // the rates are not known yet
	}
	buckets, err := s.inLine(ctx)
	if err != nil || len(buckets) == 0 {
		return nil, err
	}
	lengths, err := s.lengths(ctx, buckets)
	if err != nil {
		return nil, err
	}
	var all []gate.Entry
	first := int(s.turn.Add(1))
	for i := range buckets {
		at := (first + i) % len(buckets)
		if lengths[at] <= 0 || len(all) >= limit {
			continue
		}
		entries, of := s.claimOf(ctx, buckets[at], limit-len(all))
		all, err = append(all, entries...), cmp.Or(err, of)
	}
	if len(all) > 0 {
		err = nil // what cannot be asked is no reason to wait with the others
	}
	return all, err
}

// unasked is the length of a queue that could not be asked, or not a moment ago.
const unasked = -1

// lengths gives how many entries there are in the queues of buckets. The error is that of all.
func (s *Shared) lengths(ctx context.Context, buckets []Bucket) ([]int64, error) {
	reads := make([]*redis.IntCmd, len(buckets))
	err := s.pipelined(ctx, func(ctx context.Context, p redis.Pipeliner) {
		for i, b := range buckets {
			if !s.resting.rests(b) {
				reads[i] = p.XLen(ctx, s.home.keys(b).queue())
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look at queues: %w", err)
	}
	lengths := make([]int64, len(buckets))
	for i, r := range reads {
		if lengths[i] = unasked; r == nil {
			continue
		}
		if s.asked(buckets[i], r.Err()); r.Err() == nil {
			lengths[i] = r.Val()
		}
	}
	return lengths, nil
}

// claimOf claims from the queue of one bucket.
func (s *Shared) claimOf(ctx context.Context, b Bucket, limit int) ([]gate.Entry, error) {
	entries, err := s.home.Claim(ctx, b, s.paceIn(b), gate.ClaimFor, limit)
	s.noted(err)
	s.asked(b, err)
	if err != nil {
		return nil, err
	}
	all := make([]gate.Entry, len(entries))
	for i, e := range entries {
		of := place{bucket: b, id: e.ID}
		of.bucket.Token, _, _ = numbersOf(e.ID)
		all[i].OrderNo = e.OrderNo
		var p parcel
		if json.Unmarshal(e.Payload, &p) == nil { // else there is nothing to make the order of, and it is refused
			of.lines = p.Lines
			all[i].At, all[i].CustomerID, all[i].RequestID = sqldb.FromMillis(p.At), p.CustomerID, p.RequestID
			all[i].Payload = p.Payload
			for _, l := range p.Lines {
				all[i].Lines = append(all[i].Lines, stock.Line{SkuID: l.SkuID, Quantity: l.Quantity})
				all[i].Buckets = append(all[i].Buckets, stock.SharedBucket(l.SkuID, of.bucket.Token, b.No))
			}
		}
		all[i].Place = of
	}
	return all, nil
}

// errNoPlace: an entry that this queue has not given.
var errNoPlace = errors.New("not an entry of this queue")

// Done implements gate.Queue.
func (s *Shared) Done(ctx context.Context, entries []gate.Entry) error {
	by := map[Bucket][]Entry{}
	for i := range entries {
		p, ok := entries[i].Place.(place)
		if !ok {
			return errNoPlace
		}
		by[p.bucket] = append(by[p.bucket], Entry{ID: p.id, OrderNo: entries[i].OrderNo})
	}
	for b, of := range by {
		err := s.home.Done(ctx, b, of)
		s.noted(err)
		if err != nil {
			return err
		}
	}
	return nil
}

// Refuse implements gate.Queue.
func (s *Shared) Refuse(ctx context.Context, e gate.Entry, problem []byte) error {
	p, ok := e.Place.(place)
	if !ok {
		return errNoPlace
	}
	_, err := s.home.Cancel(ctx, p.bucket, Cancel{OrderNo: e.OrderNo, ID: p.id, To: StateWithdrawn, Lines: p.lines,
		CustomerID: e.CustomerID, Problem: problem, Told: gate.KeepProblem})
	s.noted(err)
	return err
}

// Depths implements gate.Queue.
func (s *Shared) Depths(ctx context.Context) ([]gate.Depth, error) {
	buckets, err := s.inLine(ctx)
	if err != nil || len(buckets) == 0 {
		return nil, err
	}
	lengths, err := s.lengths(ctx, buckets)
	if err != nil {
		return nil, err
	}
	heads := make([]*redis.XMessageSliceCmd, len(buckets))
	err = s.pipelined(ctx, func(ctx context.Context, p redis.Pipeliner) {
		for i, b := range buckets {
			if lengths[i] > 0 {
				heads[i] = p.XRangeN(ctx, s.home.keys(b).queue(), "-", "+", 1)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look at queues: %w", err)
	}
	by := map[string]*gate.Depth{}
	var names []string
	for i, b := range buckets {
		d := by[b.Sale]
		if d == nil {
			d = &gate.Depth{Sale: b.Sale}
			by[b.Sale], names = d, append(names, b.Sale)
		}
		if lengths[i] > 0 {
			d.Waiting += lengths[i]
			d.Oldest = max(d.Oldest, s.age(heads[i].Val()))
		}
	}
	slices.Sort(names)
	depths := make([]gate.Depth, len(names))
	for i, name := range names {
		depths[i] = *by[name]
	}
	return depths, nil
}

// age is how long ago the first of some entries was asked for; 0: there is none.
func (s *Shared) age(entries []redis.XMessage) time.Duration {
	for _, e := range entries {
		for _, text := range e.Values {
			var p parcel
			if written, _ := text.(string); json.Unmarshal([]byte(written), &p) == nil {
				return max(s.cfg.Now().Sub(sqldb.FromMillis(p.At)), time.Millisecond)
			}
		}
	}
	return 0
}

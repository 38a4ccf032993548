package feed

import (
	"context"
	"strings"
	"time"
)

// Bounds of readers.
const (
	// GiveUp is how long a missing id is waited for: longer than any transaction, whose
	// tries end within some 6 s (sqldb.InTx; order.FirstTryWithin counts with 10 s).
	GiveUp = 10 * time.Second
	// gapsAtOnce is how many gaps one question asks about.
	gapsAtOnce = 64
	// MaxPage is the most events that one read gives.
	MaxPage = 1000
)

// Tail reads a feed from a place on and gives every event once, most of them in the order
// of their ids. Ids that are missing when a larger one is there are remembered, looked for
// at every read and given up after GiveUp, so that one transaction delays no other. It is
// not safe for concurrent use, and its memory is that of the gaps of GiveUp.
type Tail struct {
	feed *Feed
	now  func() time.Time // for durations only

	top  int64 // the largest id that was given
	gaps []gap // below it, by id
	more bool  // the last look into the gaps did not see all
}

// gap is ids that were missing, from first to last.
type gap struct {
	first, last int64
	since       time.Time
}

// Tail begins behind an id, 0 for the begin of the feed. now is for durations only.
func (f *Feed) Tail(after int64, now func() time.Time) *Tail {
	return &Tail{feed: f, top: after, now: now}
}

// Place is where a Tail of another process begins and misses nothing: every event up to
// it was given, or never comes. Some behind it may have been given too.
func (t *Tail) Place() int64 {
	if len(t.gaps) > 0 {
		return t.gaps[0].first - 1
	}
	return t.top
}

// Next gives the events that came since the last call, up to limit of those that are new
// and the late ones with them; none when nothing came. After an error nothing was given.
func (t *Tail) Next(ctx context.Context, limit int) ([]Event, error) {
	now := t.now()
	late, err := t.late(ctx)
	if err != nil {
		return nil, err
	}
	fresh, err := t.feed.read(ctx, "id > ?", []any{t.top}, limit)
	if err != nil {
		return nil, err
	}
	for i := range late {
		t.fill(late[i].ID)
	}
	kept := t.gaps[:0]
	for _, g := range t.gaps {
		if t.more || now.Sub(g.since) < GiveUp {
			kept = append(kept, g)
		}
	}
	t.gaps = kept
	for i := range fresh {
		if id := fresh[i].ID; id > t.top+1 {
			t.gaps = append(t.gaps, gap{first: t.top + 1, last: id - 1, since: now})
		}
		t.top = fresh[i].ID
	}
	return append(late, fresh...), nil
}

// late reads what has come into the gaps. None is given up behind a read that did not see all.
func (t *Tail) late(ctx context.Context) (events []Event, err error) {
	t.more = false
	for gaps := t.gaps; len(gaps) > 0 && !t.more; {
		part := gaps[:min(len(gaps), gapsAtOnce)]
		gaps = gaps[len(part):]
		args, found := make([]any, 0, 2*len(part)), []Event(nil)
		for _, g := range part {
			args = append(args, g.first, g.last)
		}
		where := strings.TrimPrefix(strings.Repeat(" OR id BETWEEN ? AND ?", len(part)), " OR ")
		if found, err = t.feed.read(ctx, where, args, MaxPage); err != nil {
			return nil, err
		}
		events, t.more = append(events, found...), len(found) == MaxPage
	}
	return events, nil
}

// fill takes an id out of its gap.
func (t *Tail) fill(id int64) {
	for i, g := range t.gaps {
		if id < g.first || id > g.last {
			continue
		}
		left, right := g, g
		left.last, right.first = id-1, id+1
		rest := append([]gap(nil), t.gaps[i+1:]...)
		t.gaps = t.gaps[:i]
		for _, part := range []gap{left, right} {
			if part.first <= part.last {
				t.gaps = append(t.gaps, part)
			}
		}
		t.gaps = append(t.gaps, rest...)
		return
	}
}

// After gives events behind a place for a reader without a memory, in the order of their
// ids, and the place to go on from. It stops before a missing id until the one behind it is
// so old that the missing one cannot come any more: 2 × GiveUp, since an event has the time
// of its decision and its id is given up to a transaction later. now is the clock by which
// events are dated.
func (f *Feed) After(ctx context.Context, after int64, limit int, now time.Time) ([]Event, int64, error) {
	events, err := f.read(ctx, "id > ?", []any{after}, limit)
	if err != nil {
		return nil, after, err
	}
	for i := range events {
		if events[i].ID != after+1 && now.Sub(events[i].At) < 2*GiveUp {
			return events[:i], after, nil
		}
		after = events[i].ID
	}
	return events, after, nil
}

// From gives events from an id on, whatever may still come before them: for what is read
// back.
func (f *Feed) From(ctx context.Context, id int64, limit int) ([]Event, error) {
	return f.read(ctx, "id >= ?", []any{id}, limit)
}

// Since gives the first id of the events of at and later; behind the newest one where there
// is none. Ids and times run together but for what was written at the same moment, so that
// some older ones may be among those from it on.
func (f *Feed) Since(ctx context.Context, at time.Time) (int64, error) {
	newest, err := f.Newest(ctx)
	low, high := int64(1), newest+1
	for err == nil && low < high {
		middle := low + (high-low)/2
		var next []Event
		if next, err = f.From(ctx, middle, 1); err != nil {
			break
		}
		if len(next) > 0 && next[0].At.Before(at) {
			low = next[0].ID + 1
		} else {
			high = middle
		}
	}
	return low, err
}

// Begin gives the place to begin at for who wants what happens from now on: the newest id,
// or the one before the first that is missing and may still come, so that some of the
// last 2 × GiveUp may be behind it. now is the clock by which events are dated.
func (f *Feed) Begin(ctx context.Context, now time.Time) (int64, error) {
	first, err := f.Since(ctx, now.Add(-2*GiveUp))
	if err != nil {
		return 0, err
	}
	next, err := f.From(ctx, first, 1)
	if err != nil || len(next) == 0 || next[0].ID != first {
		return first - 1, err
	}
	last, err := f.read(ctx, `id >= ?
  AND NOT EXISTS (SELECT 1 FROM events_out n WHERE n.id = events_out.id + 1)`, []any{first}, 1)
	if err != nil || len(last) == 0 { // none: pruned since
		return first - 1, err
	}
	return last[0].ID, nil
}

package order

import (
	"context"

	"orderd/migrations/bounds"
)

// Note is what a person wants the others who read an order's timeline to know.
type Note struct {
	OrderNo string
	Text    string // bounds.Reason
	// IfVersion is the version that was read: the same note sent twice is one, and whoever writes one has seen
	// what the others wrote.
	IfVersion int64
	Cause     Cause
}

// eventNoted tells of a note. It is in the timeline alone: the feed tells nobody.
const eventNoted = "order.noted"

// AddNote adds a line to the timeline of an order and moves nothing else. Lines of a timeline are never changed nor
// removed. Errors: *ValidationError, ErrNotFound, ErrVersion, database errors.
func (s *Service) AddNote(ctx context.Context, n Note) (Order, error) {
	var bad invalid
	bad.text("#/note", &bounds.Reason, n.Text)
	if err := bad.err(); err != nil {
		return Order{}, err
	}
	_, err := s.apply(ctx, &addNote{header{orderNo: n.OrderNo, ifVersion: n.IfVersion, cause: n.Cause,
		detail: map[string]string{"note": n.Text}}})
	if err != nil {
		return Order{}, err
	}
	return s.findNow(ctx, n.OrderNo, "")
}

// addNote: a person has something to say of an order.
type addNote struct{ header }

// decide writes it down.
func (c *addNote) decide(b *batch) (applied, error) {
	e, err := b.find(&c.header)
	if err != nil {
		return applied{}, err
	}
	b.record(e, &c.header, eventNoted, e.after.State, nil)
	return applied{order: e.after, before: e.after.State, cell: same()}, nil
}

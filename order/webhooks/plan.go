package webhooks

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment/feed"
)

// Bounds of the planner.
const (
	// lease is how long a process makes the deliveries of all; it is renewed at every pass.
	lease = 10 * time.Second
	// pruneRows is how many deliveries that have ended one pass deletes, of each endpoint.
	pruneRows = 500
)

// plan makes a delivery of every event and endpoint that wants it, in this process or in
// none: one that dies is followed after its lease. The place in the feed moves in the
// transaction that makes them.
func (s *Service) plan(ctx context.Context, endpoints []Endpoint) error {
	now := s.cfg.Now()
	until := sqldb.Millis(now.Add(lease))
	ours := false
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE webhook_places
SET holder = ?, until = ?
WHERE name = 'feed'
  AND (holder = ? OR until < ?)`, s.cfg.Holder, until, s.cfg.Holder, sqldb.Millis(now))
		ours = n == 1
		return err
	})
	if err != nil || !ours {
		s.tail = nil
		return err
	}
	if s.tail == nil {
		if err := s.begin(ctx, endpoints); err != nil {
			return err
		}
	}
	for more := true; more; {
		events, err := s.tail.Next(ctx, feed.MaxPage)
		if err != nil {
			return err
		}
		more = len(events) >= feed.MaxPage
		if err := s.planned(ctx, endpoints, events); err != nil {
			s.tail = nil // what it gave is read again from the place that is written
			return err
		}
	}
	return nil
}

// begin begins at the place that is written, or where the first endpoint wants to be told
// from.
func (s *Service) begin(ctx context.Context, endpoints []Endpoint) error {
	place := int64(0)
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT place
FROM webhook_places
WHERE name = 'feed'`).Scan(&place)
	})
	if err != nil {
		return fmt.Errorf("read the place in the feed: %w", err)
	}
	first := slices.MinFunc(endpoints, func(a, b Endpoint) int { return int(min(max(a.from-b.from, -1), 1)) })
	s.tail = s.feed.Tail(max(place, first.from), time.Now) // durations only, never stored
	return nil
}

// planned writes the deliveries of events, and the place.
func (s *Service) planned(ctx context.Context, endpoints []Endpoint, events []feed.Event) error {
	var all []Delivery
	for i := range events {
		for j := range endpoints {
			if e := &endpoints[j]; e.wants(&events[i]) {
				all = append(all, Delivery{Endpoint: e.ID, Event: events[i]})
			}
		}
	}
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := tx.UpdateRows(ctx, 1, `UPDATE webhook_places
SET place = ?
WHERE name = 'feed'
  AND holder = ?`, s.tail.Place(), s.cfg.Holder); err != nil {
			return err
		}
		return insertDeliveries(ctx, tx, all, s.cfg.Now())
	})
}

// Redeliver sends an event to an endpoint again, also one that it was not told. Errors:
// ErrNotFound, ErrNoEvent.
func (s *Service) Redeliver(ctx context.Context, id string, event int64) error {
	n, err := s.again(ctx, id, "event_id = ?", event)
	if err != nil || n > 0 {
		return err
	}
	events, err := s.feed.From(ctx, event, 1)
	if err != nil {
		return err
	}
	if len(events) == 0 || events[0].ID != event {
		return ErrNoEvent
	}
	return s.insertAgain(ctx, id, events)
}

// RedeliverSince sends every event since a time again that an endpoint wants, as far as the
// feed has it, and gives how many. Errors: ErrNotFound.
func (s *Service) RedeliverSince(ctx context.Context, id string, at time.Time) (n int64, err error) {
	e, err := s.Find(ctx, id)
	if err != nil {
		return 0, err
	}
	e.from = 0
	next, err := s.feed.Since(ctx, at)
	for err == nil {
		var events []feed.Event
		if events, err = s.feed.From(ctx, next, feed.MaxPage); err != nil || len(events) == 0 {
			break
		}
		first, last := events[0].ID, events[len(events)-1].ID
		if _, err = s.again(ctx, id, "event_id BETWEEN ? AND ?", first, last); err != nil {
			break
		}
		events = slices.DeleteFunc(events, func(ev feed.Event) bool { return !e.wants(&ev) })
		n += int64(len(events))
		err = s.insertAgain(ctx, id, events)
		next = last + 1
	}
	return n, err
}

// again has deliveries begin their ladders anew, now.
func (s *Service) again(ctx context.Context, id, which string, args ...any) (n int64, err error) {
	if _, err := s.Find(ctx, id); err != nil {
		return 0, err
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err = tx.Update(ctx, `UPDATE webhook_deliveries
SET due_at = ?, tries = 0, delivered = 0
WHERE endpoint_id = ?
  AND `+which, append([]any{sqldb.Millis(s.cfg.Now()), id}, args...)...)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("send again: %w", err)
	}
	return n, nil
}

// insertAgain makes deliveries of events, but those that are there.
func (s *Service) insertAgain(ctx context.Context, id string, events []feed.Event) error {
	all := make([]Delivery, len(events))
	for i := range events {
		all[i] = Delivery{Endpoint: id, Event: events[i]}
	}
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		err := insertDeliveries(ctx, tx, all, s.cfg.Now())
		if sqldb.IsDuplicate(err) {
			return fmt.Errorf("%w: the planner makes them too", sqldb.ErrLostRace)
		}
		return err
	})
}

// prune deletes deliveries that have ended and are older than Config.Keep, and all of
// endpoints that were removed, in parts.
func (s *Service) prune(ctx context.Context) error {
	type owner struct {
		id   string
		gone int64 // 1: it was removed
	}
	all, err := sqldb.Decided(ctx, s.db, `SELECT id, CASE state WHEN 'removed' THEN 1 ELSE 0 END
FROM webhook_endpoints`, nil, func(rows *sql.Rows) (o owner, err error) {
		err = rows.Scan(&o.id, &o.gone)
		return o, err
	})
	for _, o := range all {
		before := s.cfg.Now().Add(-s.cfg.Keep)
		if o.gone == 1 {
			before = s.cfg.Now().Add(lease)
		} else if s.cfg.Keep == 0 {
			continue
		}
		err = errors.Join(err, s.db.InTxOfMany(ctx, false, func(ctx context.Context, tx *sqldb.Tx) error {
			var ids []int64
			err := sqldb.Each(ctx, tx, `SELECT event_id
FROM webhook_deliveries
WHERE endpoint_id = ?
  AND at < ?
  AND (due_at IS NULL OR ? = 1)
ORDER BY event_id
LIMIT ?`, []any{o.id, sqldb.Millis(before), o.gone, pruneRows}, func(rows *sql.Rows) error {
				var id int64
				err := rows.Scan(&id)
				ids = append(ids, id)
				return err
			})
			if err != nil || len(ids) == 0 {
				return err
			}
			_, err = tx.ExecContext(ctx, `DELETE FROM webhook_deliveries
WHERE endpoint_id = ?
  AND event_id IN (`+sqldb.In(len(ids))+`)`, append([]any{o.id}, sqldb.Args(ids)...)...)
			return err
		}))
	}
	return err
}

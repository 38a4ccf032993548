package webhooks

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment/feed"
)

// Bounds of the planner.
const (
	// lease is how long a process makes the deliveries of all; it is renewed at every pass.
	lease = 10 * time.Second
	// pruneRows is how many deliveries one statement of prune reads, or deletes.
	pruneRows = 500
)

// plan makes a delivery of every event and endpoint that wants it, in this process or in
// none: one that dies is followed after its lease. The place in the feed moves in the
// transaction that makes them. planned is called behind each page, so that what waits for
// the sending is no more than that, however much has happened.
func (s *Service) plan(ctx context.Context, endpoints []Endpoint, planned func([]Endpoint)) error {
	ours, err := s.hold(ctx)
	if err != nil || !ours {
		s.notOurs()
		return err
	}
	if s.tail == nil {
		if err := s.begin(ctx, endpoints); err != nil {
			return err
		}
	}
	s.plans.Store(true)
	for more := true; more && ctx.Err() == nil; {
		page := max(1, feed.MaxPage/max(1, len(endpoints))) // rows of one transaction, if all want all
		events, err := s.tail.Next(ctx, page)
		if err != nil {
			return err
		}
		more = len(events) >= page
		// Read behind the events: one that was on before any of them happened is among these.
		if endpoints, err = s.on(ctx); err == nil && (len(events) > 0 || s.tail.Place() != s.written) {
			err = s.planned(ctx, endpoints, events)
		}
		if err != nil {
			s.notOurs() // what it gave is read again from the place that is written
			return err
		}
		planned(endpoints)
	}
	return nil
}

// hold takes the lease, or renews it when a quarter of it has passed, and reports that it is
// this process's.
func (s *Service) hold(ctx context.Context) (ours bool, err error) {
	now := s.cfg.Now()
	if left := s.heldUntil.Sub(now); s.tail != nil && left > lease*3/4 && left <= lease {
		return true, nil
	}
	until := now.Add(lease)
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE webhook_places
SET holder = ?, `+untilColumn+` = ?
WHERE name = 'feed'
  AND (holder = ? OR `+untilColumn+` < ?)`, s.cfg.Holder, sqldb.Millis(until), s.cfg.Holder, sqldb.Millis(now))
		ours = n == 1
		return err
	})
	s.heldUntil = until
	return ours, err
}

// untilColumn is until, which is a word of TiDB's language.
const untilColumn = "`until`"

// notOurs forgets that this process makes deliveries.
func (s *Service) notOurs() {
	s.tail = nil
	s.plans.Store(false)
}

// release lets another process make deliveries at once, when this one stops.
func (s *Service) release(ctx context.Context) {
	if !s.plans.Load() {
		return
	}
	s.notOurs()
	err := s.db.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE webhook_places
SET `+untilColumn+` = 0
WHERE name = 'feed'
  AND holder = ?`, s.cfg.Holder)
		return err
	})
	if err != nil {
		s.cfg.Log.Warn("another process makes the deliveries of webhooks a lease later", "err", err)
	}
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
	s.written = place
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
	place := s.tail.Place()
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := tx.UpdateRows(ctx, 1, `UPDATE webhook_places
SET place = ?
WHERE name = 'feed'
  AND holder = ?`, place, s.cfg.Holder); err != nil {
			return err
		}
		err := insertDeliveries(ctx, tx, all, s.cfg.Now())
		if len(all) > 0 {
			failpoint.Hit("hook.planned")
		}
		return err
	})
	if err == nil {
		s.written = place
	}
	return err
}

// Redeliver sends an event to an endpoint again, also one that it was not told. Errors:
// ErrNotFound, ErrNoEvent.
func (s *Service) Redeliver(ctx context.Context, id string, event int64, why string) error {
	n, err := s.again(ctx, id, why, "event_id = ?", event)
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
func (s *Service) RedeliverSince(ctx context.Context, id string, at time.Time, why string) (n int64, err error) {
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
		if _, err = s.again(ctx, id, why, "event_id BETWEEN ? AND ?", first, last); err != nil {
			break
		}
		events = slices.DeleteFunc(events, func(ev feed.Event) bool { return !e.wants(&ev) })
		n += int64(len(events))
		err = s.insertAgain(ctx, id, events)
		next = last + 1
	}
	return n, err
}

// again has deliveries begin their ladders anew, now. Why an endpoint is disabled stays what is
// said of it.
func (s *Service) again(ctx context.Context, id, why, which string, args ...any) (n int64, err error) {
	if _, err := s.Find(ctx, id); err != nil {
		return 0, err
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Update(ctx, `UPDATE webhook_endpoints
SET why = ?, updated_at = ?
WHERE id = ?
  AND state = 'on'`, said(why), sqldb.Millis(s.cfg.Now()), id); err != nil {
			return err
		}
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

// keep prunes until ctx ends, beside the planner, which does not wait for it.
func (s *Service) keep(ctx context.Context) {
	for sqldb.Sleep(ctx, pruneEvery/2+rand.N(pruneEvery)) { // replicas do not prune in step
		if err := s.prune(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("old deliveries of webhooks stay", "err", err)
		}
	}
}

// prune deletes deliveries that are older than Config.Keep and have ended, or wait for an
// endpoint that is disabled: the feed has forgotten their events too. Of endpoints that were
// removed it deletes all, in parts.
func (s *Service) prune(ctx context.Context) error {
	type owner struct {
		id    string
		state EndpointState
	}
	all, err := sqldb.Decided(ctx, s.db, `SELECT id, state
FROM webhook_endpoints`, nil, func(rows *sql.Rows) (o owner, err error) {
		err = rows.Scan(&o.id, &o.state)
		return o, err
	})
	for _, o := range all {
		if o.state == stateRemoved || s.cfg.Keep > 0 {
			err = errors.Join(err, s.pruneOf(ctx, o.id, o.state))
		}
	}
	return err
}

// pruneOf is prune of one endpoint, the oldest first. It stops at the first delivery that is
// younger: ids and times run together.
func (s *Service) pruneOf(ctx context.Context, id string, state EndpointState) error {
	type row struct {
		event, at int64
		due       sql.NullInt64
	}
	before := sqldb.Millis(s.cfg.Now().Add(-s.cfg.Keep))
	for after, more := int64(0), true; more; {
		rows, err := sqldb.Decided(ctx, s.db, `SELECT event_id, at, due_at
FROM webhook_deliveries
WHERE endpoint_id = ?
  AND event_id > ?
ORDER BY event_id
LIMIT ?`, []any{id, after, pruneRows}, func(rows *sql.Rows) (r row, err error) {
			err = rows.Scan(&r.event, &r.at, &r.due)
			return r, err
		})
		if err != nil {
			return fmt.Errorf("read old deliveries: %w", err)
		}
		var ended []int64
		more = len(rows) == pruneRows
		for _, r := range rows {
			if state != stateRemoved && r.at >= before {
				more = false
				break
			}
			if after = r.event; state != StateOn || !r.due.Valid {
				ended = append(ended, r.event)
			}
		}
		if len(ended) == 0 {
			continue
		}
		// One that waits stays where its endpoint was enabled meanwhile.
		args := append(append([]any{id}, sqldb.Args(ended)...), id)
		err = s.db.InTxOfMany(ctx, false, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM webhook_deliveries
WHERE endpoint_id = ?
  AND event_id IN (`+sqldb.In(len(ended))+`)
  AND (due_at IS NULL OR EXISTS (
    SELECT 1
    FROM webhook_endpoints
    WHERE id = ?
      AND state <> 'on'))`, args...)
			return err
		})
		if err != nil {
			return fmt.Errorf("delete old deliveries: %w", err)
		}
	}
	return nil
}

package webhooks

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment/feed"
)

const endpointColumns = `id, url, types, note, secret, old_secret, old_until, state, why, told_from, failing_since,
  alarmed_at, created_by, created_at`

// scanEndpoint reads endpointColumns.
func scanEndpoint(rows *sql.Rows) (e Endpoint, err error) {
	var types, old string
	var until, failing, alarmed, created int64
	err = rows.Scan(&e.ID, &e.URL, &types, &e.Note, &e.secret, &old, &until, &e.State, &e.Why, &e.from, &failing,
		&alarmed, &e.CreatedBy, &created)
	for t := range strings.FieldsSeq(types) {
		e.Types = append(e.Types, feed.Type(t))
	}
	e.old = strings.Fields(old)
	e.TwoSecretsUntil, e.FailingSince, e.alarmed = since(until), since(failing), since(alarmed)
	e.CreatedAt = sqldb.FromMillis(created)
	return e, err
}

// since is a time that may be none.
func since(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return sqldb.FromMillis(ms)
}

// List gives the endpoints that were not removed, the oldest first.
func (s *Service) List(ctx context.Context) ([]Endpoint, error) {
	all, err := sqldb.Decided(ctx, s.db, `SELECT `+endpointColumns+`
FROM webhook_endpoints
WHERE state <> 'removed'
ORDER BY id`, nil, scanEndpoint)
	if err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	return all, nil
}

// on gives the endpoints that are on.
func (s *Service) on(ctx context.Context) ([]Endpoint, error) {
	all, err := s.List(ctx)
	return slices.DeleteFunc(all, func(e Endpoint) bool { return e.State != StateOn }), err
}

// Find gives an endpoint, ErrNotFound without.
func (s *Service) Find(ctx context.Context, id string) (e Endpoint, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		e, err = findEndpoint(ctx, tx, id)
		return err
	})
	if err == nil && e.State == stateRemoved {
		err = ErrNotFound
	}
	return e, err
}

// findEndpoint is Find in a transaction, of those that were removed too.
func findEndpoint(ctx context.Context, tx *sqldb.Tx, id string) (found Endpoint, err error) {
	err = sqldb.Each(ctx, tx, `SELECT `+endpointColumns+`
FROM webhook_endpoints
WHERE id = ?`, []any{id}, func(rows *sql.Rows) error {
		found, err = scanEndpoint(rows)
		return err
	})
	switch {
	case err != nil:
		return found, fmt.Errorf("read a webhook: %w", err)
	case found.ID == "":
		return found, ErrNotFound
	}
	return found, nil
}

// hold lets one transaction at a time decide where endpoints are. It stands before whatever that reads.
func hold(ctx context.Context, tx *sqldb.Tx) error {
	var place int64
	err := tx.QueryRowContext(ctx, `SELECT place
FROM webhook_places
WHERE name = 'feed'
FOR UPDATE`).Scan(&place)
	if err != nil {
		return fmt.Errorf("hold the webhooks: %w", err)
	}
	return nil
}

// free gives *ThereError unless no endpoint but id has an address; hold stands before it.
func free(ctx context.Context, tx *sqldb.Tx, id, address string) error {
	var other string
	err := tx.QueryRowContext(ctx, `SELECT COALESCE(MIN(id), '')
FROM webhook_endpoints
WHERE state <> 'removed'
  AND url = ?
  AND id <> ?`, address, id).Scan(&other)
	if err == nil && other != "" {
		return &ThereError{other}
	}
	return err
}

// insertEndpoint writes a new endpoint, unless there are too many, or one of its address is there.
func (s *Service) insertEndpoint(ctx context.Context, e *Endpoint) error {
	defer s.known.Store(nil)
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		err := hold(ctx, tx)
		if err == nil {
			err = free(ctx, tx, e.ID, e.URL)
		}
		if err != nil {
			return err
		}
		var n int
		err = tx.QueryRowContext(ctx, `SELECT COUNT(*)
FROM webhook_endpoints
WHERE state <> 'removed'
  AND id <> ?`, e.ID).Scan(&n)
		if err == nil && n >= MaxEndpoints {
			return ErrTooMany
		}
		if err == nil {
			at := sqldb.Millis(e.CreatedAt)
			_, err = tx.ExecContext(ctx, `INSERT INTO webhook_endpoints
  (id, url, types, note, secret, state, why, told_from, created_by, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, e.ID, e.URL, typesOf(e.Types), e.Note, e.secret, string(e.State), e.Why,
				e.from, e.CreatedBy, at, at)
		}
		if sqldb.IsDuplicate(err) && tx.MayBeDone() {
			return nil // ours
		}
		return err
	})
}

// rotate puts a sealed secret in the place of another, see Rotate.
func (s *Service) rotate(ctx context.Context, id, sealed, why, seen string) (e Endpoint, err error) {
	defer s.known.Store(nil)
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := s.cfg.Now()
		if _, err := tx.Update(ctx, `UPDATE webhook_endpoints
SET updated_at = ?
WHERE id = ?
  AND state <> 'removed'`, sqldb.Millis(now), id); err != nil { // and holds it
			return err
		}
		if e, err = findEndpoint(ctx, tx, id); err != nil {
			return err
		}
		made := e.CreatedAt
		if !e.TwoSecretsUntil.IsZero() {
			made = e.TwoSecretsUntil.Add(-rotation)
		}
		switch {
		case e.State == stateRemoved:
			return ErrNotFound
		case e.secret == sealed:
			return nil // done, by the transaction of which nobody knew
		case seen != "" && seen != e.SecretVersion():
			return &RotatedError{At: made, Until: e.TwoSecretsUntil, Why: e.Why}
		}
		if !now.Before(e.TwoSecretsUntil) {
			e.old = nil
		}
		if len(e.old) >= mostOld {
			return &RotatedError{At: made, Until: e.TwoSecretsUntil, Why: e.Why, Full: true}
		}
		e.old = append([]string{e.secret}, e.old...)
		if _, err = tx.Update(ctx, `UPDATE webhook_endpoints
SET secret = ?, old_secret = ?, old_until = ?, why = ?
WHERE id = ?`, sealed, strings.Join(e.old, " "), sqldb.Millis(now.Add(rotation)), why, id); err != nil {
			return err
		}
		e, err = findEndpoint(ctx, tx, id)
		return err
	})
	return e, err
}

// update changes an endpoint and gives it as it is then. set is SQL of this package.
func (s *Service) update(ctx context.Context, id, set string, args ...any) (Endpoint, error) {
	return s.updateIf(ctx, id, func(context.Context, *sqldb.Tx) error { return nil }, set, args...)
}

// updateIf is update where nothing is in its way: may is asked in the same transaction, before.
func (s *Service) updateIf(ctx context.Context, id string, may func(context.Context, *sqldb.Tx) error, set string,
	args ...any) (e Endpoint, err error) {
	defer s.known.Store(nil)
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := may(ctx, tx); err != nil {
			return err
		}
		n, err := tx.Update(ctx, `UPDATE webhook_endpoints
SET `+set+`, updated_at = ?
WHERE id = ?
  AND state <> 'removed'`, append(args[:len(args):len(args)], sqldb.Millis(s.cfg.Now()), id)...)
		if err == nil {
			e, err = findEndpoint(ctx, tx, id)
		}
		if err == nil && n == 0 && !tx.MayBeDone() { // it was removed before
			err = ErrNotFound
		}
		return err
	})
	return e, err
}

// Delivery is an event on its way to an endpoint.
type Delivery struct {
	Event    feed.Event
	Endpoint string
	Tries    int64
	// DueAt is when it is sent next, zero when never: it was taken, or its ladder has ended.
	DueAt     time.Time
	Delivered time.Time     // zero until it was taken
	TriedAt   time.Time     // the last time
	Status    int           // the HTTP status of that, 0 without an answer
	Problem   string        // of that, "" when it was taken
	Took      time.Duration // of that, whole milliseconds
	Answer    string        // of that: its beginning, without secrets
}

const deliveryColumns = `endpoint_id, event_id, at, type, order_no, version, state, ref, reference, tries, due_at,
  delivered, status, problem, tried_at, took_ms, answer`

// scanDelivery reads deliveryColumns.
func scanDelivery(rows *sql.Rows) (d Delivery, err error) {
	var at, delivered, tried, took int64
	var due sql.NullInt64
	e := &d.Event
	err = rows.Scan(&d.Endpoint, &e.ID, &at, &e.Type, &e.OrderNo, &e.Version, &e.State, &e.Ref, &e.Reference, &d.Tries,
		&due, &delivered, &d.Status, &d.Problem, &tried, &took,
		&d.Answer)
	d.Took = time.Duration(took) * time.Millisecond
	e.At, d.Delivered, d.TriedAt = sqldb.FromMillis(at), since(delivered), since(tried)
	if due.Valid {
		d.DueAt = sqldb.FromMillis(due.Int64)
	}
	return d, err
}

// Deliveries gives up to limit deliveries to an endpoint, the newest events first; before is
// the event_id of the last one seen, 0 to begin.
func (s *Service) Deliveries(ctx context.Context, id string, before int64, limit int) ([]Delivery, error) {
	if _, err := s.Find(ctx, id); err != nil {
		return nil, err
	}
	if before <= 0 {
		before = 1<<63 - 1
	}
	all, err := sqldb.Decided(ctx, s.db, `SELECT `+deliveryColumns+`
FROM webhook_deliveries
WHERE endpoint_id = ?
  AND event_id < ?
ORDER BY event_id DESC
LIMIT ?`, []any{id, before, limit}, scanDelivery)
	if err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	return all, nil
}

// orderQuery reads the deliveries of an order.
const orderQuery = `SELECT ` + deliveryColumns + `
FROM webhook_deliveries /*! FORCE INDEX (ix_deliveries_order) */
WHERE order_no = ?
ORDER BY event_id DESC
LIMIT ?`

// OfOrder gives up to limit deliveries of an order's events, to whichever endpoint, the newest first.
func (s *Service) OfOrder(ctx context.Context, orderNo string, limit int) ([]Delivery, error) {
	all, err := sqldb.Decided(ctx, s.db, orderQuery, []any{orderNo, limit}, scanDelivery)
	if err != nil {
		return nil, fmt.Errorf("read the deliveries of an order: %w", err)
	}
	return all, nil
}

// Backlog is what is on its way, for metrics.
type Backlog struct {
	On, Failing, Disabled int       // endpoints
	Waiting               int64     // deliveries to those that are on
	Oldest                time.Time // event of them; zero without any
}

// Backlog counts what is on its way.
func (s *Service) Backlog(ctx context.Context) (b Backlog, err error) {
	endpoints, err := s.List(ctx)
	if err != nil {
		return b, err
	}
	for i := range endpoints {
		e := &endpoints[i]
		if e.State != StateOn {
			b.Disabled++
			continue
		}
		b.On++
		if !e.FailingSince.IsZero() {
			b.Failing++
		}
		var n int64
		var oldest sql.NullInt64
		err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRowContext(ctx, `SELECT COUNT(*), MIN(at)
FROM webhook_deliveries
WHERE endpoint_id = ?
  AND due_at IS NOT NULL`, e.ID).Scan(&n, &oldest)
		})
		if err != nil {
			return b, fmt.Errorf("count deliveries: %w", err)
		}
		b.Waiting += n
		if oldest.Valid && (b.Oldest.IsZero() || sqldb.FromMillis(oldest.Int64).Before(b.Oldest)) {
			b.Oldest = sqldb.FromMillis(oldest.Int64)
		}
	}
	return b, nil
}

// insertDeliveries makes deliveries that are due at once, but those that are there.
func insertDeliveries(ctx context.Context, tx *sqldb.Tx, all []Delivery, now time.Time) error {
	if len(all) == 0 {
		return nil
	}
	type key struct {
		endpoint string
		event    int64
	}
	there, ids := map[key]bool{}, map[string][]int64{}
	for i := range all {
		ids[all[i].Endpoint] = append(ids[all[i].Endpoint], all[i].Event.ID)
	}
	for endpoint, events := range ids {
		for part := range slices.Chunk(events, feed.MaxPage) {
			args := append([]any{endpoint}, sqldb.Args(part)...)
			err := sqldb.Each(ctx, tx, `SELECT event_id
FROM webhook_deliveries
WHERE endpoint_id = ?
  AND event_id IN (`+sqldb.In(len(part))+`)`, args, func(rows *sql.Rows) error {
				var id int64
				err := rows.Scan(&id)
				there[key{endpoint, id}] = true
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	const cols = 10
	args := make([]any, 0, cols*len(all))
	for i := range all {
		e := &all[i].Event
		if there[key{all[i].Endpoint, e.ID}] {
			continue
		}
		args = append(args, all[i].Endpoint, e.ID, sqldb.Millis(e.At), string(e.Type), e.OrderNo, e.Version, e.State,
			e.Ref, e.Reference, sqldb.Millis(now))
	}
	return tx.InsertRows(ctx, `INSERT INTO webhook_deliveries
  (endpoint_id, event_id, at, type, order_no, version, state, ref, reference, due_at)
VALUES`, cols, args)
}

// claimed is deliveries of one process, and where they go as it was said when they were
// claimed.
type claimed struct {
	to      Endpoint
	secrets [][]byte
	due     []Delivery
}

// claim takes up to limit deliveries that are due for this process, none of an endpoint that
// is not on: they are due again at turn, should it die. Two processes never have the same.
func (s *Service) claim(ctx context.Context, id string, now, turn time.Time, limit int) (c claimed, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		c = claimed{}
		err := sqldb.Each(ctx, tx, `SELECT `+deliveryColumns+`
FROM webhook_deliveries
WHERE endpoint_id = ?
  AND due_at <= ?
ORDER BY due_at, event_id
LIMIT ?
FOR UPDATE`, []any{id, sqldb.Millis(now), limit}, func(rows *sql.Rows) error {
			d, err := scanDelivery(rows)
			c.due = append(c.due, d)
			return err
		})
		if err != nil || len(c.due) == 0 {
			return err
		}
		if c.to, err = findEndpoint(ctx, tx, id); err != nil {
			return err
		}
		if c.to.State != StateOn {
			c.due = nil
			return nil
		}
		if c.secrets, err = s.secrets(&c.to); err != nil {
			return err
		}
		args := []any{sqldb.Millis(turn), sqldb.Millis(now), id}
		for i := range c.due {
			c.due[i].Tries++
			args = append(args, c.due[i].Event.ID)
		}
		return tx.UpdateRows(ctx, len(c.due), `UPDATE webhook_deliveries
SET due_at = ?, tries = tries + 1, tried_at = ?
WHERE endpoint_id = ?
  AND event_id IN (`+sqldb.In(len(c.due))+`)`, args...)
	})
	if err != nil {
		return claimed{}, fmt.Errorf("claim deliveries: %w", err)
	}
	return c, nil
}

// settle writes what became of claimed deliveries. A turn that has passed to another, or an
// order to send it again, is not written over.
func (s *Service) settle(ctx context.Context, id string, turn time.Time, results []result) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range results {
			r := &results[i]
			due := sql.NullInt64{Int64: sqldb.Millis(r.next), Valid: !r.next.IsZero()}
			delivered := int64(0)
			if r.taken {
				delivered = sqldb.Millis(s.cfg.Now())
			}
			_, err := tx.Update(ctx, `UPDATE webhook_deliveries
SET due_at = ?, delivered = ?, status = ?, problem = ?, took_ms = ?, answer = ?
WHERE endpoint_id = ?
  AND event_id = ?
  AND tries = ?
  AND due_at = ?`, due, delivered, r.status, bounds.WebhookProblem.Cut(r.problem),
				r.took.Milliseconds(), r.answer, id, r.event, r.tries, sqldb.Millis(turn))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write what became of deliveries: %w", err)
	}
	return nil
}

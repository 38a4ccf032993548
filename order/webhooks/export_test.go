package webhooks

import (
	"context"
	"database/sql"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment/feed"
)

// AtOnce is atOnce.
const AtOnce = atOnce

// PruneRows is pruneRows.
const PruneRows = pruneRows

// OrderQuery is orderQuery.
const OrderQuery = orderQuery

// AnswerOf is answerOf.
var AnswerOf = answerOf

// MayDial is mayDial.
var MayDial = mayDial

// Prune is prune.
func (s *Service) Prune(ctx context.Context) error { return s.prune(ctx) }

// Claimed plans, claims what is due, and does nothing more.
func (s *Service) Claimed(ctx context.Context) (n int, err error) {
	all, err := s.List(ctx)
	if err == nil {
		err = s.plan(ctx, all, func([]Endpoint) {})
	}
	for i := 0; err == nil && i < len(all); i++ {
		now := s.cfg.Now().Truncate(time.Millisecond)
		var c claimed
		c, err = s.claim(ctx, all[i].ID, now, now.Add(turnFor), atOnce)
		n += len(c.due)
	}
	return n, err
}

// Known counts all deliveries.
func (s *Service) Known(ctx context.Context) (n int, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM webhook_deliveries").Scan(&n)
	})
	return n, err
}

// StartRelay is Relay, which hears of commits from now on; run runs it.
func (s *Service) StartRelay(ctx context.Context) (run func()) {
	b, stop := s.hear()
	return func() {
		defer stop()
		s.relay(ctx, b)
	}
}

// Wanted is wanted.
func (s *Service) Wanted(ctx context.Context, types ...feed.Type) bool { return s.wanted(ctx, types) }

// Plans reports that this process makes deliveries.
func (s *Service) Plans() bool { return s.plans.Load() }

// Claims counts, by endpoint, the deliveries that were claimed and not settled: all that
// lanes have in memory.
func (s *Service) Claims(ctx context.Context) (map[string]int, error) {
	claims := map[string]int{}
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return sqldb.Each(ctx, tx, `SELECT endpoint_id, COUNT(*)
FROM webhook_deliveries
WHERE tries > 0
  AND delivered = 0
  AND problem = ''
GROUP BY endpoint_id`, nil, func(rows *sql.Rows) error {
			var id string
			var n int
			err := rows.Scan(&id, &n)
			claims[id] = n
			return err
		})
	})
	return claims, err
}

// Patient lets a call take as long as it takes.
func (s *Service) Patient() { s.tls.Timeout, s.bare.Timeout = 0, 0 }

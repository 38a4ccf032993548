package webhooks

import (
	"context"
	"time"

	"orderd/migrations/sqldb"
)

// AtOnce is atOnce.
const AtOnce = atOnce

// PruneRows is pruneRows.
const PruneRows = pruneRows

// MayDial is mayDial.
var MayDial = mayDial

// Prune is prune.
func (s *Service) Prune(ctx context.Context) error { return s.prune(ctx) }

// Claimed plans, claims what is due, and does nothing more.
func (s *Service) Claimed(ctx context.Context) (n int, err error) {
	all, err := s.List(ctx)
	if err == nil {
		err = s.plan(ctx, all)
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

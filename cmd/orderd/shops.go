package main

import (
	"context"

	"orderd/cmd/screen"
	"orderd/migrations/sqldb"
	"orderd/order/shops"
	"orderd/payment/feed"
)

// datedFeed is the feed with the clock by which its events are dated.
type datedFeed struct {
	*feed.Feed
	clock *sqldb.Clock
}

// After implements orderhttp.Events.
func (f datedFeed) After(ctx context.Context, after int64, limit int) ([]feed.Event, int64, error) {
	return f.Feed.After(ctx, after, limit, f.clock.Now())
}

// Begin implements orderhttp.Events.
func (f datedFeed) Begin(ctx context.Context) (int64, error) { return f.Feed.Begin(ctx, f.clock.Now()) }

// createShopKey makes a key of a shop's back end, and prints its secret alone.
func createShopKey(ctx context.Context, co *core, t *terminal, shop string, scopes []string) error {
	wanted := make([]shops.Scope, len(scopes))
	for i, word := range scopes {
		wanted[i] = shops.Scope(word)
	}
	key, secret, err := co.shops.Create(ctx, shop, wanted, byWhom())
	if err != nil {
		return err
	}
	screen.Printf(t.Err, "%s\nthis is the only time that the secret is shown:\n", key.Name)
	screen.Printf(t.Out, "%s\n", secret)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/payment/feed"
)

// feedCmd is "orderload feed": placements with their row in the feed and without it, in
// turns, on a database each of one server.
type feedCmd struct {
	Callers int `default:"256" help:"Callers of order.Service."`
}

// feedSides are the two shops.
type feedSides struct{ with, without *bench.Shop }

func (s *feedSides) close() {
	for _, shop := range []*bench.Shop{s.with, s.without} {
		if shop != nil {
			shop.Close()
		}
	}
}

// feedPair is a round of each side, one right after the other.
type feedPair struct{ with, without feedRound }

// feedRound is a round, and what it took of the processors.
type feedRound struct {
	bench.Sample
	service, server time.Duration
}

// perOrder is the time on processors for an order, of service and server together.
func (r *feedRound) perOrder() float64 {
	return float64(r.service+r.server) / float64(max(r.Done, 1))
}

// Run measures and prints the two sides, and what one is of the other by the pairs.
func (f *feedCmd) Run(ctx context.Context, set *bench.Settings) error {
	load := bench.Load()
	server, err := set.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	pid, err := server.PID()
	if err != nil {
		return err
	}
	sides, err := f.sides(ctx, server)
	if err != nil {
		return err
	}
	defer sides.close()
	if _, err := f.measure(ctx, sides, pid, 1, set.Length()); err != nil { // statements and pages that are cold
		return err
	}
	pairs, err := f.measure(ctx, sides, pid, set.Rounds, set.Length())
	if err != nil {
		return err
	}
	f.print(pairs)
	fmt.Printf("\nThe load before it was %s, and what is measured is in it.\n", load)
	return errors.Join(sides.with.Verify(ctx), sides.without.Verify(ctx))
}

// sides makes the two shops.
func (f *feedCmd) sides(ctx context.Context, server *bench.Server) (*feedSides, error) {
	s := &feedSides{}
	var err, err2 error
	s.with, err = server.NewShop(ctx, bench.ShopOptions{SKUs: 1})
	s.without, err2 = server.NewShop(ctx, bench.ShopOptions{SKUs: 1,
		Tell: func(context.Context, *sqldb.Tx, []feed.Event) error { return nil }})
	if err = errors.Join(err, err2); err != nil {
		s.close()
	}
	return s, err
}

// measure takes turns. Which side goes first changes with each pair, so that what grows
// with time is on neither.
func (f *feedCmd) measure(ctx context.Context, s *feedSides, server, rounds int,
	length time.Duration) ([]feedPair, error) {
	pairs := make([]feedPair, rounds)
	for i := range pairs {
		p := &pairs[i]
		turns := []struct {
			shop *bench.Shop
			into *feedRound
		}{{s.with, &p.with}, {s.without, &p.without}}
		if i%2 == 1 {
			slices.Reverse(turns)
		}
		for _, t := range turns {
			service, onServer := bench.CPUNow(), bench.CPUOf(server)
			t.into.Sample = bench.ClosedLoop(ctx, f.Callers, length, servicePlace(t.shop.Orders, 1))
			t.into.service, t.into.server = bench.CPUNow()-service, bench.CPUOf(server)-onServer
			if t.into.Failed > 0 {
				return nil, fmt.Errorf("%d placements failed", t.into.Failed)
			}
		}
	}
	return pairs, ctx.Err()
}

// print prints the sides, each by its median, and the ratios of the pairs.
func (f *feedCmd) print(pairs []feedPair) {
	bench.Header("placement", "callers", "orders/s", "p99", "CPU per order", "of it the service's")
	for _, side := range []struct {
		name string
		of   func(*feedPair) *feedRound
	}{
		{"without the feed", func(p *feedPair) *feedRound { return &p.without }},
		{"**with its row in the feed**", func(p *feedPair) *feedRound { return &p.with }},
	} {
		figure := func(of func(r *feedRound) float64) float64 {
			m, _, _ := spread(pairs, func(p *feedPair) float64 { return of(side.of(p)) })
			return m
		}
		bench.Row(side.name, f.Callers, figure(func(r *feedRound) float64 { return r.Rate() }),
			time.Duration(figure(func(r *feedRound) float64 { return float64(r.P99) })),
			micros(figure((*feedRound).perOrder)),
			micros(figure(func(r *feedRound) float64 { return float64(r.service) / float64(max(r.Done, 1)) })))
	}
	cpu, least, most := spread(pairs, func(p *feedPair) float64 { return p.with.perOrder() / p.without.perOrder() })
	fmt.Printf("\nWith against without, by %d pairs: CPU per order **%.3f ×** (%.3f to %.3f)", len(pairs), cpu, least,
		most)
	rate, least, most := spread(pairs, func(p *feedPair) float64 { return p.with.Rate() / p.without.Rate() })
	fmt.Printf(", orders/s **%.3f ×** (%.3f to %.3f).\n", rate, least, most)
}

// micros is nanoseconds as the table has them.
func micros(ns float64) string { return fmt.Sprintf("%.1fµs", ns/1e3) }

// spread gives the median of a figure over pairs, its least and its most.
func spread(pairs []feedPair, of func(*feedPair) float64) (median, least, most float64) {
	all := make([]float64, len(pairs))
	for i := range pairs {
		all[i] = of(&pairs[i])
	}
	slices.Sort(all)
	return all[len(all)/2], all[0], all[len(all)-1]
}

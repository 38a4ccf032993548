package main

import (
	"context"

	"orderd/cmd/orderload/bench"
)

// callbackCmd is "orderload callback": how fast payments are committed, without HTTP and
// without signatures, which "orderload http" adds.
type callbackCmd struct {
	Callers int `default:"256" help:"Concurrent callbacks."`
	Lanes   int `help:"Group commits under way at once (default: the service's own)."`
	Orders  int `default:"60000" help:"Orders placed to be paid, per side and round."`

	// Lost measures something else: what becomes of payments whose callback never comes.
	Lost bool `help:"How long until payments are known whose callback never comes."`
	lostOptions
}

// The naive peer is slower, so it needs fewer orders for the same time: this share
// of --orders for a round, and for finding its best concurrency.
const (
	// naiveRoundShare is a fourth, naiveProbeShare a tenth.
	naiveRoundShare = 4
	naiveProbeShare = 10
)

// Run measures Settle against a transaction per callback with the same rows. Orders are
// placed before each measurement and are not in it. Afterwards every invariant is
// verified.
func (k *callbackCmd) Run(ctx context.Context, set *bench.Settings) error {
	server, err := set.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	if k.Lost {
		return k.lost(ctx, server)
	}
	shop, err := server.NewShop(ctx, bench.ShopOptions{SKUs: 1, Lanes: k.Lanes})
	if err != nil {
		return err
	}
	defer shop.Close()
	// Each order's payment has numbers that follow from its own, so that both sides
	// settle the same facts.
	ours := func(ctx context.Context, no string) error { return bench.Settle(ctx, shop.Orders, no) }
	// At its best concurrency: a peer that was tuned badly would flatter us.
	best, err := bench.Best([]int{8, 16, 32, 64}, func(callers int) (float64, error) {
		s, err := drain(ctx, set, shop, callers, k.Orders/naiveProbeShare, shop.Naive.Pay)
		return s.Rate(), err
	})
	if err != nil {
		return err
	}
	n, o, err := bench.TakeTurns(set.Rounds, func() (bench.Sample, error) {
		return drain(ctx, set, shop, best, k.Orders/naiveRoundShare, shop.Naive.Pay)
	}, func() (bench.Sample, error) {
		return drain(ctx, set, shop, k.Callers, k.Orders, ours)
	})
	if err != nil {
		return err
	}
	bench.Header("paid callback, committed", "callers", "events/s", "p50", "p99", "ratio")
	bench.Row("a transaction per callback (its best)", best, n.Rate(), n.P50, n.P99, "1")
	bench.Row("**order.Service.Settle**", k.Callers, o.Rate(), o.P50, o.P99, bench.Times(o.Rate()/n.Rate()))
	return shop.Verify(ctx)
}

// drain places orders, then measures how fast pay pays each of them once: how fast the
// last of them, or as many as fit into the time, was committed. A payment cannot be
// measured in a loop without end, because each order is paid once.
func drain(ctx context.Context, set *bench.Settings, shop *bench.Shop, callers, orders int,
	pay func(ctx context.Context, orderNo string) error) (bench.Sample, error) {
	nos, err := shop.PlaceMany(ctx, orders)
	if err != nil {
		return bench.Sample{}, err
	}
	return bench.Drain(ctx, callers, set.Length(), len(nos), func(ctx context.Context, i int) error {
		return pay(ctx, nos[i])
	}), nil
}

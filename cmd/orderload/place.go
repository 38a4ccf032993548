package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/order"
	"orderd/stock"
)

// placeCmd is "orderload place": placements without HTTP, of one hot SKU, of many, and of
// a single caller on an idle service.
type placeCmd struct {
	Callers  int   `default:"256" help:"Callers of order.Service."`
	Lanes    int   `help:"Group commits under way at once (default: the service's own)."`
	MaxOpen  int   `help:"${place_maxopen}"`
	MaxUnits int64 `help:"${place_maxunits}"`
	OnlyHot  bool  `xor:"what" help:"Only one hot SKU, and only order.Service: for profiles."`
	Ways     bool  `xor:"what" help:"Every way to take stock, each at its best and with --callers, in one run."`
}

// placeCustomers is how many customers the placements come from in turn, so that
// no index is hot by the customer.
const placeCustomers = 1_000_000

// hotAndMany is over how many SKUs the placements go: one row of stock that everybody
// wants, and so many that nobody meets.
var hotAndMany = []int{1, 1000}

// Run measures placement: one hot SKU, 1000 SKUs, and a single caller. Afterwards every
// invariant is verified, that nothing was oversold among them.
func (p *placeCmd) Run(ctx context.Context, set *bench.Settings) error {
	server, err := set.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	switch {
	case p.OnlyHot:
		return p.hot(ctx, server, set)
	case p.Ways:
		return p.compareWays(ctx, server, set)
	}
	bench.Header("placement", "callers", "orders/s", "p50", "p99", "ratio")
	for _, skus := range hotAndMany {
		if err := p.compare(ctx, server, set, skus); err != nil {
			return err
		}
	}
	return p.single(ctx, server, set)
}

// shop is a new one with so many SKUs, on a database of its own; the caller closes it.
func (p *placeCmd) shop(ctx context.Context, server *bench.Server, skus int) (*bench.Shop, error) {
	return server.NewShop(ctx, bench.ShopOptions{SKUs: skus, Lanes: p.Lanes, MaxOpen: p.MaxOpen, MaxUnits: p.MaxUnits})
}

// hot runs order.Service alone, for profiles: the naive peer is not in them.
func (p *placeCmd) hot(ctx context.Context, server *bench.Server, set *bench.Settings) error {
	shop, err := p.shop(ctx, server, 1)
	if err != nil {
		return err
	}
	defer shop.Close()
	for range set.Rounds {
		fmt.Println(bench.ClosedLoop(ctx, p.Callers, set.Length(), servicePlace(shop.Orders, 1)))
	}
	return shop.Verify(ctx)
}

// compare finds the naive peer's best concurrency, then lets the two take turns, so that
// what else runs on the machine meets both. Placements that failed make the figures void.
func (p *placeCmd) compare(ctx context.Context, server *bench.Server, set *bench.Settings, skus int) error {
	shop, err := p.shop(ctx, server, skus)
	if err != nil {
		return err
	}
	defer shop.Close()
	// Half the time suffices to rank the candidates.
	best, err := bench.Best([]int{4, 8, 16, 32, 64, 256}, func(callers int) (float64, error) {
		return bench.ClosedLoop(ctx, callers, set.Length()/2, naivePlace(shop.Naive, skus)).Rate(), nil
	})
	if err != nil {
		return err
	}
	n, o, err := takeTurns(ctx, set, shop, skus, best, p.Callers)
	if err != nil {
		return err
	}
	bench.Row(fmt.Sprintf("%d SKU, a transaction per order (its best)", skus), best, n.Rate(), n.P50, n.P99, "1")
	bench.Row(fmt.Sprintf("%d SKU, **order.Service**", skus), p.Callers, o.Rate(), o.P50, o.P99,
		bench.Times(o.Rate()/n.Rate()))
	if n.Failed+o.Failed > 0 {
		return fmt.Errorf("%d placements failed", n.Failed+o.Failed)
	}
	return shop.Verify(ctx)
}

// single compares the latency of one caller on an idle service: what the group commit
// costs when there is no group. It is the median that is compared, and not the rate.
func (p *placeCmd) single(ctx context.Context, server *bench.Server, set *bench.Settings) error {
	shop, err := p.shop(ctx, server, 1)
	if err != nil {
		return err
	}
	defer shop.Close()
	n, o, err := takeTurns(ctx, set, shop, 1, 1, 1)
	if err != nil {
		return err
	}
	bench.Row("idle, a transaction per order", 1, n.Rate(), n.P50, n.P99, "1")
	bench.Row("idle, **order.Service**", 1, o.Rate(), o.P50, o.P99,
		fmt.Sprintf("p50 **%.2f ×**", float64(o.P50)/float64(n.P50)))
	return shop.Verify(ctx)
}

// takeTurns measures both sides with so many callers each, round after round; n is the
// naive peer's, o is ours.
func takeTurns(ctx context.Context, set *bench.Settings, shop *bench.Shop, skus, naiveCallers, callers int) (
	n, o bench.Sample, err error) {
	return bench.TakeTurns(set.Rounds, func() (bench.Sample, error) {
		return bench.ClosedLoop(ctx, naiveCallers, set.Length(), naivePlace(shop.Naive, skus)), nil
	}, func() (bench.Sample, error) {
		return bench.ClosedLoop(ctx, callers, set.Length(), servicePlace(shop.Orders, skus)), nil
	})
}

// errReplayed is a placement that was answered with an older order: nothing was placed.
var errReplayed = errors.New("the key of a measured placement was used before")

// servicePlace places orders of one unit over so many SKUs in turn. run makes the keys of
// one measurement its own: none is a repeat of another's.
func servicePlace(s *order.Service, skus int) func(context.Context, int64) error {
	run := ulid.Make().String()
	return func(ctx context.Context, n int64) error {
		placed, err := s.Place(ctx, order.Placement{CustomerID: customer(n), RequestID: fmt.Sprint(run, "-", n),
			Cause: "bench", Lines: []stock.Line{{SkuID: bench.SKU(int(n) % skus), Quantity: 1}}})
		if err == nil && placed.Replayed {
			err = errReplayed
		}
		return err
	}
}

// naivePlace does the same by the naive peer, with the same keys, customers and SKUs.
func naivePlace(naive *bench.Naive, skus int) func(context.Context, int64) error {
	return naivePlaceBy(naive, bench.WayConditional, skus)
}

// naivePlaceBy is naivePlace by another way.
func naivePlaceBy(naive *bench.Naive, way bench.Way, skus int) func(context.Context, int64) error {
	run := ulid.Make().String()
	return func(ctx context.Context, n int64) error {
		return naive.PlaceBy(ctx, way,
			bench.NewNaivePlacement(customer(n), fmt.Sprint(run, "-", n), bench.SKU(int(n)%skus)))
	}
}

// customer is who makes placement n.
func customer(n int64) string { return fmt.Sprint("c", n%placeCustomers) }

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order"
)

// listsCmd is "orderload lists": what the lists and pages of operators read.
type listsCmd struct {
	Orders  int  `default:"500000" help:"Orders of the world, over thirty days."`
	Open    int  `default:"2000" help:"Of them not at an end."`
	Explain bool `help:"Print the plans of both engines."`
}

// list is one that is measured.
type list struct {
	name string
	read func(ctx context.Context, s *order.Service) error
}

// listBaseline is what the others are compared with: the newest page, by the primary key.
const listBaseline = "newest orders"

// orderLists are filters of orders, at the time now of the world.
func orderLists(now time.Time) map[string]order.Filter {
	const day = 24 * time.Hour
	from, to := now.Add(-14*day), now.Add(-7*day)
	return map[string]order.Filter{
		listBaseline:         {},
		"stuck":              {Stuck: true},
		"state=pending":      {State: order.StatePending},
		"state=paid":         {State: order.StatePaid},
		"state=late":         {State: order.StateLate},
		"customer and state": {CustomerID: "c6", State: order.StatePaid},
		"a week":             {CreatedFrom: from, CreatedTo: to},
		"a week and state":   {CreatedFrom: from, CreatedTo: to, State: order.StatePaid},
		"a day and sku_id":   {CreatedFrom: to.Add(-day), CreatedTo: to, SkuID: bench.SKU(7)},
	}
}

// lists are those of the console, the API and the command line, listBaseline first.
func lists(now time.Time) (all []list) {
	for name, f := range orderLists(now) {
		all = append(all, list{name, func(ctx context.Context, s *order.Service) error {
			_, _, err := s.List(ctx, f)
			return err
		}})
	}
	for name, f := range map[string]order.RefundFilter{"refunds": {}, "refunds by reason": {Reason: order.ReasonHeld}} {
		all = append(all, list{name, func(ctx context.Context, s *order.Service) error {
			_, _, err := s.ListRefunds(ctx, f)
			return err
		}})
	}
	all = append(all,
		list{"account of a SKU", func(ctx context.Context, s *order.Service) error {
			_, err := s.StockAccount(ctx, bench.SKU(7))
			return err
		}},
		list{"search", func(ctx context.Context, s *order.Service) error {
			_, err := s.Search(ctx, "c6")
			return err
		}},
		list{"flows of a SKU, a day", func(ctx context.Context, s *order.Service) error {
			_, _, err := s.Flows(ctx, order.FlowFilter{SkuID: bench.SKU(7)})
			return err
		}},
		list{"held payments", func(ctx context.Context, s *order.Service) error {
			_, _, err := s.ListHeld(ctx, "", 0)
			return err
		}})
	slices.SortFunc(all, func(a, b list) int {
		first := func(l list) int {
			if l.name == listBaseline {
				return 0
			}
			return 1
		}
		return cmp.Or(first(a)-first(b), cmp.Compare(a.name, b.name))
	})
	return all
}

// Run fills the world and reads every list of it, on MariaDB and on SQLite.
func (k *listsCmd) Run(ctx context.Context, set *bench.Settings) error {
	server, err := set.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	maria, err := server.NewDatabase(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = maria.Close() }()
	dir, err := os.MkdirTemp("", "orderload-lists-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	lite, err := sqldb.Open(ctx, "sqlite:"+filepath.Join(dir, "orderd.db"))
	if err != nil {
		return err
	}
	defer func() { _ = lite.Close() }()
	if _, err = migrations.Up(ctx, lite); err != nil {
		return err
	}
	w := listed{k.Orders, k.Open, time.Now()}
	if err := errors.Join(w.fill(ctx, maria.DB), w.fill(ctx, lite)); err != nil {
		return err
	}
	return k.measure(ctx, set.Rounds, w.now, maria, lite)
}

// measure reads each list so many times, all of them in turn, and prints the medians.
func (k *listsCmd) measure(ctx context.Context, rounds int, now time.Time, maria *bench.Database,
	lite *sqldb.DB) error {
	all := lists(now)
	counted, err := maria.As(ctx, "lists")
	if err != nil {
		return err
	}
	defer func() { _ = counted.Close() }()
	var times [2][]time.Duration
	for i, db := range []*sqldb.DB{counted, lite} {
		s, err := bench.NewService(order.Config{DB: db})
		if err != nil {
			return err
		}
		if times[i], err = listTimes(ctx, s, all, rounds); err != nil {
			return err
		}
	}
	s, err := bench.NewService(order.Config{DB: counted})
	if err != nil {
		return err
	}
	bench.Header("lists", "rows read", "MariaDB", "of "+listBaseline, "SQLite", "of "+listBaseline)
	for i, l := range all {
		rows, texts, err := maria.Heard(ctx, "lists", func() error { return l.read(ctx, s) })
		if err != nil {
			return err
		}
		ratio := func(engine int) string {
			return fmt.Sprintf("%.1f ×", float64(times[engine][i])/float64(times[engine][0]))
		}
		bench.Row(l.name, rows, times[0][i], ratio(0), times[1][i], ratio(1))
		if k.Explain {
			if err := explain(ctx, l.name, texts, counted, lite); err != nil {
				return err
			}
		}
	}
	return nil
}

// listTimes gives the median time of each list, after one time that fills the caches.
func listTimes(ctx context.Context, s *order.Service, all []list, rounds int) ([]time.Duration, error) {
	took := make([][]time.Duration, len(all))
	for n := range max(rounds, 1) + 1 {
		for i, l := range all {
			begin := time.Now()
			if err := l.read(ctx, s); err != nil {
				return nil, fmt.Errorf("%s: %w", l.name, err)
			}
			if n > 0 {
				took[i] = append(took[i], time.Since(begin))
			}
		}
	}
	medians := make([]time.Duration, len(all))
	for i := range took {
		slices.Sort(took[i])
		medians[i] = took[i][len(took[i])/2]
	}
	return medians, nil
}

// explain prints how each engine runs the statements of a list.
func explain(ctx context.Context, name string, texts []string, dbs ...*sqldb.DB) error {
	for _, text := range texts {
		fmt.Fprintf(os.Stderr, "%s: %.100s\n", name, strings.Join(strings.Fields(text), " "))
		for _, db := range dbs {
			steps, err := db.Explain(ctx, text)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "    %s\n", strings.Join(steps, "\n    "))
		}
	}
	return nil
}

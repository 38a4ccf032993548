package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/webhooks"
	"orderd/payment/feed"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
	"orderd/payment/trail"
	"orderd/scheduler"
	"orderd/stock"
)

// pagesCmd is "orderload pages": how long an operator waits for each page of the console.
type pagesCmd struct {
	Orders int           `default:"500000" help:"Orders of the world, over thirty days."`
	Open   int           `default:"2000" help:"Of them not at an end."`
	Most   time.Duration `default:"200ms" help:"A page that takes longer at the median fails the run."`
}

// pagesToken is the operator's of the run.
const pagesToken = "pages"

// pageBaseline is what the others are compared with: the newest page of orders.
const pageBaseline = "/ui/orders"

// Run fills the world, and asks for each page as a browser does, through the console's own handler.
func (k *pagesCmd) Run(ctx context.Context, set *bench.Settings) error {
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
	w := listed{k.Orders, k.Open, time.Now()}
	if err := w.fill(ctx, maria.DB); err != nil {
		return err
	}
	if err := w.acts(ctx, maria.DB); err != nil {
		return err
	}
	h, paths, err := k.console(maria.DB, &w)
	if err != nil {
		return err
	}
	return k.measure(h, paths, set.Rounds)
}

// console makes the operators' listener on a database, and gives it with the addresses of its pages.
func (k *pagesCmd) console(db *sqldb.DB, w *listed) (http.Handler, []string, error) {
	orders, err := bench.NewService(order.Config{DB: db})
	if err != nil {
		return nil, nil, err
	}
	gateway := bench.NewGateway(bench.GatewayOptions{})
	books, err := reconcile.New(reconcile.Config{DB: db, Orders: noOrders{}, Gateway: gateway, Bills: gateway,
		Now: time.Now, MchID: bench.MchID})
	if err != nil {
		return nil, nil, err
	}
	hooks, err := webhooks.New(webhooks.Config{DB: db, Now: time.Now, Key: strings.Repeat("k", 32)})
	if err != nil {
		return nil, nil, err
	}
	runs, err := bulk.New(bulk.Config{DB: db, Orders: orders, Now: time.Now})
	if err != nil {
		return nil, nil, err
	}
	e, err := console.New(console.Options{Orders: orders, Refunds: orders, Reconciler: books, Webhooks: hooks,
		Bulk: runs, Feed: feed.New(db), Stock: stock.NewAdmin(db, time.Now),
		Failures: scheduler.NewDeadLetters(db, time.Now), Trail: trail.New(db, time.Now, nil),
		Metrics: console.NewMetrics(), Ready: console.NewReadiness(time.Now), Now: time.Now, Simulated: true,
		Tokens: []console.Token{{Name: pagesToken, Role: operators.Admin, SHA256: sha256.Sum256([]byte(pagesToken))}}})
	if err != nil {
		return nil, nil, err
	}
	var routes []string
	for _, r := range e.Routes() {
		if r.Method == http.MethodGet && (r.Path == "/" || strings.HasPrefix(r.Path, "/ui/")) {
			routes = append(routes, r.Path)
		}
	}
	return e, w.pages(routes), nil
}

// pages are the addresses of routes, with the parameters that a person uses.
func (w *listed) pages(routes []string) []string {
	no := w.number(w.orders - 3) // the newest are open
	all := []string{pageBaseline + "?state=paid", pageBaseline + "?stuck=1", pageBaseline + "?customer_id=c6",
		pageBaseline + "?created_from=" + w.now.AddDate(0, 0, -14).Format(time.DateOnly) + "&created_to=" +
			w.now.AddDate(0, 0, -7).Format(time.DateOnly), "/ui/search?q=" + no, "/ui/search?q=c6",
		"/ui/search?q=list", "/ui/search?q=nobody+has+it", "/ui/bulk/close?stuck=1", "/ui/bulk/ask?state=pending"}
	for _, path := range routes {
		if strings.HasPrefix(path, "/ui/events") || slices.Contains(files, filepath.Ext(path)) {
			continue // a stream, or a file of everything
		}
		sku := strings.Contains(path, "/stock/") || strings.Contains(path, "/gates/")
		switch {
		case sku:
			path = strings.NewReplacer(":id", bench.SKU(7), ":sku", bench.SKU(7)).Replace(path)
		case strings.HasPrefix(path, "/ui/refunds/"):
			path = strings.Replace(path, ":no", w.number(9)+"-R01", 1)
		default:
			path = strings.Replace(path, ":no", no, 1)
		}
		if !strings.Contains(path, ":") { // what nothing of this world is a page of
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// files are the extensions of what is no page.
var files = []string{".csv", ".xlsx", ".zip"}

// number is that of the i-th order.
func (w *listed) number(i int) string {
	first := (i-1)/listPiece*listPiece + 1
	return fmt.Sprintf("%s%016d", w.piece(first).prefix, i)
}

// trailActs is how many acts the audit trail has: a year of a busy shop.
const trailActs = 20_000

// acts fills the audit trail as a year of work does; its hashes are none, which no page looks at.
func (w *listed) acts(ctx context.Context, db *sqldb.DB) error {
	const rows = 1000
	for from := 0; from < trailActs; from += rows {
		err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			var args []any
			for i := from + 1; i <= from+rows; i++ {
				at := w.now.Add(-listSpan).UnixMilli() + int64(i)
				args = append(args, i, fmt.Sprint(i), 0, at, fmt.Sprint("p", i%7), "admin", "127.0.0.1", "",
					"order.close", w.number(i), "because", "", "", "", "", "", "", "")
			}
			return tx.InsertRows(ctx, `INSERT INTO trail
  (seq, act, step, at, actor, role, address, session, action, target, reason, asked, outcome, was, became,
   request_id, prev_sha256, sha256) VALUES`, 18, args)
		})
		if err != nil {
			return fmt.Errorf("the audit trail: %w", err)
		}
	}
	return nil
}

// measure asks for each page so many times, all of them in turn, and prints the medians. The page of what this
// world has not is a 404, and is measured as well.
func (k *pagesCmd) measure(h http.Handler, paths []string, rounds int) error {
	rounds = max(rounds, 1)
	took := make([][]time.Duration, len(paths))
	sizes, status := make([]int, len(paths)), make([]int, len(paths))
	for n := range rounds + 1 { // the first fills the caches
		for i, path := range paths {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Header.Set("Authorization", "Bearer "+pagesToken)
			r.Header.Set("Accept", "text/html")
			rec := httptest.NewRecorder()
			begin := time.Now()
			h.ServeHTTP(rec, r)
			if rec.Code >= http.StatusInternalServerError {
				return fmt.Errorf("%s: %d %.300s", path, rec.Code, rec.Body)
			}
			sizes[i], status[i] = rec.Body.Len(), rec.Code
			if n > 0 {
				took[i] = append(took[i], time.Since(begin))
			}
		}
	}
	base := took[slices.Index(paths, pageBaseline)]
	slices.Sort(base)
	var slow []error
	bench.Header("page", "status", "bytes", "median", "slowest", "of "+pageBaseline)
	for i, path := range paths {
		slices.Sort(took[i])
		median := took[i][len(took[i])/2]
		bench.Row("`"+path+"`", status[i], sizes[i], median, took[i][len(took[i])-1],
			fmt.Sprintf("%.1f ×", float64(median)/float64(base[len(base)/2])))
		if median > k.Most {
			slow = append(slow, fmt.Errorf("%s takes %s", path, median))
		}
	}
	return errors.Join(slow...)
}

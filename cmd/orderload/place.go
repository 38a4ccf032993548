package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/oklog/ulid/v2"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/payment"
	"orderd/stock"
)

type placeCmd struct {
	Callers int  `default:"256" help:"Callers of order.Service."`
	Lanes   int  `help:"Group commits under way at once (default: the service's own)."`
	MaxOpen int  `help:"Unpaid orders a customer may have, counted for each placement (default: no limit, not counted)."`
	OnlyHot bool `help:"Only one hot SKU, and only order.Service: for profiles."`
}

// Run measures placement: one hot SKU, 1000 SKUs, and a single caller.
func (p *placeCmd) Run(ctx context.Context, c *cli) error {
	b, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer b.server.Stop()
	if p.OnlyHot {
		return p.hot(ctx, b)
	}
	fmt.Println("| placement | callers | orders/s | p50 | p99 | ratio |\n|---|---|---|---|---|---|")
	for _, skus := range []int{1, 1000} {
		if err := p.compare(ctx, b, skus); err != nil {
			return err
		}
	}
	return p.single(ctx, b)
}

// hot runs order.Service alone.
func (p *placeCmd) hot(ctx context.Context, b *bench) error {
	db, s, naive, err := p.sides(ctx, b, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	defer s.Close()
	defer naive.Close()
	for range b.rounds {
		fmt.Println(closedLoop(ctx, p.Callers, b.length, servicePlace(s, 1)))
	}
	return verified(ctx, db)
}

// compare finds the naive way's best concurrency, then lets the two take turns.
func (p *placeCmd) compare(ctx context.Context, b *bench, skus int) error {
	db, s, naive, err := p.sides(ctx, b, skus)
	if err != nil {
		return err
	}
	defer db.Close()
	defer s.Close()
	defer naive.Close()
	best, bestRate := 0, 0.0
	for _, callers := range []int{4, 8, 16, 32, 64, 256} {
		if got := closedLoop(ctx, callers, b.length/2, naivePlace(naive, skus)); got.rate() > bestRate {
			best, bestRate = callers, got.rate()
		}
	}
	var ours, theirs []sample
	for range b.rounds {
		theirs = append(theirs, closedLoop(ctx, best, b.length, naivePlace(naive, skus)))
		ours = append(ours, closedLoop(ctx, p.Callers, b.length, servicePlace(s, skus)))
	}
	n, o := median(theirs), median(ours)
	row(fmt.Sprintf("%d SKU, a transaction per order (its best)", skus), best, n.rate(), n.p50, n.p99, "1")
	row(fmt.Sprintf("%d SKU, **order.Service**", skus), p.Callers, o.rate(), o.p50, o.p99, fmt.Sprintf("**%.1f ×**", o.rate()/n.rate()))
	if n.failed+o.failed > 0 {
		return fmt.Errorf("%d placements failed", n.failed+o.failed)
	}
	return verified(ctx, db)
}

// single compares the latency of one caller on an idle service.
func (p *placeCmd) single(ctx context.Context, b *bench) error {
	db, s, naive, err := p.sides(ctx, b, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	defer s.Close()
	defer naive.Close()
	var ours, theirs []sample
	for range b.rounds {
		theirs = append(theirs, closedLoop(ctx, 1, b.length, naivePlace(naive, 1)))
		ours = append(ours, closedLoop(ctx, 1, b.length, servicePlace(s, 1)))
	}
	n, o := median(theirs), median(ours)
	row("idle, a transaction per order", 1, n.rate(), n.p50, n.p99, "1")
	row("idle, **order.Service**", 1, o.rate(), o.p50, o.p99, fmt.Sprintf("p50 **%.2f ×**", float64(o.p50)/float64(n.p50)))
	return verified(ctx, db)
}

func (p *placeCmd) sides(ctx context.Context, b *bench, skus int) (*sqldb.DB, *order.Service, *sql.DB, error) {
	db, err := b.fresh(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := service(db, p.Lanes, p.MaxOpen)
	if err != nil {
		return nil, nil, nil, err
	}
	admin := stock.NewAdmin(db, time.Now)
	many := int64(stock.MaxStock)
	for i := range skus {
		if _, _, err := admin.Put(ctx, stock.Put{SkuID: sku(i), Title: "bench", PriceFen: 100, Quantity: &many}); err != nil {
			return nil, nil, nil, err
		}
	}
	naive, err := naivePool(b.server.DSN(fmt.Sprintf("bench%d", b.created)))
	return db, s, naive, err
}

func service(db *sqldb.DB, lanes, maxOpen int) (*order.Service, error) {
	return order.New(order.Config{DB: db, Gateway: noGateway{}, Now: time.Now, MchID: mchID, AppID: appID, NotifyURL: "https://shop.example/notify", Lanes: lanes, MaxOpenOrders: maxOpen})
}

// auditor gives what checks the books of a database, without a service or WeChat Pay.
func auditor(db *sqldb.DB) (*audit.Auditor, error) {
	return audit.New(audit.Config{DB: db, Now: time.Now, MchID: mchID, AppID: appID})
}

func verified(ctx context.Context, db *sqldb.DB) error {
	a, err := auditor(db)
	if err != nil {
		return err
	}
	r, err := a.Verify(ctx, nil)
	if err == nil && !r.OK() {
		err = fmt.Errorf("invariants broken: %+v", r.Checks)
	}
	return err
}

func sku(i int) string { return fmt.Sprintf("sku%04d", i) }

func servicePlace(s *order.Service, skus int) func(context.Context, int64) error {
	run := ulid.Make().String()
	return func(ctx context.Context, n int64) error {
		_, err := s.Place(ctx, order.Placement{CustomerID: fmt.Sprint("c", n%1_000_000), RequestID: fmt.Sprint(run, "-", n), Cause: "bench",
			Lines: []stock.Line{{SkuID: sku(int(n) % skus), Quantity: 1}}})
		return err
	}
}

// naivePool is the pool of a system that does what every other system does:
// the driver's defaults but for interpolation, which helps it.
func naivePool(dsn string) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(strings.TrimPrefix(dsn, "mysql:"))
	if err != nil {
		return nil, err
	}
	cfg.InterpolateParams = true
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(64)
	db.SetMaxIdleConns(64)
	return db, nil
}

// naivePlace is the baseline: one transaction per order with the same rows and
// the same guarantees. It lives here only.
func naivePlace(db *sql.DB, skus int) func(context.Context, int64) error {
	run := ulid.Make().String()
	return func(ctx context.Context, n int64) error {
		id, now := sku(int(n)%skus), time.Now().UnixMilli()
		for {
			err := naiveTx(ctx, db, ulid.Make().String(), fmt.Sprint("c", n%1_000_000), fmt.Sprint(run, "-", n), id, now)
			if sqldb.Classify(err) != sqldb.ClassRetry {
				return err
			}
		}
	}
}

func naiveTx(ctx context.Context, db *sql.DB, no, customer, request, id string, now int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var price int64
	if err := tx.QueryRowContext(ctx, "SELECT price_fen FROM skus WHERE sku_id = ?", id).Scan(&price); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders
  (order_no, customer_id, request_id, request_hash, total_fen,
   remark, attach, placed_cause, created_at, expire_at, due_at, updated_at)
VALUES (?, ?, ?, ?, ?, '', '', 'bench', ?, ?, ?, ?)`,
		no, customer, request, "0123456789012345678901234567890123456789012", price, now, now+1_800_000, now+1_820_000, now); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO order_items (order_no, line_no, sku_id, quantity, price_fen) VALUES (?, 1, ?, 1, ?)", no, id, price); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO stock_flows (order_no, kind, ref, sku_id, delta, created_at)
VALUES (?, 'deduct', '', ?, -1, ?)`, no, id, now); err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = ? AND available >= 1", id)
	if err != nil {
		return err
	}
	if rows, err := res.RowsAffected(); err != nil || rows != 1 {
		return errors.Join(errors.New("sold out"), err)
	}
	return tx.Commit()
}

const mchID, appID = "1900000001", "wx0000000000000001"

// noGateway is WeChat Pay for orders that nobody pays or closes.
type noGateway struct{}

var errNoGateway = &payment.GatewayError{Op: "bench", Kind: payment.KindUnknown}

func (noGateway) Prepay(context.Context, payment.Attempt) (payment.Prepaid, error) {
	return payment.Prepaid{}, errNoGateway
}
func (noGateway) Query(context.Context, string) (payment.Trade, error) {
	return payment.Trade{}, errNoGateway
}
func (noGateway) Close(context.Context, string) (payment.CloseReply, error) {
	return payment.CloseReply{Answer: payment.CloseAccepted, Status: 204}, nil
}
func (noGateway) Refund(context.Context, payment.RefundRequest) (payment.Refund, error) {
	return payment.Refund{}, errNoGateway
}
func (noGateway) QueryRefund(context.Context, string) (payment.Refund, error) {
	return payment.Refund{}, errNoGateway
}

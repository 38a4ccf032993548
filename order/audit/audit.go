package audit

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/trail"
)

// maxViolations is how many rows a failed check names: enough to see what they have
// in common, few enough for a terminal and for memory. The count is of all.
const maxViolations = 20

// Report is the result of a verification. Its JSON is the output of orderd verify -o
// json: fields may be added, none renamed.
type Report struct {
	Checks []CheckResult `json:"checks"` // all of them, in the order in which they ran
	// Orders and Payments count what was checked; of VerifyWeChat, Orders counts
	// the questions.
	Orders   int64 `json:"orders"`
	Payments int64 `json:"payments"`
	// Held counts payments that wait for a person. They are accounted for, and
	// so no violation, but somebody has to look.
	Held int64         `json:"held"`
	Took time.Duration `json:"took_ns"`
}

// CheckResult is one invariant and the rows that break it.
type CheckResult struct {
	ID         string        `json:"id"`         // AREA.NAME, stable: docs/verify.md lists them
	Meaning    string        `json:"meaning"`    // what holds when nothing is broken
	Count      int           `json:"count"`      // of all rows that break it
	Violations []string      `json:"violations"` // at most maxViolations of them, "column=value …"
	Took       time.Duration `json:"took_ns"`
}

// OK reports that no invariant is broken.
func (r Report) OK() bool { return len(r.Broken()) == 0 }

// Broken gives the checks that found something, in the order in which they ran; nil
// when all is well.
func (r Report) Broken() []CheckResult {
	var broken []CheckResult
	for _, c := range r.Checks {
		if c.Count > 0 {
			broken = append(broken, c)
		}
	}
	return broken
}

// VerifyOptions say what VerifyWith checks.
type VerifyOptions struct {
	// Quiescent checks too what holds only when nothing is under way.
	Quiescent bool
	// Areas are of the checks that are run, such as stock and bucket; nil: all.
	Areas []string
	// Primary reads where is written, and not a replica: what was repaired a moment ago is seen.
	Primary bool
	// Progress is called before each check with how many are done, how many there
	// are, and the id of the one that begins; nil: nobody watches.
	Progress func(done, total int, id string)
}

// Orders is what the auditor needs of the service of orders.
type Orders interface {
	// FindRefund gives a refund as it is committed now.
	FindRefund(ctx context.Context, outRefundNo string) (order.Refund, error)
	// Repair mends one row, deciding again whether it is still broken.
	Repair(ctx context.Context, r order.RepairRequest) (done bool, err error)
}

// Gateway is what the auditor asks of WeChat Pay: questions only. Each is a method
// of payment.Gateway.
type Gateway interface {
	// Query tells the state of a WeChat order, payment.TradeNotFound for one that
	// WeChat Pay does not know.
	Query(ctx context.Context, outTradeNo string) (payment.Trade, error)
	// QueryRefund tells the state of a refund, payment.RefundNotFound likewise.
	QueryRefund(ctx context.Context, outRefundNo string) (payment.Refund, error)
}

// Config is what an Auditor works with. DB, Now, MchID and AppID are required.
type Config struct {
	DB *sqldb.DB
	// Orders may be nil where only Verify and VerifyWith are called.
	Orders Orders
	// Gateway may be nil where VerifyWeChat is not called.
	Gateway Gateway
	// Now is the clock by which orders are due: that of order.Config.
	Now func() time.Time
	// MchID and AppID are the merchant and the app that money must have come to.
	MchID, AppID string
	// OtherAppIDs are further app ids of the shop, fewer than appIDs.
	OtherAppIDs []string
}

// Auditor checks the database against its invariants and plans its repair. All
// methods are safe for concurrent use.
type Auditor struct {
	cfg Config
	db  *sqldb.DB
}

// New makes an auditor. It needs no end: it holds nothing but its Config.
func New(cfg Config) (*Auditor, error) {
	if cfg.DB == nil || cfg.Now == nil || cfg.MchID == "" || cfg.AppID == "" {
		return nil, errors.New("audit: Config needs DB, Now, MchID and AppID")
	}
	if len(cfg.OtherAppIDs) >= appIDs {
		return nil, errors.New("audit: too many app ids")
	}
	return &Auditor{cfg: cfg, db: cfg.DB}, nil
}

// Verify is VerifyWith for what holds at every moment, also while the service
// runs. progress may be nil.
func (a *Auditor) Verify(ctx context.Context, progress func(done, total int, id string)) (Report, error) {
	return a.VerifyWith(ctx, VerifyOptions{Progress: progress})
}

// VerifyWith checks every invariant against the database, however the rows came
// there. All checks see the same moment, so that they agree with one another
// while the service runs. An error means that the database could not be read,
// not that a check failed.
func (a *Auditor) VerifyWith(ctx context.Context, o VerifyOptions) (r Report, err error) {
	if o.Primary {
		err = a.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			r, err = a.verifyIn(ctx, tx, o)
			return err
		})
		return r, err
	}
	err = a.db.Shown().Snapshot(ctx, func(ctx context.Context, v sqldb.View) error {
		r, err = a.verifyIn(ctx, v, o)
		return err
	})
	return r, err
}

// verifyIn runs the checks on what a transaction sees, one after the other: an engine
// gives a snapshot to one connection.
func (a *Auditor) verifyIn(ctx context.Context, q sqldb.Reader, o VerifyOptions) (Report, error) {
	start := a.cfg.Now()
	all := checks
	if o.Quiescent {
		all = append(append([]check{}, checks...), quietChecks...)
	}
	if o.Areas != nil {
		all = slices.DeleteFunc(slices.Clone(all), func(c check) bool {
			area, _, _ := strings.Cut(c.id, ".")
			return !slices.Contains(o.Areas, area)
		})
	}
	var r Report
	for i, c := range all {
		if o.Progress != nil {
			o.Progress(i, len(all), c.id)
		}
		result, err := a.run(ctx, q, c)
		if err != nil {
			return r, sqldb.Wrap("verify "+c.id, err)
		}
		r.Checks = append(r.Checks, result)
	}
	err := q.QueryRowContext(ctx, `SELECT
  (SELECT COUNT(*) FROM orders),
  (SELECT COUNT(*) FROM payments),
  (SELECT COUNT(*) FROM payments WHERE outcome = 'held')`).Scan(&r.Orders, &r.Payments, &r.Held)
	if err != nil {
		return r, sqldb.Wrap("verify", err)
	}
	r.Took = a.cfg.Now().Sub(start)
	return r, nil
}

// run runs one check. It counts all rows that break it and keeps the text of the first
// maxViolations. Its duration is by the clock of Config.
func (a *Auditor) run(ctx context.Context, q sqldb.Reader, c check) (CheckResult, error) {
	start := a.cfg.Now()
	result := CheckResult{ID: c.id, Meaning: c.meaning, Violations: []string{}}
	found := func(row string) {
		if result.Count++; result.Count <= maxViolations {
			result.Violations = append(result.Violations, row)
		}
	}
	var err error
	switch c.id {
	case schemaCheck:
		err = migrations.MissingGuards(ctx, q, a.db.Engine(), found)
	case trailCheck:
		err = trail.Check(ctx, q, found)
	default:
		err = eachRow(ctx, q, a.text(a.db.Engine(), c.query), a.args(c), found)
	}
	if err == nil && c.id == proofsCheck {
		err = checkProofs(ctx, q, found)
	}
	result.Took = a.cfg.Now().Sub(start)
	return result, err
}

// eachRow gives every row of a query as "column=value …", whatever its columns are.
func eachRow(ctx context.Context, q sqldb.Reader, query string, args []any, found func(row string)) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		parts := make([]string, len(names))
		for i, n := range names {
			parts[i] = n + "=" + values[i].String
		}
		found(strings.Join(parts, " "))
	}
	return rows.Err()
}

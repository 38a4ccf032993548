package order

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"orderd/migrations/sqldb"
)

// maxViolations is how many rows a failed check names; the count is of all.
const maxViolations = 20

// Report is the result of Verify.
type Report struct {
	Checks   []CheckResult `json:"checks"`
	Orders   int64         `json:"orders"`
	Payments int64         `json:"payments"`
	// Held counts payments that wait for a person. They are accounted for, and
	// so no violation, but somebody has to look.
	Held int64         `json:"held"`
	Took time.Duration `json:"took_ns"`
}

// CheckResult is one invariant and the rows that break it.
type CheckResult struct {
	ID         string        `json:"id"`
	Meaning    string        `json:"meaning"`
	Count      int           `json:"count"`
	Violations []string      `json:"violations"` // at most maxViolations, "column=value …"
	Took       time.Duration `json:"took_ns"`
}

// OK reports that no invariant is broken.
func (r Report) OK() bool { return len(r.Broken()) == 0 }

// Broken gives the checks that found something.
func (r Report) Broken() []CheckResult {
	var broken []CheckResult
	for _, c := range r.Checks {
		if c.Count > 0 {
			broken = append(broken, c)
		}
	}
	return broken
}

// VerifyOptions say what is checked.
type VerifyOptions struct {
	// Quiescent checks too what holds only when nothing is under way.
	Quiescent bool
	// Progress is called before each check; nil for nobody.
	Progress func(done, total int, id string)
}

// Verify is VerifyWith for what holds at every moment, also while the service
// runs. progress may be nil.
func (s *Service) Verify(ctx context.Context, progress func(done, total int, id string)) (Report, error) {
	return s.VerifyWith(ctx, VerifyOptions{Progress: progress})
}

// VerifyWith checks every invariant against the database, however the rows came
// there. All checks see the same moment, so that they agree with one another
// while the service runs. An error means that the database could not be read,
// not that a check failed.
func (s *Service) VerifyWith(ctx context.Context, o VerifyOptions) (r Report, err error) {
	err = s.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err = s.verifyIn(ctx, tx, o)
		return err
	})
	return r, err
}

func (s *Service) verifyIn(ctx context.Context, tx *sqldb.Tx, o VerifyOptions) (Report, error) {
	start := s.cfg.Now()
	all := checks
	if o.Quiescent {
		all = append(append([]check{}, checks...), quietChecks...)
	}
	var r Report
	for i, c := range all {
		if o.Progress != nil {
			o.Progress(i, len(all), c.id)
		}
		result, err := s.run(ctx, tx, c)
		if err != nil {
			return r, sqldb.Wrap("verify "+c.id, err)
		}
		r.Checks = append(r.Checks, result)
	}
	err := tx.QueryRowContext(ctx, `SELECT
  (SELECT COUNT(*) FROM orders),
  (SELECT COUNT(*) FROM payments),
  (SELECT COUNT(*) FROM payments WHERE outcome = 'held')`).Scan(&r.Orders, &r.Payments, &r.Held)
	if err != nil {
		return r, sqldb.Wrap("verify", err)
	}
	r.Took = s.cfg.Now().Sub(start)
	return r, nil
}

func (s *Service) run(ctx context.Context, tx *sqldb.Tx, c check) (CheckResult, error) {
	start := s.cfg.Now()
	result := CheckResult{ID: c.id, Meaning: c.meaning, Violations: []string{}}
	found := func(row string) {
		if result.Count++; result.Count <= maxViolations {
			result.Violations = append(result.Violations, row)
		}
	}
	var err error
	if c.id == schemaCheck {
		err = missingGuards(ctx, tx, found)
	} else {
		err = eachRow(ctx, tx, strings.TrimSpace(c.query), s.args(c), found)
	}
	result.Took = s.cfg.Now().Sub(start)
	return result, err
}

// eachRow gives every row of a query as "column=value …".
func eachRow(ctx context.Context, tx *sqldb.Tx, query string, args []any, found func(row string)) error {
	rows, err := tx.QueryContext(ctx, query, args...)
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

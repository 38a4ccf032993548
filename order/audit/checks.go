package audit

import (
	"regexp"
	"slices"

	"orderd/migrations/sqldb"
)

// check is an invariant. Its query is a SELECT that must return no row; the columns
// of a row that it returns are what a person needs to find what is wrong.
//
// Marks in it, such as /*and order o.order_no*/ and /*where sku f.sku_id*/, say
// where it is narrowed to one order or one SKU, for a repair that rests on it: one
// text is both, so that they cannot drift apart. Whole, a mark is a comment. Marks
// stand after the arguments of the check.
type check struct{ id, meaning, query string }

// subject is what a check can be narrowed to.
type subject string

// The subjects, as the marks name them.
const (
	ofOrder subject = "order"
	ofSKU   subject = "sku"
)

// marks finds where a check is narrowed: the word that joins the condition, the
// subject, and its column.
var marks = regexp.MustCompile(`/\*(and|where) (order|sku) ([a-z_.]+)\*/`)

// narrowed gives the query of a check for one subject, and how many times its key
// is an argument: 0 when the check cannot be narrowed to it, and runs whole.
func (c check) narrowed(to subject) (query string, times int) {
	query = marks.ReplaceAllStringFunc(c.query, func(mark string) string {
		m := marks.FindStringSubmatch(mark)
		if subject(m[2]) != to {
			return ""
		}
		times++
		return m[1] + " " + m[3] + " = ?"
	})
	return query, times
}

// Checks without a query.
const (
	// schemaCheck reads the schema and not the rows: migrations.MissingGuards.
	schemaCheck = "schema.guards"
	// trailCheck counts hashes, which SQL cannot: trail.Check.
	trailCheck = "trail.chain"
	// proofsCheck has a query, and hashes beside it: checkProofs.
	proofsCheck = "books.proofs"
)

// checks hold at every moment, also while the service runs. docs/verify.md explains
// each of them, and reports list them in this order.
var checks = slices.Concat([]check{
	{schemaCheck, "the keys and bounds that guard the books are there, as they were made", ""},
}, stockChecks, gateChecks, eventChecks, orderChecks, moneyChecks, refundChecks, rowChecks, refundRowChecks, bookChecks,
	bulkChecks, peopleChecks, []check{
		{trailCheck, "no row of the audit trail was changed, taken out or put in", ""},
	}, taskChecks, outcomeChecks)

// appIDs is how many app ids the check of a payment's facts asks about; the first one stands
// for those that are not configured.
const appIDs = 8

// args are the arguments of a check's query.
func (a *Auditor) args(c check) []any {
	switch c.id {
	case "money.facts":
		args := make([]any, appIDs+1)
		for i := range appIDs {
			args[i] = a.cfg.AppID
		}
		copy(args, sqldb.Args(a.cfg.OtherAppIDs))
		args[appIDs] = a.cfg.MchID
		return args
	case "quiet.orders":
		return []any{sqldb.Millis(a.cfg.Now().Add(-overdueAfter))}
	case "quiet.sold_out":
		since := sqldb.Millis(a.cfg.Now().Add(-reopensWithin))
		return []any{since, since, since}
	}
	return nil
}

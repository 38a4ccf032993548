package audit

import (
	"slices"

	"orderd/migrations/sqldb"
)

// check is an invariant. Its query is a SELECT that must return no row; the columns
// of a row that it returns are what a person needs to find what is wrong.
type check struct{ id, meaning, query string }

// schemaCheck is the one check that reads the schema and not the rows: it runs
// migrations.MissingGuards and has no query.
const schemaCheck = "schema.guards"

// checks hold at every moment, also while the service runs. docs/verify.md explains
// each of them, and reports list them in this order.
var checks = slices.Concat([]check{
	{schemaCheck, "the keys and bounds that guard the books are there, as they were made", ""},
}, stockChecks, eventChecks, orderChecks, moneyChecks, refundChecks, bookChecks, outcomeChecks)

// args are the arguments of a check's query.
func (a *Auditor) args(c check) []any {
	switch c.id {
	case "money.facts":
		return []any{a.cfg.AppID, a.cfg.MchID}
	case "quiet.orders":
		return []any{sqldb.Millis(a.cfg.Now().Add(-overdueAfter))}
	}
	return nil
}

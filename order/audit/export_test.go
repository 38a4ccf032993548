package audit

import (
	"context"
	"slices"
	"strings"

	"orderd/migrations/sqldb"
)

// What the tests hold against the states of orders.
const (
	DeadRefunds = deadRefunds
	RefundEnds  = refundEnds
	SchemaCheck = schemaCheck
	// AttemptQuery is what VerifyWeChat runs for every attempt.
	AttemptQuery = attemptQuery
)

// CheckIDs are the ids of all checks.
func CheckIDs() []string {
	var ids []string
	for _, c := range append(append([]check{}, checks...), quietChecks...) {
		ids = append(ids, c.id)
	}
	return ids
}

// AlwaysChecks is how many checks hold at every moment.
func AlwaysChecks() int { return len(checks) }

// VerifyIn verifies what a transaction sees.
func (a *Auditor) VerifyIn(ctx context.Context, tx *sqldb.Tx, o VerifyOptions) (Report, error) {
	return a.verifyIn(ctx, tx, o)
}

// NextStep is what a person does about a check.
func NextStep(check string) string { return nextStep(check) }

// RepairRests are the rows of the document on what repairs rest on.
func RepairRests() []string {
	var rows []string
	for _, k := range repairKinds {
		rows = append(rows, "| `"+k.check+"` | `"+strings.Join(k.rests, "` `")+"` |")
	}
	return rows
}

// NotNarrowed are the checks that repairs rest on and that run whole for them, as
// "REPAIR CHECK"; one that does not exist is among them.
func NotNarrowed() []string {
	var whole []string
	for _, k := range repairKinds {
		for _, id := range k.rests {
			i := slices.IndexFunc(checks, func(c check) bool { return c.id == id })
			if i >= 0 {
				c := checks[i]
				_, times := c.narrowed(k.of)
				if times > 0 && strings.LastIndex(c.query, "?") < marks.FindStringIndex(c.query)[0] {
					continue // and its own arguments come first
				}
			}
			whole = append(whole, k.check+" "+id)
		}
	}
	return whole
}

// RepairedChecks are the checks whose rows are repaired.
func RepairedChecks() []string {
	var ids []string
	for _, k := range repairKinds {
		ids = append(ids, k.check)
	}
	return ids
}

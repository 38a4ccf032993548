package audit

import (
	"context"

	"orderd/migrations/sqldb"
)

// What the tests hold against the states of orders.
const (
	DeadRefunds = deadRefunds
	RefundEnds  = refundEnds
	SchemaCheck = schemaCheck
)

// CheckIDs are the ids of all checks.
func CheckIDs() []string {
	var ids []string
	for _, c := range append(append([]check{}, checks...), quietChecks...) {
		ids = append(ids, c.id)
	}
	return ids
}

// VerifyIn verifies what a transaction sees.
func (a *Auditor) VerifyIn(ctx context.Context, tx *sqldb.Tx, o VerifyOptions) (Report, error) {
	return a.verifyIn(ctx, tx, o)
}

// NextStep is what a person does about a check.
func NextStep(check string) string { return nextStep(check) }

// RepairedChecks are the checks whose rows are repaired.
func RepairedChecks() []string {
	var ids []string
	for _, k := range repairKinds {
		ids = append(ids, k.check)
	}
	return ids
}

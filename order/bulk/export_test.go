package bulk

import "context"

// The statements of lists and claims, and what they are about.
const (
	ListQuery   = listQuery
	RowsQuery   = rowsQuery
	RowsInQuery = rowsInQuery
	FreeQuery   = freeQuery
	AskedAgain  = askedAgainQuery
	HoldFor     = holdFor
	ClosingYet  = closingStill
	NoAnswer    = noAnswer
	PassedBusy  = passedBusy
	Limited     = atLimit
	Otherwise   = failedOtherwise
)

// The note of a run whose second person was let go, and the detail of a row that takes two.
var (
	ErrLeft = errLeft
	ErrTwo  = errTwo
)

// WentOnBy is who had a run go on, by its note.
func WentOnBy(note string) string { return (&Run{Note: note}).wentOnBy() }

// Claimed takes the next row of a run and does it without saying so, as whoever dies then; acts: it dies after the act.
// The settle that it gives says so after all.
func (r *Runs) Claimed(ctx context.Context, id string, acts bool) (ref string, settle func() error, err error) {
	c, err := r.claim(ctx, id)
	if err == nil && acts {
		_, _, err = r.outcome(ctx, &c)
	}
	return c.row.Ref, func() error { return r.settle(ctx, id, c.row.Seq, RowDone, "") }, err
}

// Pass gives each run that is free its turn.
func (r *Runs) Pass(ctx context.Context) error {
	_, err := r.pass(ctx)
	return err
}

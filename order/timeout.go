package order

import (
	"context"
	"errors"
	"sync"
	"time"

	"orderd/migrations/sqldb"
)

// Many timeouts at once. A worker takes the turn of a page of orders (ClaimDue),
// waits for the rate that WeChat Pay bears, and brings the claims to their end
// (CloseClaimed). Every order goes the way that Expire takes one, through the
// same writer (apply.go); a page only takes fewer statements.

// Bounds of a page.
const (
	// storeAllTimeout bounds the storing of the answers of a page: it waits for
	// its lane, behind customers.
	storeAllTimeout = 30 * time.Second
	// askedAtOnce is how many orders of a page are at WeChat Pay at once. A close
	// takes some 100 ms there, so that these are 600 a second and more, well above
	// the rate that is let through.
	askedAtOnce = 64
)

// Claim is an order of which this process has taken the turn to ask WeChat Pay:
// it is closing, and nobody else asks about it before At. It knows what WeChat Pay has
// to close, as it was read in the transaction that took the turn: a closing order gets
// no other attempt.
type Claim struct {
	Due
	attempt *Attempt // the newest; nil when none was opened
}

// claimOf is the claim of an order whose turn was just committed.
func claimOf(done *applied) Claim {
	o := &done.order
	return Claim{Due{Key: o.OrderNo, State: o.State, Version: o.Version, Tries: o.CloseTries, At: o.DueAt},
		done.turn.attempt}
}

// ClaimDue takes the unpaid orders of a page to closing, and the turn of those
// that are closing and due. The claims are to be brought to CloseClaimed before
// their At; the turn of a claim that is not comes again then by itself. There is
// an error for each order, in the order of the page: nil also when there is
// nothing to do for it any more, or somebody else has its turn.
//
// What the page says of an order is believed only as far as the row agrees: a page
// that is old, or made up, claims nothing that is not due.
func (s *Service) ClaimDue(ctx context.Context, page []Due, cause Cause) ([]Claim, []error) {
	outcomes := s.expirePage(ctx, page, cause, false)
	claims, errs := make([]Claim, 0, len(page)), make([]error, len(page))
	var wake time.Time
	for i := range outcomes {
		done := &outcomes[i].Answer
		if errs[i] = outcomes[i].Err; errs[i] != nil || !done.turn.claimed {
			continue
		}
		claims = append(claims, claimOf(done))
		if !done.order.DueAt.Equal(wake) { // should this process die, the turns that it took come back on time
			wake = done.order.DueAt
			s.cfg.Tasks.WakeAt(wake)
		}
	}
	return claims, errs
}

// AwaitClose takes the unpaid orders of a page to closing and asks nobody: more are
// due than WeChat Pay takes calls. They keep their due time, which is their place
// in the queue, and their stock. The errors are those of ClaimDue.
func (s *Service) AwaitClose(ctx context.Context, page []Due, cause Cause) []error {
	errs := make([]error, len(page))
	for i, o := range s.expirePage(ctx, page, cause, true) {
		errs[i] = o.Err
	}
	return errs
}

// expirePage brings the deadline to the orders of a page. Orders that are not
// there any more have nothing to be done for them.
func (s *Service) expirePage(ctx context.Context, page []Due, cause Cause, queued bool) []sqldb.Outcome[applied] {
	outcomes := s.applyParts(ctx, len(page), func(i int) pageCommand {
		return pageCommand{page[i], &expire{queued: queued, header: header{orderNo: page[i].Key, cause: cause}}}
	})
	for i := range outcomes {
		o := &outcomes[i]
		if errors.Is(o.Err, ErrNotFound) {
			o.Err = nil
		}
		if o.Err == nil && o.Answer.cell.Verdict == VerdictMove {
			s.observe.Lateness(o.Answer.turn.late)
		}
	}
	return outcomes
}

// CloseClaimed asks WeChat Pay to close the orders of claims and writes what is
// proven. There is an error for each claim, in their order: nil when it ended; a
// *ClosingError when WeChat gave no usable answer and is asked again; or what kept
// the answer from being stored.
func (s *Service) CloseClaimed(ctx context.Context, claims []Claim, cause Cause) []error {
	errs := make([]error, len(claims))
	if len(claims) == 0 {
		return errs
	}
	closeIntended()
	results := make([]closeResult, len(claims))
	forEach(len(claims), func(i int) { results[i] = s.askAbout(ctx, claims[i]) })

	// The answers are stored whoever has hung up meanwhile.
	ctx, cancel := context.WithTimeout(detached(ctx), storeAllTimeout)
	defer cancel()
	var closed, others []int // places in claims
	for i := range results {
		if results[i].proven == closeClosed {
			closed = append(closed, i)
		} else {
			others = append(others, i)
		}
	}
	outcomes := s.applyParts(ctx, len(closed), func(i int) pageCommand {
		c := &claims[closed[i]]
		return pageCommand{c.Due, results[closed[i]].doneCommand(c.Key, cause)}
	})
	if len(closed) > 0 {
		closeCommitted()
	}
	for i, at := range closed {
		errs[at] = outcomes[i].Err
	}
	forEach(len(others), func(i int) {
		at := others[i]
		errs[at] = s.recordCloseResult(ctx, claims[at], cause, results[at])
	})
	return errs
}

// applyParts applies n commands on orders of a page in parts of as many as one
// transaction may take now, and gives an answer for each.
func (s *Service) applyParts(ctx context.Context, n int, at func(i int) pageCommand) []sqldb.Outcome[applied] {
	outcomes := make([]sqldb.Outcome[applied], 0, n)
	for len(outcomes) < n {
		part := make([]pageCommand, min(n-len(outcomes), s.PageLimit(ctx)))
		for i := range part {
			part[i] = at(len(outcomes) + i)
		}
		outcomes = append(outcomes, s.applyPage(ctx, part)...)
	}
	return outcomes
}

// forEach does something for 0 to n-1, up to askedAtOnce of them at once, and
// waits for all.
func forEach(n int, do func(i int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(n, askedAtOnce) {
		workers.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

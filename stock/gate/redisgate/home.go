package redisgate

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"orderd/stock"
)

// The scripts. Each says in its first lines what it is given and what it returns.
var (
	//go:embed deduct.lua
	deductLua string
	//go:embed return.lua
	returnLua string
	//go:embed grant.lua
	grantLua string
	//go:embed open.lua
	openLua string
	//go:embed close.lua
	closeLua string
	//go:embed cancel.lua
	cancelLua string
	//go:embed claim.lua
	claimLua string
	//go:embed done.lua
	doneLua string
	//go:embed stat.lua
	statLua string
)

// maxUnits bounds every number of units: Lua's numbers are exact up to it.
const maxUnits = 1 << 53

// Codes that scripts return; those of a reply of Deduct are in deduct.go.
const (
	codeWentBack  = -2
	codeNotReady  = -3
	codeGap       = -4
	codeDone      = -5
	codeExceeds   = -1
	codeUnlimited = -1
)

// Errors of a home. Any other error is from Redis or from the way to it: whether the call
// has happened is not known, and the same call may be sent again.
var (
	// ErrNotReady: the bucket was never opened, or is known by another token or bucket id:
	// this opening is over, or Redis has lost it.
	ErrNotReady = errors.New("the bucket is not ready")
	// ErrDone: a move of this number was applied before. Nothing moved.
	ErrDone = errors.New("the move was applied before")
	// ErrGap: a move before this one is missing. Nothing moved.
	ErrGap = errors.New("an earlier move is missing")
	// ErrWentBack: units that the database has taken out of the bucket are not there any
	// more: Redis has forgotten the move and sold them. Nothing moved.
	ErrWentBack = errors.New("the bucket has gone back in time")
)

// Home keeps buckets in Redis. Safe for concurrent use.
type Home struct {
	client redis.UniversalClient
	prefix string

	deduct, giveBack, grant, open, close, cancel, claim, done, stat *redis.Script
}

// New gives the home in a Redis, which the caller closes. prefix is in front of every key, so
// that several services can share a Redis.
func New(client redis.UniversalClient, prefix string) *Home {
	return &Home{client: client, prefix: prefix,
		deduct: redis.NewScript(deductLua), giveBack: redis.NewScript(returnLua), grant: redis.NewScript(grantLua),
		open: redis.NewScript(openLua), close: redis.NewScript(closeLua), cancel: redis.NewScript(cancelLua),
		claim: redis.NewScript(claimLua), done: redis.NewScript(doneLua), stat: redis.NewScript(statLua)}
}

// number runs a script that answers with one number.
func (h *Home) number(ctx context.Context, s *redis.Script, what string, keys []string, args ...any) (int64, error) {
	n, err := s.Run(ctx, h.client, keys, args...).Int64()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if n == codeNotReady {
		return 0, ErrNotReady
	}
	return n, nil
}

// list runs a script that answers with a list, or with -3.
func (h *Home) list(ctx context.Context, s *redis.Script, what string, keys []string, args ...any) ([]any, error) {
	answer, err := s.Run(ctx, h.client, keys, args...).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if list, ok := answer.([]any); ok {
		return list, nil
	}
	if answer == int64(codeNotReady) {
		return nil, ErrNotReady
	}
	return nil, fmt.Errorf("%s: unexpected answer %v", what, answer)
}

// Line is units of one SKU of an order.
type Line struct {
	No       int64 // of the line in its order
	SkuID    string
	Quantity int64 // units, 1 or more
}

// checkLines finds what no script can bear: no line, a SKU twice, a quantity that would
// count the wrong way or not exactly.
func checkLines(lines []Line) error {
	if len(lines) == 0 {
		return errors.New("no line")
	}
	for i, l := range lines {
		if l.No < 0 || l.Quantity < 1 || l.Quantity > maxUnits {
			return fmt.Errorf("line %d: quantity %d", l.No, l.Quantity)
		}
		for _, before := range lines[:i] {
			if before.SkuID == l.SkuID {
				return fmt.Errorf("line %d: SKU %s has a line already", l.No, l.SkuID)
			}
		}
	}
	return nil
}

// Destination is where returned units go.
type Destination string

// The destinations of a return.
const (
	// ToBucket puts units back into the bucket: of a ticket that became no order.
	ToBucket Destination = "bucket"
	// ToPool marks units that the database has put into its pool: of an order.
	ToPool Destination = "pool"
)

// Return gives back units of an order. Units may come back in parts, each under a Ref of
// its own.
type Return struct {
	OrderNo string
	Ref     string
	To      Destination
	Lines   []Line
}

// Return gives units back, and reports whether this call did; false is for a repeat of the
// same Ref. When more would come back than was deducted, nothing moves and the error is
// stock.ErrReturnExceeds. A ticket of which nothing is left in the end, and whose units
// went to the bucket, is StateWithdrawn, and its key may be used again.
func (h *Home) Return(ctx context.Context, b Bucket, r Return) (bool, error) {
	if err := checkLines(r.Lines); err != nil {
		return false, fmt.Errorf("return of %s: %w", r.OrderNo, err)
	}
	k := h.keys(b)
	names, args := []string{k.gate(), k.ticket()}, []any{b.token(), r.OrderNo, r.Ref, string(r.To)}
	for _, l := range r.Lines {
		names = append(names, k.leaved(l.SkuID), k.flow(l.SkuID), k.back(l.SkuID), k.buyer(l.SkuID))
		args = append(args, lineID(r.OrderNo, l.No), l.Quantity)
	}
	n, err := h.number(ctx, h.giveBack, "return units to a bucket", names, args...)
	if err == nil && n == codeExceeds {
		err = fmt.Errorf("return of %s: %w", r.OrderNo, stock.ErrReturnExceeds)
	}
	return n == 1, err
}

// Move is a move of units between pool and bucket.
type Move struct {
	SkuID    string
	BucketID int64
	Seq      int64 // of this bucket and SKU: 1, 2, 3 …
	Units    int64
}

// Grant applies a move of the database and gives what is left, -1 of an unlimited SKU. A
// repeat is ErrDone. Units below 0 is a move out of the bucket that this Redis has lost.
func (h *Home) Grant(ctx context.Context, b Bucket, m Move) (int64, error) {
	k := h.keys(b)
	n, err := h.number(ctx, h.grant, "grant units to a bucket", []string{k.gate(), k.leaved(m.SkuID)}, m.SkuID,
		m.BucketID, m.Seq, m.Units)
	if err != nil {
		return 0, err
	}
	switch n {
	case codeWentBack:
		return 0, ErrWentBack
	case codeDone:
		return 0, ErrDone
	case codeGap:
		return 0, ErrGap
	}
	return n, nil
}

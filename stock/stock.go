package stock

import (
	"errors"
	"fmt"
	"math"
	"time"

	"orderd/migrations/sqldb"
)

// SoldOut as skus.closed_until is a SKU that is sold out: it is not sold until it is opened
// again.
const SoldOut int64 = math.MaxInt64

// reopening is the least skus.closed_until of a SKU that is about to be sold again: nobody sells
// it yet, and nobody who reads it believes a mark for it any more. What is above says when that
// was written, in milliseconds, so that no two reopenings of a SKU are the same. See
// Admin.Reopen.
const reopening int64 = 1 << 62

// Reopening reports that a SKU with this closed_until is about to be sold again.
func Reopening(closedUntil int64) bool { return closedUntil >= reopening && closedUntil != SoldOut }

// MarkUntil gives until when a process that has read these two columns of a SKU may refuse it
// from memory, in milliseconds of the database's clock.
func MarkUntil(opensAt, closedUntil int64) int64 {
	if Reopening(closedUntil) {
		return opensAt
	}
	return max(opensAt, closedUntil)
}

// Line is a quantity of one SKU: what an order asks for, or a refund returns.
type Line struct {
	SkuID    string
	Quantity int64 // units, 1 or more
}

// Short says that a SKU has less than was asked for.
type Short struct {
	Index     int // of the first line that asked for this SKU, from 0
	SkuID     string
	Requested int64 // units, of all lines together
	Available int64 // units that were left; 0 too for a SKU that does not exist
	// Elsewhere: units of it are in buckets that are not called back, because some are set
	// aside for those who wait. Whoever has not asked these does not know that it is sold out.
	Elsewhere bool
	// Kept: it was asked FromNowhere, and the pool has some. They are for others, or will be for
	// whoever comes again.
	Kept bool
}

// FromNowhere stands for the bucket of a line that has none and is not taken of the pool either:
// of a sale with a queue, whose pool has what somebody waits for, or what is on its way into
// buckets. The line is refused, and its Short says whether there is any.
const FromNowhere int64 = -1

// SKU is a thing for sale (a stock-keeping unit).
type SKU struct {
	SkuID     string // given by the shop, 1 to 64 of 0-9 A-Z a-z _ . : -
	Title     string
	PriceFen  int64 // of one unit, in fen: a hundredth of a yuan
	Available int64 // units in the pool; means nothing when Unlimited
	Unlimited bool  // never sold out, such as a download
	// Allocated are units in buckets of a flash sale that are not closed: free too, beside
	// Available.
	Allocated int64
	// SoldOut is the mark of a flash sale: nothing is sold before it is opened again, whatever
	// has come back.
	SoldOut bool
	// LowAt: the shop is told when no more units than these are left, in pool and buckets; 0: never.
	LowAt       int64
	lowTold     bool      // it was told, and since then there were no more
	PerCustomer int64     // units that one customer may have in its sale; 0: no limit
	OpensAt     time.Time // begin of its sale; zero: at once
	Version     int64     // from 1, one more with every change of title or price
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Kind is what a flow did to the shelf.
type Kind string

// The kinds. The first two belong to an order, the others to an operator. A flow is
// unique by order, kind, ref and SKU: what moves stock twice needs another ref.
const (
	KindDeduct    Kind = "deduct"    // an order took units; ref "" when it was placed, or RefRevive
	KindReturn    Kind = "return"    // they came back; ref RefClose, or the number of a refund
	KindInitial   Kind = "initial"   // the first stock of a new SKU; ref ""
	KindReplenish Kind = "replenish" // goods came in; ref is the caller's key
	KindAdjust    Kind = "adjust"    // a count was corrected, up or down; ref is the caller's key
)

// Errors of the ledger.
var (
	// ErrSKUNotFound: no such SKU.
	ErrSKUNotFound = errors.New("SKU not found")
	// ErrReturnExceeds: more would come back than was taken. Nothing moved.
	ErrReturnExceeds = errors.New("return exceeds what was deducted")
	// ErrUnlimited: an unlimited SKU has no number to change.
	ErrUnlimited = errors.New("the SKU is unlimited, it has no stock to change")
	// ErrFenced: a bucket no longer holds what its home gave out. The batch is run again,
	// with Want.Fenced.
	ErrFenced = fmt.Errorf("%w: a bucket holds less than was given out", sqldb.ErrLostRace)
	// ErrKeyReused: the idempotency key of a replenish or adjust was used for another change.
	ErrKeyReused = errors.New("this idempotency key was used for another stock change")
)

// ChangedError: an adjustment expected another number on the shelf. Nothing moved. Both
// numbers are in units, Available with what is allocated.
type ChangedError struct{ Expected, Available int64 }

// Error gives both numbers, in units.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("the shelf holds %d, %d were expected", e.Available, e.Expected)
}

// Merge adds up lines of the same SKU, which keeps the place of its first line.
func Merge(lines []Line) []Line {
	at := make(map[string]int, len(lines))
	merged := make([]Line, 0, len(lines))
	for _, l := range lines {
		if i, seen := at[l.SkuID]; seen {
			merged[i].Quantity += l.Quantity
			continue
		}
		at[l.SkuID] = len(merged)
		merged = append(merged, l)
	}
	return merged
}

// merge adds up lines by SKU, where their order does not matter: units by SKU.
func merge(lines []Line) map[string]int64 {
	sums := make(map[string]int64, len(lines))
	for _, l := range lines {
		sums[l.SkuID] += l.Quantity
	}
	return sums
}

package stock

import (
	"errors"
	"fmt"
	"time"
)

// Line asks for a quantity of one SKU.
type Line struct {
	SkuID    string
	Quantity int64
}

// Short says that a SKU has less than was asked for.
type Short struct {
	Index     int // of the first line that asked for this SKU
	SkuID     string
	Requested int64
	Available int64
}

// SKU is a thing for sale.
type SKU struct {
	SkuID     string
	Title     string
	PriceFen  int64
	Available int64 // meaningless when Unlimited
	Unlimited bool
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Kind is what a flow did to the shelf.
type Kind string

// The kinds. The first two belong to an order, the others to an operator.
const (
	KindDeduct    Kind = "deduct"
	KindReturn    Kind = "return"
	KindInitial   Kind = "initial"
	KindReplenish Kind = "replenish"
	KindAdjust    Kind = "adjust"
)

// Errors of the ledger.
var (
	// ErrSKUNotFound: no such SKU.
	ErrSKUNotFound = errors.New("SKU not found")
	// ErrReturnExceeds: more would come back than was taken. Nothing moved.
	ErrReturnExceeds = errors.New("return exceeds what was deducted")
	// ErrUnlimited: an unlimited SKU has no number to change.
	ErrUnlimited = errors.New("the SKU is unlimited, it has no stock to change")
	// ErrKeyReused: the idempotency key of a replenish or adjust was used for another change.
	ErrKeyReused = errors.New("this idempotency key was used for another stock change")
)

// ChangedError: an adjustment expected another number on the shelf.
type ChangedError struct{ Expected, Available int64 }

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

// merge adds up lines by SKU, where their order does not matter.
func merge(lines []Line) map[string]int64 {
	sums := make(map[string]int64, len(lines))
	for _, l := range lines {
		sums[l.SkuID] += l.Quantity
	}
	return sums
}

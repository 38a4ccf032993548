package order

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// The refusals of a placement, by the names that Observer.Refused has, and as the queue of a sale
// keeps them for those who waited.

// refusalKind names the reason for which a placement was refused. "" is for every other error,
// those of the database above all: they refuse nothing.
func refusalKind(err error) string {
	switch {
	case errors.As(err, new(*NotStartedError)):
		return "not_started"
	case errors.As(err, new(*CustomerLimitError)):
		return "customer_limit"
	case errors.As(err, new(*TooManyOpenError)):
		return "open_orders"
	case errors.As(err, new(*TooManyUnitsError)):
		return "open_units"
	case errors.As(err, new(*InsufficientError)):
		return "stock"
	case errors.As(err, new(*UnknownSKUError)):
		return "sku"
	case errors.As(err, new(*PriceChangedError)):
		return "price"
	case errors.As(err, new(*ReferenceTakenError)):
		return "reference"
	case errors.Is(err, ErrRequestReused):
		return "key"
	case errors.As(err, new(*ValidationError)):
		return "invalid"
	}
	return ""
}

// outcome is what became of a placement that waited and is not the order of its number. Of its
// fields one is there, or none: nobody could make the order.
type outcome struct {
	PlacedAs   string               `json:"placed_as,omitempty"`
	NotStarted *NotStartedError     `json:"not_started,omitempty"`
	Limit      *CustomerLimitError  `json:"customer_limit,omitempty"`
	Open       *TooManyOpenError    `json:"open_orders,omitempty"`
	Units      *TooManyUnitsError   `json:"open_units,omitempty"`
	Short      *InsufficientError   `json:"stock,omitempty"`
	SKU        *UnknownSKUError     `json:"sku,omitempty"`
	Price      *PriceChangedError   `json:"price,omitempty"`
	Taken      *ReferenceTakenError `json:"reference,omitempty"`
	Invalid    *ValidationError     `json:"invalid,omitempty"`
	Reused     bool                 `json:"key,omitempty"`
	TooLong    bool                 `json:"too_long,omitempty"` // it waited for longer than anybody may
}

// writeOutcome writes down what became of a placement that waited.
func writeOutcome(err error) []byte {
	var o outcome
	var as *PlacedAsError
	switch {
	case errors.As(err, &as):
		o.PlacedAs = as.OrderNo
	case errors.As(err, &o.NotStarted), errors.As(err, &o.Limit), errors.As(err, &o.Open), errors.As(err, &o.Units),
		errors.As(err, &o.Short), errors.As(err, &o.SKU), errors.As(err, &o.Price), errors.As(err, &o.Taken),
		errors.As(err, &o.Invalid):
	default:
		o.Reused, o.TooLong = errors.Is(err, ErrRequestReused), errors.Is(err, sqldb.ErrOverloaded)
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Errorf("write an outcome down: %w", err)) // our own types with our own values
	}
	return b
}

// readOutcome gives what writeOutcome wrote. Nothing is ErrNotFound: it was kept for a while.
func readOutcome(b []byte) error {
	if len(b) == 0 {
		return ErrNotFound
	}
	var o outcome
	if err := json.Unmarshal(b, &o); err != nil {
		return fmt.Errorf("%w: %w", errNotMade, err)
	}
	switch {
	case o.PlacedAs != "":
		return &PlacedAsError{o.PlacedAs}
	case o.NotStarted != nil:
		return o.NotStarted
	case o.Limit != nil:
		return o.Limit
	case o.Open != nil:
		return o.Open
	case o.Units != nil:
		return o.Units
	case o.Short != nil:
		return o.Short
	case o.SKU != nil:
		return o.SKU
	case o.Price != nil:
		return o.Price
	case o.Taken != nil:
		return o.Taken
	case o.Invalid != nil:
		return o.Invalid
	case o.Reused:
		return ErrRequestReused
	case o.TooLong:
		return sqldb.ErrOverloaded
	}
	return errNotMade
}

// PointAt makes a refusal point at the lines as they were asked for: lines of one SKU are merged
// before they are placed, and Index counts the merged ones.
func PointAt(asked []stock.Line, err error) error {
	index := func(sku string) int {
		return slices.IndexFunc(asked, func(l stock.Line) bool { return l.SkuID == sku })
	}
	var short *InsufficientError
	var unknown *UnknownSKUError
	var early *NotStartedError
	var units *TooManyUnitsError
	switch {
	case errors.As(err, &short):
		items := slices.Clone(short.Items)
		for i := range items {
			items[i].Index = index(items[i].SkuID)
		}
		return &InsufficientError{Items: items}
	case errors.As(err, &unknown):
		return &UnknownSKUError{SkuID: unknown.SkuID, Index: index(unknown.SkuID)}
	case errors.As(err, &early):
		at := *early
		at.Index = index(at.SkuID)
		return &at
	case errors.As(err, &units):
		at := *units
		at.Index = index(at.SkuID)
		return &at
	}
	return err
}

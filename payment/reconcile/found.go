package reconcile

import (
	"encoding/json"
	"fmt"

	"orderd/payment"
)

// foundOf is a hash of what a day has come to: the bill, its sums, the bridge, and how each of its
// differences has ended. A difference that was open in between ends otherwise than it did before,
// at another time at least.
func foundOf(res *Result, of endings) (string, error) {
	text, err := json.Marshal(foundForm(res, of))
	if err != nil {
		return "", fmt.Errorf("encode what was found: %w", err)
	}
	return sum256(text), nil
}

// foundOne is the form that closings hold against their day. It is not Result, which grows: days that an older program
// closed would all be open again. It never changes. What a later program wants to be held, too, is a second form beside
// it, and a closing of either form holds (see weigh).
type foundOne struct {
	SHA1              string
	Totals            foundTotals
	Payments, Refunds foundBridge
	Ends              string
}

// foundTotals, foundSum and foundBridge are of foundOne: Totals, Sum and Bridge as they were when days were first
// closed.
type (
	foundTotals struct {
		Rows       int64       `json:"rows"`
		Payments   int64       `json:"payments"`
		PaidFen    payment.Fen `json:"paid_fen"`
		Refunds    int64       `json:"refunds"`
		RefundFen  payment.Fen `json:"refund_fen"`
		FeeX100000 int64       `json:"fee_x100000"`
	}
	foundSum struct {
		Count int64       `json:"count"`
		Fen   payment.Fen `json:"fen"`
	}
	foundBridge struct {
		BillCount  int64       `json:"bill_count"`
		BillFen    payment.Fen `json:"bill_fen"`
		OursCount  int64       `json:"ours_count"`
		OursFen    payment.Fen `json:"ours_fen"`
		Matched    int64       `json:"matched"`
		BillOnly   foundSum    `json:"bill_only"`
		LocalOnly  foundSum    `json:"local_only"`
		Amounts    foundSum    `json:"amounts"`
		States     int64       `json:"states"`
		Duplicates foundSum    `json:"duplicates"`
		AcrossBill foundSum    `json:"across_bill"`
		AcrossOurs foundSum    `json:"across_ours"`
		Other      foundSum    `json:"other_business"`
	}
)

// foundForm puts a result into the form.
func foundForm(res *Result, of endings) foundOne {
	sum := func(s Sum) foundSum { return foundSum(s) }
	bridge := func(b *Bridge) foundBridge {
		return foundBridge{b.BillCount, b.BillFen, b.OursCount, b.OursFen, b.Matched, sum(b.BillOnly), sum(b.LocalOnly),
			sum(b.Amounts), b.States, sum(b.Duplicates), sum(b.AcrossBill), sum(b.AcrossOurs), sum(b.Other)}
	}
	t := &res.Totals
	return foundOne{res.SHA1, foundTotals{t.Rows, t.Payments, t.PaidFen, t.Refunds, t.RefundFen, t.FeeX100000},
		bridge(&res.Payments), bridge(&res.Refunds), of.ends}
}

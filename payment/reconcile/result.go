package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// Sum is so many rows worth so much.
type Sum struct {
	Count int64       `json:"count"`
	Fen   payment.Fen `json:"fen"`
}

// add counts one more row.
func (s *Sum) add(f payment.Fen) { s.Count++; s.Fen += f }

// addAll counts the rows of another sum.
func (s *Sum) addAll(o Sum) { s.Count += o.Count; s.Fen += o.Fen }

// Bridge leads from our rows to the bill: ours + bill only − ours only ± amounts +
// duplicates + of other days − in other days' bills + other business = bill. The count
// goes the same way. A bridge that does not close ends the run (pass.bridge), so that one that is
// stored can be believed.
type Bridge struct {
	BillCount  int64       `json:"bill_count"`
	BillFen    payment.Fen `json:"bill_fen"`
	OursCount  int64       `json:"ours_count"`
	OursFen    payment.Fen `json:"ours_fen"`
	Matched    int64       `json:"matched"`
	BillOnly   Sum         `json:"bill_only"`   // 长款
	LocalOnly  Sum         `json:"local_only"`  // 短款
	Amounts    Sum         `json:"amounts"`     // 金额不符; the fen are bill − ours
	States     int64       `json:"states"`      // 状态不符
	Duplicates Sum         `json:"duplicates"`  // 重复
	AcrossBill Sum         `json:"across_bill"` // in this bill, of another day of ours
	AcrossOurs Sum         `json:"across_ours"` // ours of this day, in another day's bill
	// Other is other business of the same merchant number (其他业务): no difference, and
	// nothing of ours. A reversal (REVOKED) counts as a row of its own, as the bill has it.
	Other Sum `json:"other_business"`
}

// addAll adds what was counted elsewhere; no row may be counted in both.
func (b *Bridge) addAll(o *Bridge) {
	b.BillCount += o.BillCount
	b.BillFen += o.BillFen
	b.OursCount += o.OursCount
	b.OursFen += o.OursFen
	b.Matched += o.Matched
	b.BillOnly.addAll(o.BillOnly)
	b.LocalOnly.addAll(o.LocalOnly)
	b.Amounts.addAll(o.Amounts)
	b.States += o.States
	b.Duplicates.addAll(o.Duplicates)
	b.AcrossBill.addAll(o.AcrossBill)
	b.AcrossOurs.addAll(o.AcrossOurs)
	b.Other.addAll(o.Other)
}

// Result is what a run found, after healing. It holds nothing of when and how
// often it ran: the same bill and the same rows give the same bytes.
//
// Its JSON is stored in reconciliations.result and given out by CLI and API: a
// field may be added, none renamed.
type Result struct {
	Date        string           `json:"bill_date"`
	Type        payment.BillType `json:"bill_type"`
	SHA1        string           `json:"bill_sha1"` // "" when there was no bill: nothing happened
	Totals      Totals           `json:"bill"`
	Payments    Bridge           `json:"payments"`
	Refunds     Bridge           `json:"refunds"`
	Healed      int64            `json:"healed"`
	Differences map[Kind]int64   `json:"differences"` // not resolved, by kind
	Open        int64            `json:"open"`
	Pending     int64            `json:"pending_next_day"`
	FundFlow    *FundFlow        `json:"fund_flow,omitempty"`
	// Source is where the bill came from; of a file, who gave it and who confirmed it.
	Source      Source `json:"source,omitempty"`
	GivenBy     string `json:"given_by,omitempty"`
	ConfirmedBy string `json:"confirmed_by,omitempty"`
	// Uncounted: the bill is a file that does not count for its day. It has added
	// differences and ended none.
	Uncounted bool `json:"uncounted,omitempty"`
}

// Waiting is what of a day waits for a bill of another day that should have been here by
// now: it is as good as open.
func (r *Result) Waiting(now time.Time) int64 {
	from, err := dayStart(r.Date)
	if err != nil || now.Before(from.AddDate(0, 0, 2).Add(billHour*time.Hour)) {
		return 0
	}
	return r.Pending
}

// Balanced reports that nothing is open. What waits for the next bill does not count
// (Waiting does), nor what was written off.
func (r *Result) Balanced() bool { return r.Open == 0 }

// Status is where a difference stands. It is stored in differences.status, whose values
// a CHECK constraint bounds.
type Status string

// The states of a difference.
const (
	StatusOpen       Status = "OPEN"             // somebody has to look
	StatusPending    Status = "PENDING_NEXT_DAY" // near midnight: the bill of WaitsFor may have it, until PendingUntil
	StatusResolved   Status = "RESOLVED"         // by a run that found it gone, or by a person
	StatusWrittenOff Status = "WRITTEN_OFF"      // by two persons
)

// Statuses are all of them.
func Statuses() []Status {
	return []Status{StatusOpen, StatusPending, StatusResolved, StatusWrittenOff}
}

// Difference is one thing in which the bill and our rows differ: a row of table
// differences. Amounts are in fen.
type Difference struct {
	ID            string // made from what it is: every run finds the same one
	Date          string // of the bill, YYYY-MM-DD
	Type          payment.BillType
	Kind          Kind
	Ref           string // transaction id, or out_refund_no
	OrderNo       string // "" when it is no order of ours
	OutTradeNo    string
	TransactionID string
	Line          int64       // of the bill, 0 without
	BillFen       payment.Fen // 0 when only we have it
	OursFen       payment.Fen // 0 when only the bill has it
	BillState     string      // WeChat's word
	OursState     string      // of payments.outcome or refunds.state
	Facts         Facts       // what else the bill says of it
	FactsProblem  string      // why Facts could not be read and are empty, "" when they are what is stored
	Status        Status
	Source        Source // of the bill that it was found in first
	GivenBy       string // who gave that bill, "" for WeChat Pay's
	// WaitsFor is the day whose bill may have the row, of a row of ours near midnight; ""
	// of any other. PendingUntil is when waiting for it ends.
	WaitsFor     string
	PendingUntil time.Time
	OpenedAt     time.Time
	ProposedBy   string // who wants it written off, "" when nobody does
	ProposedWhy  string
	Resolution   string // how it ended, a text for people; "" while it is open
	ResolvedBy   string // a person, or "reconciler"
	ResolvedWhy  string // a person's reason; "" marks what a run resolved by itself
	ResolvedAt   time.Time
	Assignee     string // who works on it, "" for nobody

	healable      bool  // it can be recorded without a person
	neighbourHere bool  // the bill of WaitsFor counts and is done
	allowed       uint8 // a bit for each of Actions: lookAround
}

// Allowed gives what can be done about a difference, as it was read: what pages, verbs and the API
// offer, and all that Resolve does. Of one that has ended it is nothing. What only WeChat Pay
// knows, and who may be a second person, is found out when it is done.
func (d *Difference) Allowed() []Action {
	all := []Action{}
	for i, a := range Actions() {
		if d.allowed&(1<<i) != 0 {
			all = append(all, a)
		}
	}
	return all
}

// AgeDays is for how many whole days it has been open, or was until it ended.
func (d *Difference) AgeDays(now time.Time) int {
	if d.Status == StatusResolved || d.Status == StatusWrittenOff {
		now = d.ResolvedAt
	}
	return max(0, int(now.Sub(d.OpenedAt)/(24*time.Hour)))
}

// Diff is bill − ours.
func (d *Difference) Diff() payment.Fen { return d.BillFen - d.OursFen }

// idOf makes the number of a difference from what it is, so that every run finds the
// same one. The amounts belong to it: who wrote off one fen has not written off the
// thousand that another bill of the day has. States do not: a refund that goes on
// from PROCESSING is the same difference.
func idOf(d Difference) string {
	line := int64(0)
	if d.Kind == Duplicate || d.Kind == DuplicateRefund {
		line = d.Line // the second and the third copy are two differences
	}
	is := fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%d\n%d\n%d", d.Date, d.Type, d.Kind, d.Ref, line, d.BillFen, d.OursFen)
	if d.Facts.Foreign != 0 {
		is = fmt.Appendf(is, "\n%d %s", d.Facts.Foreign, d.Facts.Currency)
	}
	sum := sha256.Sum256(is)
	return hex.EncodeToString(sum[:16]) // 128 bits: no two differences of one merchant meet
}

// ID is the name of a reconciliation: day and bill type.
func ID(date string, t payment.BillType) string { return date + "-" + string(t) }

// billText says which bill a result rests on, and how it came here.
func (r *Result) billText() string {
	switch {
	case r.SHA1 == "":
		return "none: nothing happened on that day"
	case r.Source != SourceFile:
		return r.SHA1
	case r.ConfirmedBy != "":
		return r.SHA1 + ", a file: given by " + bounds.Shown(r.GivenBy) + ", confirmed by " +
			bounds.Shown(r.ConfirmedBy)
	}
	return r.SHA1 + ", a file that ends no difference: given by " + bounds.Shown(r.GivenBy) +
		", nobody has confirmed it"
}

// WriteText prints a result as a person reads it, with the bridge in the order in which
// it is added up. The text is for people and may change; programs read the JSON.
func WriteText(out io.Writer, r Result) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	if r.Type == payment.BillFundFlow {
		return writeFlow(out, r)
	}
	fmt.Fprintf(out, "%s %s   bill %s\n\n", r.Date, r.Type, r.billText())
	fmt.Fprintln(w, "\tpayments\tyuan\trefunds\tyuan\t")
	p, f := &r.Payments, &r.Refunds
	line := func(name string, n1 int64, f1 payment.Fen, n2 int64, f2 payment.Fen) {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t\n", name, n1, f1, n2, f2)
	}
	line("ours", p.OursCount, p.OursFen, f.OursCount, f.OursFen)
	line("+ 长款 bill only", p.BillOnly.Count, p.BillOnly.Fen, f.BillOnly.Count, f.BillOnly.Fen)
	line("− 短款 ours only", p.LocalOnly.Count, p.LocalOnly.Fen, f.LocalOnly.Count, f.LocalOnly.Fen)
	line("± 金额不符 amounts", p.Amounts.Count, p.Amounts.Fen, f.Amounts.Count, f.Amounts.Fen)
	line("+ 重复 duplicates", p.Duplicates.Count, p.Duplicates.Fen, f.Duplicates.Count, f.Duplicates.Fen)
	line("+ 日切 of other days", p.AcrossBill.Count, p.AcrossBill.Fen, f.AcrossBill.Count, f.AcrossBill.Fen)
	line("− 日切 in other bills", p.AcrossOurs.Count, p.AcrossOurs.Fen, f.AcrossOurs.Count, f.AcrossOurs.Fen)
	line("+ 其他业务 other business", p.Other.Count, p.Other.Fen, f.Other.Count, f.Other.Fen)
	line("= bill", p.BillCount, p.BillFen, f.BillCount, f.BillFen)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nmatched %d payments and %d refunds; 状态不符 %d; healed %d; fees %s yuan\n", p.Matched, f.Matched,
		p.States+f.States, r.Healed, r.Totals.Fees())
	if r.Open == 0 {
		fmt.Fprintf(out, "balanced: no difference is open")
	} else {
		fmt.Fprintf(out, "%d differences are open: orderd reconcile diffs %s", r.Open, ID(r.Date, r.Type))
	}
	if r.Pending > 0 {
		fmt.Fprintf(out, "; %d near midnight wait for the next bill", r.Pending)
	}
	_, err := fmt.Fprintln(out)
	return err
}

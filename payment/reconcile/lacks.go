package reconcile

import (
	"time"

	"orderd/payment"
)

// Lack is something that a month lacks before it can be closed: a word of the API.
type Lack string

// What a month can lack. The first ones hold back the closing of a day; held money and refunds hold back none, but what
// they come to belongs to somebody's books.
const (
	LackRun       Lack = "NOT_RECONCILED"      // a day whose bill should be in the sums
	LackDue       Lack = "NOT_DUE"             // days that have not come, or have no bill yet
	LackOpen      Lack = "OPEN_DIFFERENCES"    // of a day
	LackNeighbour Lack = "WAITING_DIFFERENCES" // of a day, for the bill of another one
	LackClosing   Lack = "NOT_CLOSED"          // a day that has nothing else against it
	LackHeld      Lack = "HELD_PAYMENTS"       // money that fits no order and waits for a person
	LackRefunds   Lack = "UNFINISHED_REFUNDS"  // money that was asked for and is not back
)

// Lacks are all of them, in the order in which they are worked off.
func Lacks() []Lack {
	return []Lack{LackRun, LackOpen, LackNeighbour, LackClosing, LackDue, LackHeld, LackRefunds}
}

// MonthLack is one of them: of a day, or with Date "" of the month.
type MonthLack struct {
	What  Lack        `json:"what"`
	Date  string      `json:"bill_date,omitempty"`
	State DayState    `json:"state,omitempty"` // of the day
	Count int64       `json:"count"`           // of differences, days, payments or refunds
	Fen   payment.Fen `json:"amount_fen,omitempty"`
	// Stops says that the month cannot be closed before.
	Stops bool `json:"stops_closing"`
}

// Lacks gives what each day of a month lacks, first what is worked off first; of money that waits a month knows
// nothing.
func (m *Month) Lacks() []MonthLack {
	all := []MonthLack{}
	of := func(d *MonthDay, what Lack, n int64) {
		if n > 0 {
			all = append(all, MonthLack{What: what, Date: d.Date, State: d.State, Count: n, Stops: true})
		}
	}
	for i := range m.Days {
		if d := &m.Days[i]; d.State.Lacks() {
			of(d, LackRun, 1)
		}
	}
	for i := range m.Days {
		of(&m.Days[i], LackOpen, m.Days[i].Open)
	}
	for i := range m.Days {
		of(&m.Days[i], LackNeighbour, m.Days[i].Pending)
	}
	for i := range m.Days {
		if d := &m.Days[i]; d.State == DayBalanced && !d.Closed() && d.Open+d.Pending == 0 {
			of(d, LackClosing, 1)
		}
	}
	if m.NotDue > 0 {
		all = append(all, MonthLack{What: LackDue, Count: int64(m.NotDue), Stops: true})
	}
	return all
}

// End is when the month is over in Beijing.
func (m *Month) End() time.Time {
	from, err := monthStart(m.Month)
	if err != nil { // it was made by Reconciler.Month
		return time.Time{}
	}
	return from.AddDate(0, 1, 0)
}

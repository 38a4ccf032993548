package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/payment"
	"orderd/payment/reconcile"
)

// uiBooks is the page of months; its files have the extension behind it, and days are below it.
const uiBooks = "/ui/reconciliations"

// uiDiffs is the page of differences.
const uiDiffs = "/ui/differences"

// bookPages are finance's pages.
func (c *console) bookPages() []route {
	return []route{
		{http.MethodGet, uiBooks, Finance, c.monthPage},
		{http.MethodGet, uiBooks + ".csv", Finance, c.monthFile},
		{http.MethodGet, uiBooks + ".xlsx", Finance, c.monthFile},
		{http.MethodGet, uiBooks + "/:id", Finance, c.dayPage},
		{http.MethodGet, uiBooks + "/:id/day.csv", Finance, c.dayFile},
		{http.MethodGet, uiBooks + "/:id/day.xlsx", Finance, c.dayFile},
		{http.MethodGet, uiDiffs, Finance, c.differencesPage},
		{http.MethodGet, uiDiffs + "/:id", Finance, c.differencePage},
	}
}

// calendarDay is a day in the calendar of a month; without a Date it is an empty cell.
type calendarDay struct {
	Day   string // of the month
	Path  string // "" for a day that has no page
	Look  look
	Open  int64
	Today bool
}

// monthView is the page of a month.
type monthView struct {
	Month          *reconcile.Month
	Weeks          [][]calendarDay // from Monday to Sunday
	Rows           []monthRow
	Prev, Next     string // "" for a month that has not come
	This, CSV, XLS string
	Open           int64 // of all days
	Acts           []link
	Lacks          []lackRow
}

// lackRow is what a month lacks, of one kind, with the pages where each of it is ended.
type lackRow struct {
	What  reconcile.Lack
	Count int64
	Fen   payment.Fen
	Stops bool
	Pages []lackPage
}

// lackPage is where something is ended that a month lacks; Day is "" for what is of no day.
type lackPage struct {
	Day, Path string
	Count     int64
}

// lackRows puts what a month lacks together by its kind.
func lackRows(lacks []reconcile.MonthLack) (rows []lackRow) {
	for _, what := range reconcile.Lacks() {
		row := lackRow{What: what}
		for i := range lacks {
			if l := &lacks[i]; l.What == what {
				row.Count, row.Fen, row.Stops = row.Count+l.Count, row.Fen+l.Fen, l.Stops
				row.Pages = append(row.Pages, lackPage{l.Date, lackPath(l), l.Count})
			}
		}
		if row.Count > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// lackPath is the page where it is ended, "" where only time does that.
func lackPath(l *reconcile.MonthLack) string {
	day := uiBooks + "/" + reconcile.ID(l.Date, payment.BillAll)
	switch l.What {
	case reconcile.LackRun:
		return day + "/run"
	case reconcile.LackOpen:
		return day + "?status=" + string(reconcile.StatusOpen) + "#diffs"
	case reconcile.LackNeighbour:
		return day + "?status=" + string(reconcile.StatusPending) + "#diffs"
	case reconcile.LackClosing:
		return day + "/close"
	case reconcile.LackHeld:
		return "/ui/held"
	case reconcile.LackRefunds:
		return "/ui/refunds"
	case reconcile.LackDue:
	}
	return ""
}

// monthRow is a day of the table: it has a page once there was a run.
type monthRow struct {
	reconcile.MonthDay
	Path string
}

// Away reports that there is nothing to be done or said about the day: on a narrow screen the
// calendar alone has it.
func (r *monthRow) Away() bool {
	return r.Figures == nil && r.Open+r.Pending == 0 &&
		(r.State == reconcile.DayBefore || r.State == reconcile.DayNotDue)
}

// monthPage is GET /ui/reconciliations: a month, this one without a parameter.
func (c *console) monthPage(ctx echo.Context) error {
	m, err := c.month(ctx)
	if err != nil {
		return err
	}
	open, err := c.Reconciler.Open(ctx.Request().Context())
	if err != nil {
		return err
	}
	from, err := time.ParseInLocation("2006-01", m.Month, beijing)
	if err != nil {
		return err
	}
	now := reconcile.MonthOf(c.Now())
	v := monthView{Month: &m, Weeks: c.calendar(&m, from, languageOf(ctx.Request())), This: now,
		Prev: from.AddDate(0, -1, 0).Format("2006-01"),
		CSV:  uiBooks + ".csv?month=" + m.Month, XLS: uiBooks + ".xlsx?month=" + m.Month}
	yesterday := reconcile.Day(c.Now().AddDate(0, 0, -1))
	v.Acts = c.links(ctx, []string{reconcile.ID(yesterday, payment.BillAll)}, "day.run")
	if next := from.AddDate(0, 1, 0).Format("2006-01"); next <= now {
		v.Next = next
	}
	for _, n := range open.Count {
		v.Open += n
	}
	for i := range m.Days {
		v.Rows = append(v.Rows, monthRow{m.Days[i], dayPath(&m.Days[i])})
	}
	lacks, err := MonthLacks(ctx.Request().Context(), &m, c.Orders, c.Refunds)
	if err != nil {
		return err
	}
	v.Lacks = lackRows(lacks)
	return c.show(ctx, "reconciliations", v)
}

// month reads the month of the address, this one without.
func (c *console) month(ctx echo.Context) (reconcile.Month, error) {
	month := ctx.QueryParam("month")
	if month == "" {
		month = reconcile.MonthOf(c.Now())
	}
	m, err := c.Reconciler.Month(ctx.Request().Context(), month)
	if err != nil {
		return m, reconcileError(err)
	}
	return m, nil
}

// monthFile is GET /ui/reconciliations.csv and .xlsx: the month as a file.
func (c *console) monthFile(ctx echo.Context) error {
	m, err := c.month(ctx)
	if err != nil {
		return err
	}
	media, ext := fileOf(ctx)
	return c.sendMonth(ctx, media, ext, &m)
}

// dayPath is the page of a day, "" for one that nobody has reconciled.
func dayPath(d *reconcile.MonthDay) string {
	switch d.State {
	case reconcile.DayMissing, reconcile.DayNotDue, reconcile.DayBefore:
		if d.SHA1 == "" && d.Problem == "" && d.Figures == nil && d.Open+d.Pending == 0 {
			return ""
		}
	case reconcile.DayBalanced, reconcile.DayOpen, reconcile.DayRunning, reconcile.DayWaiting, reconcile.DayFailed,
		reconcile.DayUnconfirmed:
	}
	return uiBooks + "/" + reconcile.ID(d.Date, payment.BillAll)
}

// calendar puts the days of a month under the days of the week.
func (c *console) calendar(m *reconcile.Month, from time.Time, l lang) [][]calendarDay {
	const week = 7
	before := (int(from.Weekday()) + week - 1) % week // from Monday
	all := make([]calendarDay, before, before+len(m.Days)+week)
	today := reconcile.Day(c.Now())
	for i := range m.Days {
		d := &m.Days[i]
		day := calendarDay{Day: strconv.Itoa(i + 1), Path: dayPath(d), Look: l.look("cal", d.State),
			Today: d.Date == today, Open: d.Open}
		if d.Closed() {
			day.Look = l.look("cal", "CLOSED")
		} else if d.Closing != nil {
			day.Look = l.look("cal", "REOPENED")
		}
		all = append(all, day)
	}
	for len(all)%week != 0 {
		all = append(all, calendarDay{})
	}
	var weeks [][]calendarDay
	for i := 0; i < len(all); i += week {
		weeks = append(weeks, all[i:i+week])
	}
	return weeks
}

// bridgeSide is a number of the bridge, and where its rows are, "" where nothing is to be opened.
type bridgeSide struct {
	reconcile.Sum
	Path string
}

// bridgeRow is a line of the way from our rows to the bill: payments and refunds.
type bridgeRow struct {
	Word              string
	Payments, Refunds bridgeSide
}

// dayView is one run with its differences.
type dayView struct {
	Day    *reconcile.Stored
	Bridge []bridgeRow
	// PaidStates and BackStates are payments and refunds whose states differ.
	PaidStates, BackStates bridgeSide
	Net, Fees              string
	Text                   lines // of a bill that has no bridge
	Differences            []reconcile.Difference
	Next                   string // after this page of them
	Filter                 diffForm
	Across                 *reconcile.AcrossRows // rows of other days; nil where they are not asked for
	Unapplied              reconcile.UnappliedOf // of our payments, which the list of paid orders lacks
	Applied                bridgeSide            // those that it has
	Files                  []reconcile.BillFile
	Closings               []reconcile.Closing
	Closing                *reconcile.Closing // the last one, nil for none
	Acts                   []link
	NotClosable            string // why the day cannot be closed, "" when it can or is
	Proof                  string // the ZIP, "" for a bill that has none
	Now                    time.Time
}

// dayPage is GET /ui/reconciliations/:id: one run, and those of its differences that the filters mean.
func (c *console) dayPage(ctx echo.Context) error {
	q := query{Context: ctx}
	f, form := q.differencesOf(c.Now(), "")
	across := q.yes("across")
	if err := q.err(); err != nil {
		return err
	}
	f.Limit++
	id := ctx.Param("id")
	s, all, err := c.Reconciler.Export(ctx.Request().Context(), id, f)
	if err != nil {
		return reconcileError(err)
	}
	v := dayView{Day: &s, Filter: form, Now: c.Now()}
	v.Differences, v.Next = pageOfDiffs(ctx, all, f.Limit-1)
	at := uiBooks + "/" + s.ID()
	switch {
	case s.Result == nil:
	case s.Type == payment.BillFundFlow:
		var text strings.Builder
		if err := reconcile.WriteText(&text, *s.Result); err != nil {
			return err
		}
		v.Text = lines(text.String())
	default:
		p, r := s.Result.Payments.States, s.Result.Refunds.States
		v.PaidStates = sideOf(reconcile.Sum{Count: p}, kindPath(at, reconcile.StateMismatch))
		v.BackStates = sideOf(reconcile.Sum{Count: r}, kindPath(at, reconcile.RefundStateMismatch))
		if v.Unapplied, err = c.Reconciler.Unapplied(ctx.Request().Context(), s.Date); err != nil {
			return err
		}
		v.Bridge = bridgeOf(s.Date, at, s.SHA1 != "", v.Unapplied.Count > 0, &s.Result.Payments, &s.Result.Refunds)
		v.Applied = bridgeSide{reconcile.Sum{Count: s.Result.Payments.OursCount - v.Unapplied.Count}, paidOn(s.Date)}
		figures := reconcile.FiguresOf(s.Result)
		v.Fees, v.Net = figures.Fees(), figures.Net()
	}
	if v.Files, err = c.Reconciler.Files(ctx.Request().Context(), s.ID()); err != nil {
		return err
	}
	if s.Type == payment.BillAll {
		if v.Closings, err = c.Reconciler.Closings(ctx.Request().Context(), s.Date); err != nil {
			return err
		}
		if n := len(v.Closings); n > 0 {
			v.Closing = &v.Closings[n-1]
		}
		if s.Result != nil {
			v.Proof = "/admin/v1/reconciliations/" + s.ID() + "/proof"
		}
	}
	if v.Acts, err = c.dayLinks(ctx, &v); err != nil {
		return err
	}
	if across {
		rows, err := c.Reconciler.Across(ctx.Request().Context(), s.Date)
		if err != nil {
			return err
		}
		v.Across = &rows
	}
	return c.show(ctx, "day", v)
}

// bridgeOf are the lines of a bridge, in the order in which they are added up, each number with where
// its rows are: our own orders of the day, the bill, or the differences of a kind.
func bridgeOf(date, at string, bill, unapplied bool, p, r *reconcile.Bridge) []bridgeRow {
	ours, file := paidOn(date), ""
	if unapplied {
		ours = "#ours" // no one list has both
	}
	if bill {
		file = "/admin/v1/reconciliations/" + reconcile.ID(date, payment.BillAll) + "/bill"
	}
	kind := func(k reconcile.Kind) string { return kindPath(at, k) }
	across := at + "?across=1#across"
	side := sideOf
	count := func(n int64, f payment.Fen) reconcile.Sum { return reconcile.Sum{Count: n, Fen: f} }
	return []bridgeRow{
		{"bridge.ours", side(count(p.OursCount, p.OursFen), ours), side(count(r.OursCount, r.OursFen), "")},
		{"bridge.billonly", side(p.BillOnly, kind(reconcile.BillOnly)),
			side(r.BillOnly, kind(reconcile.RefundBillOnly))},
		{"bridge.localonly", side(p.LocalOnly, kind(reconcile.LocalOnly)),
			side(r.LocalOnly, kind(reconcile.RefundLocalOnly))},
		{"bridge.amounts", side(p.Amounts, kind(reconcile.AmountMismatch)),
			side(r.Amounts, kind(reconcile.RefundAmountMismatch))},
		{"bridge.duplicates", side(p.Duplicates, kind(reconcile.Duplicate)),
			side(r.Duplicates, kind(reconcile.DuplicateRefund))},
		{"bridge.acrossbill", side(p.AcrossBill, across), side(r.AcrossBill, across)},
		{"bridge.acrossours", side(p.AcrossOurs, across), side(r.AcrossOurs, across)},
		{"bridge.other", side(p.Other, file), side(r.Other, file)},
		{"bridge.bill", side(count(p.BillCount, p.BillFen), file), side(count(r.BillCount, r.BillFen), file)},
	}
}

// sideOf is a number with where its rows are; of none there are none.
func sideOf(sum reconcile.Sum, path string) bridgeSide {
	if sum.Count == 0 {
		path = ""
	}
	return bridgeSide{sum, path}
}

// kindPath is where the differences of a kind of a day are.
func kindPath(at string, k reconcile.Kind) string { return at + "?type=" + string(k) + "#diffs" }

// paidOn is the list of orders that were paid on a day. They were placed within the time to pay before:
// a week at most, which the list reads along their numbers.
func paidOn(date string) string {
	day, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return ""
	}
	return withQuery(uiOrders, url.Values{"paid_from": {date}, "paid_to": {date}, "created_to": {date},
		"created_from": {day.AddDate(0, 0, -7).Format(time.DateOnly)}})
}

// diffForm is a filter of differences as its form has it.
type diffForm struct {
	Status, Type, Assignee, Age string
	Statuses                    []reconcile.Status
	Kinds                       []reconcile.Kind
}

// differencesOf reads the filters of a page of differences; without any the status is otherwise.
func (q *query) differencesOf(now time.Time, otherwise reconcile.Status) (reconcile.DifferenceFilter, diffForm) {
	f := q.differences(now, otherwise)
	form := diffForm{Status: string(f.Status), Type: string(f.Kind), Assignee: q.QueryParam("assignee"),
		Age: q.QueryParam("age_days"), Statuses: reconcile.Statuses(), Kinds: reconcile.Kinds()}
	return f, form
}

// pageOfDiffs cuts what was read to a page, and gives where the next one is, "" after the last.
func pageOfDiffs(ctx echo.Context, all []reconcile.Difference, limit int) ([]reconcile.Difference, string) {
	if len(all) <= limit {
		return all, ""
	}
	asked := url.Values{}
	for name, v := range ctx.QueryParams() {
		if v[0] != "" {
			asked.Set(name, v[0])
		}
	}
	asked.Set("cursor", all[limit-1].ID)
	return all[:limit], withQuery(ctx.Request().URL.Path, asked)
}

// diffsView is a page of differences of all days.
type diffsView struct {
	Differences []reconcile.Difference
	Filter      diffForm
	Next        string
	Work        string // these as a workbook to fill in
	Me          string
	Now         time.Time
}

// differencesPage is GET /ui/differences: those that are open, or that the filters mean.
func (c *console) differencesPage(ctx echo.Context) error {
	q := query{Context: ctx}
	f, form := q.differencesOf(c.Now(), reconcile.StatusOpen)
	if err := q.err(); err != nil {
		return err
	}
	f.Limit++
	all, err := c.Reconciler.Differences(ctx.Request().Context(), f)
	if err != nil {
		return reconcileError(err)
	}
	asked := url.Values{}
	for name, value := range map[string]string{"status": form.Status, "type": form.Type, "assignee": form.Assignee,
		"age_days": form.Age} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	v := diffsView{Filter: form, Me: operator(ctx), Now: c.Now(),
		Work: withQuery("/admin/v1/differences/work.xlsx", asked)}
	v.Differences, v.Next = pageOfDiffs(ctx, all, f.Limit-1)
	return c.show(ctx, "differences", v)
}

// diffView is one difference.
type diffView struct {
	D     *reconcile.Difference
	Notes []reconcile.Note
	Now   time.Time
	Acts  []link
}

// differencePage is GET /ui/differences/:id.
func (c *console) differencePage(ctx echo.Context) error {
	d, notes, err := c.difference(ctx)
	if err != nil {
		return err
	}
	return c.show(ctx, "difference", diffView{D: &d, Notes: notes, Now: c.Now(),
		Acts: c.differenceLinks(ctx, &d)})
}

package reconcile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"orderd/payment"
)

// maxLine bounds a line of a bill, in bytes: a row has some 330, its two free texts
// (商品名称, 商户数据包) a thousand at most. A file without line ends must not be read
// into memory as a whole.
const maxLine = 64 << 10

// ErrBadBill marks a file that is no bill of this merchant and day, or is not whole.
// Nothing was recorded because of it. Its text names the line.
var ErrBadBill = errors.New("this is not a usable bill")

// badLine is the error of one line of a file: a person finds it by its number.
func badLine(line int, format string, args ...any) error {
	return fmt.Errorf("%w: line %d: %s", ErrBadBill, line, fmt.Sprintf(format, args...))
}

// row is one line of a trade bill, with the names of its columns in WeChat's document
// of the format of trade bills. Its bytes point into the reader's buffer and are valid
// until the next line: a bill has a million of them, and strings would be the cost of
// reading it.
type row struct {
	line int // in the file, from 1
	// at is 交易时间: of a payment its success, of a refund the moment at which WeChat
	// accepted it, or in an early layout that of its success (tradeBill.ofDay). A bill of
	// refunds has 退款申请时间 for that; there 交易时间 is of the payment, by a captured bill
	// of 2018-08-21, and may be of any day.
	at           time.Time
	appID, mchID []byte
	// subMch is 特约商户号: the merchant for whom mchID, then a partner, took the payment; 0
	// for none.
	subMch        []byte
	transactionID []byte
	outTradeNo    []byte
	// tradeType (交易类型) and state (交易状态) are WeChat's words. A refund repeats
	// the type of its payment and has the state REFUND.
	tradeType []byte
	state     []byte
	currency  []byte
	// coupon is 代金券金额, 企业红包金额 in the early layout: what the buyer did not pay
	// himself.
	coupon payment.Fen
	// refund: it has a refund number; payments have "0" or nothing there.
	refund      bool
	refundID    []byte
	outRefundNo []byte
	// refundState is 退款状态: SUCCESS, PROCESSING, FAIL or CHANGE; not the words of
	// the API.
	refundState []byte
	// amount is what is compared with our row: the total of a payment, or what a refund
	// was asked for. check makes it of the columns that the layout has. 0 in a row that is
	// not in yuan: foreign is then what it says, in hundredths of its currency.
	amount     payment.Fen
	foreign    payment.Fen
	settled    payment.Fen // 应结订单金额; 总金额 in the early layout
	back       payment.Fen // 退款金额
	backCoupon payment.Fen // 充值券退款金额; 企业红包退款金额 in the early layout
	asked      payment.Fen // 申请退款金额
	total      payment.Fen // 订单金额
	// fee is 手续费 in 1/100000 yuan, as bills print it with five decimals; a refund's
	// is negative, WeChat gives it back.
	fee int64
}

// Totals are the sums of a bill's rows. Payments and refunds are in fen, and a row in
// another currency than the yuan is counted and not added. The JSON is part of the stored
// Result.
type Totals struct {
	Rows       int64       `json:"rows"`
	Payments   int64       `json:"payments"`
	PaidFen    payment.Fen `json:"paid_fen"`
	Refunds    int64       `json:"refunds"`
	RefundFen  payment.Fen `json:"refund_fen"`
	FeeX100000 int64       `json:"fee_x100000"` // 1/100000 yuan, as bills print fees

	// Sums of single columns, kept only to be compared with the last line, which adds the
	// rows up whatever their currency is.
	settled, back, backCoupon, total, asked payment.Fen
	fee                                     int64
}

// Fees prints the fees in yuan as bills do, with five places: "1717.86000".
func (t Totals) Fees() string { return decimal(t.FeeX100000, 5) }

// columns is where each column of a bill stands, by its name here:
// WeChat gives some merchants an early layout.
type columns struct {
	count int
	at    map[string]int
}

// has reports that the bill has a column.
func (c *columns) has(name string) bool { _, ok := c.at[name]; return ok }

// wanted is what a file should be.
type wanted struct {
	date  string
	kind  payment.BillType
	mchID string
	// own tells by its out_trade_no whether a row can be of an order of ours.
	own func(outTradeNo string) bool
	// window is Config.BoundaryWindow.
	window time.Duration
}

// tradeBill reads a trade bill row by row. Its row and cells are used again for every
// line.
type tradeBill struct {
	wanted

	in *bufio.Reader
	// from is the first moment of the day, to that of the next: see ofDay.
	from, to time.Time
	cols     columns
	// form is the layout of the file.
	form *layout
	// line is the number of the line in hand, from 1, for errors and for
	// Difference.Line.
	line   int
	totals Totals
	// time is where 交易时间 stands, refundTime where 退款申请时间 does, or -1.
	time, refundTime int

	cells [][]byte
	row   row
	texts []textCell
	sums  []sumCell
}

// textCell and sumCell are where a column stands in each row, and the field of tradeBill.row
// that it is read into: found once for a bill, which has a million rows.
type textCell struct {
	at   int
	into *[]byte
}

type sumCell struct {
	at     int
	name   string
	digits int
	into   *int64
}

// fields finds the columns of the bill. One that it has not leaves its field empty.
func (b *tradeBill) fields() {
	r := &b.row
	for _, f := range []struct {
		name string
		into *[]byte
	}{{colApp, &r.appID}, {colMch, &r.mchID}, {colSub, &r.subMch}, {colTransaction, &r.transactionID},
		{colTrade, &r.outTradeNo}, {colType, &r.tradeType}, {colState, &r.state}, {colCurrency, &r.currency},
		{colRefundID, &r.refundID}, {colRefundNo, &r.outRefundNo}, {colRefundState, &r.refundState}} {
		if at, ok := b.cols.at[f.name]; ok {
			b.texts = append(b.texts, textCell{at, f.into})
		}
	}
	for _, f := range []struct {
		name   string
		digits int
		into   *int64
	}{{colSettled, 2, (*int64)(&r.settled)}, {colCoupon, 2, (*int64)(&r.coupon)}, {colBack, 2, (*int64)(&r.back)},
		{colBackCoupon, 2, (*int64)(&r.backCoupon)}, {colTotal, 2, (*int64)(&r.total)},
		{colAsked, 2, (*int64)(&r.asked)}, {colFee, 5, &r.fee}} {
		if at, ok := b.cols.at[f.name]; ok {
			b.sums = append(b.sums, sumCell{at, f.name, f.digits, f.into})
		}
	}
	b.time, b.refundTime = b.cols.at[colTime], -1
	if at, ok := b.cols.at[colRefundAt]; ok {
		b.refundTime = at
	}
}

// readTrade reads a bill of a day and gives every row to each, whose bytes it keeps no
// longer than the call. It checks that every row is of this merchant and day, and
// counts and sums against the last line: an error means that the file as a whole must
// not be used. The rows before a bad one have gone to each by then.
func readTrade(r io.Reader, w wanted, each func(*row) error) (Totals, error) {
	from, err := dayStart(w.date)
	if err != nil {
		return Totals{}, err
	}
	b := &tradeBill{wanted: w, in: bufio.NewReaderSize(r, maxLine), from: from, to: from.AddDate(0, 0, 1),
		cells: make([][]byte, 0, 32)}
	if err := b.header(); err != nil {
		return Totals{}, err
	}
	for {
		text, err := b.next()
		switch {
		case errors.Is(err, io.EOF):
			return Totals{}, badLine(b.line, "the file ends without its summary: it is cut")
		case err != nil:
			return Totals{}, err
		case len(text) == 0 || text[0] != '`':
			return b.totals, b.summary(text)
		}
		if err := b.read(text); err != nil {
			return Totals{}, err
		}
		if err := each(&b.row); err != nil {
			return Totals{}, err
		}
	}
}

// next gives the next line without its end, LF or CRLF, io.EOF after the last. It is
// valid until the next call. A last line without an end is given too: whether the file
// is whole, its summary says.
func (b *tradeBill) next() ([]byte, error) {
	text, err := b.in.ReadSlice('\n')
	b.line++
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, badLine(b.line, "is longer than %d bytes", maxLine)
	case errors.Is(err, io.EOF) && len(text) > 0:
		return bytes.TrimSuffix(text, []byte("\r")), nil
	case err != nil:
		return nil, err
	}
	return bytes.TrimSuffix(text[:len(text)-1], []byte("\r")), nil
}

// firstLine gives the names of the columns, and refuses what is no bill of any kind by what
// it is.
func (b *tradeBill) firstLine() ([]string, error) {
	begin, err := b.in.Peek(maxLine / 2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if is := noBill(begin); is != "" {
		return nil, badLine(1, "%s", is)
	}
	text, err := b.next()
	if err != nil {
		return nil, err
	}
	names := strings.Split(string(withoutMark(text)), ",")
	for i, n := range names {
		names[i] = strings.TrimSpace(strings.TrimPrefix(n, "`"))
	}
	if names[len(names)-1] == "" {
		return nil, badLine(1, "has empty columns, as a spreadsheet saves them: %s", asDownloaded)
	}
	return names, nil
}

// header reads the first line, and refuses another layout or type: a refund bill that is read
// as a bill of everything would make every payment of ours 短款.
func (b *tradeBill) header() error {
	names, err := b.firstLine()
	if err != nil {
		return err
	}
	is := ""
	if b.form, b.cols, is = recognise(names, b.kind); b.form == nil {
		return badLine(1, "%s", is)
	}
	b.fields()
	return nil
}

// cellEnd ends a cell: WeChat puts a back-tick before every value.
var cellEnd = []byte(",`")

// split cuts a row at comma and back-tick: free text may hold commas, and nothing is
// quoted. WeChat's document of the format has commas in free text escaped; splitting so
// does not rest on it.
func (b *tradeBill) split(text []byte) error {
	b.cells = b.cells[:0]
	text = text[1:]
	for {
		i := bytes.Index(text, cellEnd)
		if i < 0 {
			b.cells = append(b.cells, text)
			break
		}
		b.cells = append(b.cells, text[:i])
		text = text[i+len(cellEnd):]
	}
	if len(b.cells) == b.cols.count {
		return nil
	}
	// A back-tick after a comma inside the free text: the texts stand between
	// the refund's columns and the fee, and only they can have it.
	if extra := len(b.cells) - b.cols.count; extra > 0 && b.cols.has(colTitle) {
		at := b.cols.at[colTitle]
		b.cells = slices.Delete(b.cells, at+1, at+1+extra)
		return nil
	}
	return badLine(b.line, "has %d cells, the header has %d", len(b.cells), b.cols.count)
}

// read reads one row into b.row and adds it to the totals.
func (b *tradeBill) read(text []byte) (err error) {
	if err := b.split(text); err != nil {
		return err
	}
	r := &b.row
	*r = row{line: b.line}
	for _, c := range b.texts {
		*c.into = b.cells[c.at]
	}
	r.refund = len(r.refundID) > 1 || len(r.refundID) == 1 && r.refundID[0] != '0'
	if r.at, err = parseTime(b.cells[b.time]); err != nil {
		return badLine(b.line, "%s: %v", colTime, err)
	}
	if b.refundTime >= 0 {
		if r.at, err = parseTime(b.cells[b.refundTime]); err != nil {
			return badLine(b.line, "%s: %v", colRefundAt, err)
		}
	}
	for _, c := range b.sums {
		cell := b.cells[c.at]
		if len(cell) == 0 { // nothing in it: the sums prove that it is nothing
			continue
		}
		if *c.into, err = parseDecimal(cell, c.digits); err != nil {
			return badLine(b.line, "%s: %v", c.name, err)
		}
	}
	return b.check()
}

// check holds a row against merchant, day and bill type, and adds it up. A single row
// of another day or merchant spoils the file: it is another file than the one that was
// asked for.
func (b *tradeBill) check() error {
	r := &b.row
	switch {
	// A merchant's own bill also has what a partner took for it, under the partner's number.
	case string(r.mchID) != b.mchID && string(r.subMch) != b.mchID:
		return badLine(b.line, "is of merchant %.32s, not of %s", r.mchID, b.mchID)
	case !b.ofDay():
		return badLine(b.line, "is of %s, the bill should be of %s", r.at.In(beijing).Format(time.DateOnly), b.date)
	case r.refund && b.kind == payment.BillSuccess || !r.refund && b.kind == payment.BillRefund:
		return badLine(b.line, "does not belong into a bill of type %s", b.kind)
	}
	if err := b.numbers(); err != nil {
		return err
	}
	b.add()
	return nil
}

// ofDay reports that the row is of the day of the bill. In an early bill of everything the
// 交易时间 of a refund may be that of its success (captured: a second or two after
// 退款申请时间), so that one of the last seconds of a day has a time of the next.
func (b *tradeBill) ofDay() bool {
	r, to := &b.row, b.to
	if r.refund && b.kind == payment.BillAll && b.form.early() {
		to = to.Add(b.window)
	}
	return !r.at.Before(b.from) && r.at.Before(to)
}

// The widths of the numbers in WeChat's documents, in bytes, and of the columns that keep
// them.
const (
	maxNumber   = 32 // 微信订单号, 微信退款单号, 商户订单号
	maxRefundNo = 64 // 商户退款单号
)

// numbers holds the numbers of a row against WeChat's documents. In other business of the
// merchant number they may be anything that no spreadsheet has made: it must not spoil the
// day of what is ours. A refund whose own number cannot be one goes by WeChat's.
func (b *tradeBill) numbers() error {
	r := &b.row
	for _, n := range []struct {
		name string
		of   *[]byte
	}{{colTransaction, &r.transactionID}, {colRefundID, &r.refundID}} {
		if !r.refund && n.name == colRefundID {
			continue
		}
		wrong := badNumber(*n.of)
		if wrong == "" {
			continue
		}
		if madeBySpreadsheet(*n.of) || b.own(string(r.outTradeNo)) {
			return badLine(b.line, "%s %s", n.name, wrong)
		}
		*n.of = keptNumber(*n.of)
	}
	if scientific(r.outTradeNo) || scientific(r.outRefundNo) {
		return badLine(b.line, "has a number that was made by a spreadsheet, which has lost its digits: %s",
			asDownloaded)
	}
	if !kept(r.outTradeNo, maxNumber) {
		r.outTradeNo = keptNumber(r.outTradeNo)
	}
	if !kept(r.outRefundNo, maxRefundNo) {
		r.outRefundNo = nil
	}
	return nil
}

// add adds a row up.
func (b *tradeBill) add() {
	r, t := &b.row, &b.totals
	t.Rows++
	t.settled, t.back, t.backCoupon, t.total, t.asked, t.fee =
		t.settled+r.settled, t.back+r.back, t.backCoupon+r.backCoupon, t.total+r.total, t.asked+r.asked, t.fee+r.fee
	r.amount = b.form.amount(r)
	if len(r.currency) > 0 && string(r.currency) != payment.CNY { // 默认人民币: WeChat's document
		r.foreign, r.amount, r.coupon, r.fee = r.amount, 0, 0, 0
	}
	t.FeeX100000 += r.fee
	if r.refund {
		t.Refunds++
		t.RefundFen += r.amount
		return
	}
	t.Payments++
	t.PaidFen += r.amount
}

// summary holds the last line against what was read: the count and every sum. This is what
// finds rows that were cut out or changed in a file without a signature.
func (b *tradeBill) summary(header []byte) error {
	cells, values, err := b.lastLine(header, sumRows.name)
	if err != nil {
		return err
	}
	var seen []string
	for i, name := range cells {
		at := slices.IndexFunc(b.form.sums, func(s sum) bool { return s.name == name })
		if at < 0 || slices.Contains(seen, name) {
			return badLine(b.line, "the sum %.40q is not one of %s, or stands there twice", name, b.form.name)
		}
		s := &b.form.sums[at]
		if err := b.compare(name, values[i], s.of(&b.totals), s.digits); err != nil {
			return err
		}
		seen = append(seen, name)
	}
	for _, name := range b.form.needed(b.kind) {
		if !slices.Contains(seen, name) {
			return badLine(b.line, "the summary lacks %s", name)
		}
	}
	return b.end()
}

// lastLine reads the values under the names of the sums, and the line of the names itself,
// whose first one is given.
func (b *tradeBill) lastLine(header []byte, first string) (names, values []string, err error) {
	names = strings.Split(string(header), ",")
	if names[0] != first {
		return nil, nil, badLine(b.line, "%s", strangeLine(header))
	}
	if names[len(names)-1] == "" {
		return nil, nil, badLine(b.line, "ends in empty columns: it is cut, or a spreadsheet saved it; %s",
			asDownloaded)
	}
	text, err := b.next()
	if err != nil || len(text) == 0 {
		return nil, nil, badLine(b.line, "the summary is missing: the file is cut")
	}
	if text[0] != '`' {
		return nil, nil, badLine(b.line, "%s", strangeLine(text))
	}
	values = strings.Split(string(text[1:]), ",`")
	if len(values) != len(names) {
		return nil, nil, badLine(b.line, "has %d cells, its header has %d: the file is cut", len(values), len(names))
	}
	return names, values, nil
}

// compare holds one sum of the last line against what the rows make.
func (b *tradeBill) compare(name, value string, want int64, digits int) error {
	got, err := parseDecimal([]byte(value), digits)
	if err != nil {
		return badLine(b.line, "%s: %v", name, err)
	}
	if got != want {
		return badLine(b.line, "%s is %s, the rows make %s", name, value, decimal(want, digits))
	}
	return nil
}

// end demands that nothing follows but the ends of empty lines.
func (b *tradeBill) end() error {
	for {
		text, err := b.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case isHead(text):
			return badLine(b.line, "comes after the summary: a second bill begins; give one file a day")
		case len(text) > 0:
			return badLine(b.line, "comes after the summary, which ends a bill: %s", asDownloaded)
		}
	}
}

// parseDecimal reads a decimal exactly, as so many of its smallest units (digits 2: fen
// of yuan); more digits are accepted when they are zeros. No float: 0.29 × 100 is
// 28.999….
func parseDecimal(text []byte, digits int) (int64, error) {
	s, neg := bytes.CutPrefix(text, []byte("-"))
	if len(s) == 0 || len(s) > 18 { // 18 digits always fit an int64
		return 0, fmt.Errorf("%.32q is not an amount", text)
	}
	if bytes.ContainsAny(s, ",，") || scientific(s) {
		return 0, fmt.Errorf("%.32q is not an amount as a bill has it, but as a spreadsheet does: %s", text,
			asDownloaded)
	}
	var n int64
	seen, after := false, -1
	for _, c := range s {
		switch {
		case c == '.' && after < 0 && seen:
			after = 0
			continue
		case c < '0' || c > '9':
			return 0, fmt.Errorf("%.32q is not an amount", text)
		case after >= digits:
			if c != '0' {
				return 0, fmt.Errorf("%.32q has more than %d decimals", text, digits)
			}
			continue
		case after >= 0:
			after++
		}
		seen = true
		n = n*10 + int64(c-'0')
	}
	if !seen || after == 0 && s[len(s)-1] == '.' {
		return 0, fmt.Errorf("%.32q is not an amount", text)
	}
	for i := max(after, 0); i < digits; i++ {
		if n > 1<<58 { // ten times that, and an int64 would be full
			return 0, fmt.Errorf("%.32q is too large", text)
		}
		n *= 10
	}
	if neg {
		n = -n
	}
	return n, nil
}

// decimal prints so many smallest units, the inverse of parseDecimal.
func decimal(n int64, digits int) string {
	unit := int64(1)
	for range digits {
		unit *= 10
	}
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	if digits == 0 {
		return fmt.Sprintf("%s%d", sign, n)
	}
	return fmt.Sprintf("%s%d.%0*d", sign, n/unit, digits, n%unit)
}

// beijing is the zone of bills, at all seasons. A fixed offset needs no zone files on
// the machine; times before 1992, when China had summer time, are in no bill.
var beijing = time.FixedZone("Beijing", 8*60*60)

// Day gives the day of Beijing that a time falls on, as YYYY-MM-DD: bill_date of our
// tables and of WeChat's API.
func Day(t time.Time) string { return t.In(beijing).Format(time.DateOnly) }

// dayStart gives the first moment of a day of Beijing, or ErrRequest for a text that is
// none.
func dayStart(date string) (time.Time, error) {
	t, err := time.ParseInLocation(time.DateOnly, date, beijing)
	if err != nil {
		return t, fmt.Errorf("%w: the date %.20q is not YYYY-MM-DD", ErrRequest, date)
	}
	return t, nil
}

// parseTime reads "2006-01-02 15:04:05" of Beijing without the cost of a layout: a bill
// has a million of them. It refuses what time.Date would silently carry over, such as
// the 31st of April.
func parseTime(b []byte) (time.Time, error) {
	digits := func(from, to int) (n int, ok bool) {
		for _, c := range b[from:to] {
			if c < '0' || c > '9' {
				return 0, false
			}
			n = n*10 + int(c-'0')
		}
		return n, true
	}
	if bytes.IndexByte(b, '/') >= 0 {
		return time.Time{}, fmt.Errorf("%.32q is not a time as a bill has it, but as a spreadsheet does: %s", b,
			asDownloaded)
	}
	if len(b) != len(time.DateTime) || b[4] != '-' || b[7] != '-' || b[10] != ' ' || b[13] != ':' || b[16] != ':' {
		return time.Time{}, fmt.Errorf("%.32q is not a time", b)
	}
	var v [6]int
	for i, span := range [6][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		n, ok := digits(span[0], span[1])
		if !ok {
			return time.Time{}, fmt.Errorf("%.32q is not a time", b)
		}
		v[i] = n
	}
	t := time.Date(v[0], time.Month(v[1]), v[2], v[3], v[4], v[5], 0, beijing)
	if t.Day() != v[2] || v[1] < 1 || v[1] > 12 || v[3] > 23 || v[4] > 59 || v[5] > 59 {
		return time.Time{}, fmt.Errorf("%.32q is not a time", b)
	}
	return t, nil
}

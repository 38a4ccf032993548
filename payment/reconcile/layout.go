package reconcile

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"orderd/payment"
)

// The columns that are read, by their names here, which are those of WeChat's document of
// the format of trade bills. Early layouts call some of them otherwise.
const (
	colTime, colApp, colMch, colSub = "交易时间", "公众账号ID", "商户号", "特约商户号"
	colTransaction, colTrade        = "微信订单号", "商户订单号"
	colType, colState, colCurrency  = "交易类型", "交易状态", "货币种类"
	colSettled, colCoupon           = "应结订单金额", "代金券金额"
	colRefundID, colRefundNo        = "微信退款单号", "商户退款单号"
	colBack, colBackCoupon          = "退款金额", "充值券退款金额"
	colRefundState, colRefundAt     = "退款状态", "退款申请时间"
	colFee, colTotal, colAsked      = "手续费", "订单金额", "申请退款金额"
	// The free texts begin with 商品名称: split puts the rest of a cut one there.
	colTitle = "商品名称"
)

// layout is one form of a trade bill: how its columns and sums are called. The others of
// its columns are the same in all layouts.
type layout struct {
	name string
	sub  []string // the sub-merchant's column; a layout is known with either name
	// settled, coupon and backCoupon are the names of the columns that differ.
	settled, coupon, backCoupon string
	// last are the columns after 费率; lastPaid are those of a bill of payments.
	last, lastPaid []string
	sums           []sum
}

// sum is a column of the last line, and what it repeats.
type sum struct {
	name   string
	digits int // after the point
	of     func(*Totals) int64
}

// The sums that all layouts have.
var (
	sumRows = sum{"总交易单数", 0, func(t *Totals) int64 { return t.Rows }}
	sumFee  = sum{"手续费总金额", 5, func(t *Totals) int64 { return t.fee }}
)

// yuanSum is a sum of money.
func yuanSum(name string, of func(*Totals) payment.Fen) sum {
	return sum{name, 2, func(t *Totals) int64 { return int64(of(t)) }}
}

func sumSettled(t *Totals) payment.Fen    { return t.settled }
func sumBack(t *Totals) payment.Fen       { return t.back }
func sumBackCoupon(t *Totals) payment.Fen { return t.backCoupon }

// layouts are all forms of trade bills that have a source. What fits none of them is
// refused.
var layouts = []layout{
	// pay.weixin.qq.com/docs/merchant/products/bill-download/format-trade.html of
	// 2024-11-25, letter by letter: 27 columns of ALL, 20 of SUCCESS, 29 of REFUND; a
	// partner's bill has the same (developers.weixin.qq.com, wxcloudrun, 下载对账单).
	// Captured: gunsluo/wechatpay-go, a bill of 2021-01-28, with its SHA-1. A captured
	// SUCCESS bill of 2019-11-04 has the seven sums of ALL.
	{name: "the present layout", sub: []string{colSub}, settled: colSettled, coupon: colCoupon,
		backCoupon: colBackCoupon, last: []string{colTotal, colAsked, "费率备注"}, lastPaid: []string{colTotal, "费率备注"},
		sums: []sum{sumRows, yuanSum("应结订单总金额", sumSettled), yuanSum("退款总金额", sumBack),
			yuanSum("充值券退款总金额", sumBackCoupon), sumFee,
			yuanSum("订单总金额", func(t *Totals) payment.Fen { return t.total }),
			yuanSum("申请退款总金额", func(t *Totals) payment.Fen { return t.asked })}},
	// The same page, notes: a few merchants still have 总金额 in the place of
	// 应结订单金额, and 企业红包金额 in that of 代金券金额. 总金额 is the whole order, of
	// which the coupon is a part (total_fee and coupon_fee of the v2 API). Captured: bills
	// of 2017-09-02 and 2017-12-18 (ALL, 24 columns), of 2018-08-21 (REFUND, 26 columns,
	// and ALL, of a partner), each with 子商户号 or 特约商户号.
	{name: "the early layout", sub: []string{colSub, "子商户号"}, settled: "总金额", coupon: "企业红包金额",
		backCoupon: "企业红包退款金额", sums: earlySums("总企业红包退款金额")},
	// pay.weixin.qq.com/wiki, 下载对账单 of the v2 API: 24 columns of ALL, 18 of SUCCESS,
	// 26 of REFUND.
	{name: "the layout of 2014", sub: []string{colSub, "子商户号"}, settled: "总金额", coupon: "代金券或立减优惠金额",
		backCoupon: "代金券或立减优惠退款金额", sums: earlySums("总代金券或立减优惠退款金额")},
}

// earlySums are the sums of the early layouts, which differ in one name.
func earlySums(backCoupon string) []sum {
	return []sum{sumRows, yuanSum("总交易额", sumSettled), yuanSum("总退款金额", sumBack),
		yuanSum(backCoupon, sumBackCoupon), sumFee}
}

// early reports that the layout's own total is the order's, and its refund what was asked
// for; there is no second column for either.
func (l *layout) early() bool { return l.last == nil }

// columns lists the columns of a bill of a kind, by their names in the file and by those
// here, in their order.
func (l *layout) columns(kind payment.BillType, sub string) (names, ours []string) {
	names = []string{colTime, colApp, colMch, sub, "设备号", colTransaction, colTrade, "用户标识", colType, colState,
		"付款银行", colCurrency, l.settled, l.coupon}
	last := l.last
	switch kind {
	case payment.BillRefund:
		names = append(names, colRefundAt, "退款成功时间")
	case payment.BillSuccess:
		last = l.lastPaid
	case payment.BillAll, payment.BillFundFlow:
	}
	if kind != payment.BillSuccess {
		names = append(names, colRefundID, colRefundNo, colBack, l.backCoupon, "退款类型", colRefundState)
	}
	names = append(append(names, colTitle, "商户数据包", colFee, "费率"), last...)
	ours = slices.Clone(names)
	for i, n := range ours {
		switch n {
		case sub:
			ours[i] = colSub
		case l.settled:
			ours[i] = colSettled
		case l.coupon:
			ours[i] = colCoupon
		case l.backCoupon:
			ours[i] = colBackCoupon
		}
	}
	return names, ours
}

// recognise finds the layout of a first line; kind is what the bill should be. The error is
// a text that says what it is instead.
func recognise(head []string, kind payment.BillType) (*layout, columns, string) {
	other := ""
	for i := range layouts {
		l := &layouts[i]
		for _, k := range []payment.BillType{payment.BillAll, payment.BillSuccess, payment.BillRefund} {
			for _, sub := range l.sub {
				names, ours := l.columns(k, sub)
				if !slices.Equal(head, names) {
					continue
				}
				if k != kind {
					other = string(k)
					continue
				}
				c := columns{count: len(ours), at: make(map[string]int, len(ours))}
				for i, n := range ours {
					c.at[n] = i
				}
				return l, c, ""
			}
		}
	}
	if other != "" {
		return nil, columns{}, fmt.Sprintf("the columns are those of another bill type: it is a bill of type %s, "+
			"not %s", other, kind)
	}
	return nil, columns{}, unknownLayout(head, kind)
}

// flowColumn is the first column of a fund-flow bill.
const flowColumn = "记账时间"

// unknownLayout says in what a first line differs from the layout that comes nearest.
func unknownLayout(head []string, kind payment.BillType) string {
	switch {
	case slices.Contains(head, flowColumn):
		return "it is a fund-flow bill: give it as type FUNDFLOW"
	case slices.Contains(head, colSettled) && !slices.Contains(head, colTotal):
		return "it has 应结订单金额 without 订单金额, which no document of WeChat Pay's has: it cannot say what an " +
			"order cost; fetch the bill again, or take it from the merchant platform as it is there"
	}
	near := &layouts[0]
	if !slices.Contains(head, colSettled) {
		for i := range layouts[1:] {
			if l := &layouts[1+i]; slices.Contains(head, l.coupon) {
				near = l
			}
		}
	}
	names, _ := near.columns(kind, near.sub[0])
	for _, n := range names {
		if !slices.Contains(head, n) {
			return fmt.Sprintf("the column %s is missing; is this a trade bill of type %s?", n, kind)
		}
	}
	for _, n := range head {
		if !slices.Contains(names, n) {
			return fmt.Sprintf("the column %.40q is not known: no document of WeChat Pay's that orderd goes by has it",
				n)
		}
	}
	return "its columns are not in the order of WeChat Pay's document, or stand there twice: give the file as it " +
		"was downloaded"
}

// asDownloaded is what to do about a file that a program has changed.
const asDownloaded = "give the file as it was downloaded, not one that another program has saved"

// What a file is that is no bill, by its first bytes.
var magics = []struct{ begin, is string }{
	{"PK\x03\x04", "it is a ZIP archive or an .xlsx workbook: unpack it and give the CSV file in it"},
	{"PK\x05\x06", "it is an empty ZIP archive"},
	{"\xd0\xcf\x11\xe0", "it is an .xls workbook: " + asDownloaded},
	{"\x1f\x8b", "it is gzip inside gzip: unpack it once"},
	{"\xff\xfe", "it is UTF-16, as a spreadsheet saves text: " + asDownloaded},
	{"\xfe\xff", "it is UTF-16, as a spreadsheet saves text: " + asDownloaded},
	{"%PDF", "it is a PDF"},
	{"Rar!", "it is a RAR archive: unpack it and give the CSV file in it"},
	{"7z\xbc\xaf", "it is a 7z archive: unpack it and give the CSV file in it"},
}

// gbkHeads are 交易时间 and 记账时间 in GBK, which begin the two kinds of bills.
var gbkHeads = []string{"\xbd\xbb\xd2\xd7\xca\xb1\xbc\xe4", "\xbc\xc7\xd5\xcb\xca\xb1\xbc\xe4"}

// noBill says what a file is that is no bill at all, or one that a program has saved in
// another form, by its first bytes; "" when its first line can be read.
func noBill(begin []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(begin, []byte(m.begin)) {
			return m.is
		}
	}
	text := withoutMark(begin)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	start := bytes.TrimSpace(text)
	for _, g := range gbkHeads {
		if bytes.Contains(line, []byte(g)) {
			return "it is GBK, as the merchant platform gives it for Excel: convert it to UTF-8 (iconv -f GBK -t " +
				"UTF-8), or let orderd fetch the bill"
		}
	}
	switch {
	case len(start) == 0:
		return "the file is empty"
	case start[0] == '<' && bytes.HasPrefix(bytes.ToLower(start), []byte("<xml")):
		return "an XML answer, not a bill"
	case start[0] == '<':
		return "a web page, not a bill"
	case start[0] == '{':
		return "a JSON answer, not a bill"
	case bytes.IndexByte(line, 0) >= 0 || !utf8.Valid(line) && len(line) < len(text):
		return "it is not UTF-8 text: " + asDownloaded
	case start[0] == '"':
		return "its cells are in quotes, as a spreadsheet saves them: " + asDownloaded
	case bytes.Count(line, []byte("\t"))+bytes.Count(line, []byte(";")) > bytes.Count(line, []byte(",")):
		return "its cells are not divided by commas: " + asDownloaded
	}
	return ""
}

// strangeLine says what a line is that should be a row or the summary.
func strangeLine(text []byte) string {
	start := bytes.TrimSpace(text)
	switch {
	case len(start) == 0:
		return "is empty"
	case start[0] == '"':
		return "has its cells in quotes: " + asDownloaded
	case start[0] >= '0' && start[0] <= '9':
		return "has lost the back-ticks before its values: " + asDownloaded
	case isHead(start):
		return "a second bill begins: give one file a day"
	}
	return "is neither a row nor the summary"
}

// withoutMark takes the marks of UTF-8 (BOM) from the beginning of a file: WeChat puts one
// there, and a program that saves it again a second one.
func withoutMark(b []byte) []byte {
	for bytes.HasPrefix(b, []byte("\ufeff")) {
		b = b[len("\ufeff"):]
	}
	return b
}

// isHead reports that a line is the first line of a bill.
func isHead(line []byte) bool {
	line = bytes.TrimLeft(withoutMark(line), "`\"")
	return bytes.HasPrefix(line, []byte(colTime+",")) || bytes.HasPrefix(line, []byte(flowColumn+","))
}

// scientific reports that a spreadsheet has made a number of a text: 4.2E+27.
func scientific(v []byte) bool {
	if i := bytes.IndexAny(v, "eE"); i > 0 && i+2 < len(v) && v[i+1] == '+' {
		return payment.MadeOf(string(v[:i]), payment.Digits+".") && payment.MadeOf(string(v[i+2:]), payment.Digits)
	}
	return false
}

// rounded reports that a spreadsheet has rounded a number to the fifteen digits that it keeps,
// and filled it up with zeros. A number of 28 digits that ends so by itself is one of 10^13;
// made-up ones with hardly another digit are left alone.
func rounded(v []byte) bool {
	const kept = 15
	if len(v) < kept+8 {
		return false
	}
	return len(bytes.TrimRight(v[kept:], "0")) == 0 && len(bytes.TrimRight(v[:kept], "0")) > kept/2
}

// madeBySpreadsheet reports that a number has lost its digits.
func madeBySpreadsheet(v []byte) bool { return scientific(v) || len(v) <= maxNumber && rounded(v) }

// kept reports that a number of the merchant's fits into its column, as it is or missing.
func kept(v []byte, most int) bool {
	if len(v) > most {
		return false
	}
	for _, c := range v {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// keptNumber is a number of other business as it can be kept and shown: of maxNumber bytes at
// most, with a question mark for the rest and for what is no visible ASCII. No number of
// ours, and none of WeChat Pay's, has one.
func keptNumber(v []byte) []byte {
	short := bytes.Clone(v[:min(len(v), maxNumber)])
	for i, c := range short {
		if c <= ' ' || c > '~' || i == maxNumber-1 && len(v) > maxNumber {
			short[i] = '?'
		}
	}
	return short
}

// badNumber says what is wrong with a number of WeChat's own, transaction id or refund id:
// digits, up to 32 of them by its documents.
func badNumber(v []byte) string {
	switch {
	case len(v) == 0 || len(v) > maxNumber:
		return "is missing or too long: " + asDownloaded
	case scientific(v):
		return fmt.Sprintf("%.40q was made by a spreadsheet, which has lost its digits: %s", v, asDownloaded)
	case !payment.MadeOf(string(v), payment.Digits):
		return fmt.Sprintf("%.40q is not a number of WeChat Pay's, which has digits only: %s", v, asDownloaded)
	case rounded(v):
		return fmt.Sprintf("%.40q was rounded by a spreadsheet: %s", v, asDownloaded)
	}
	return ""
}

// amount is what is compared with our row: the order's total, or what a refund was asked
// for. An early layout has it in the columns that are the settled part in the present one.
func (l *layout) amount(r *row) payment.Fen {
	switch {
	case l.early() && r.refund:
		return r.back
	case l.early():
		return r.settled
	case r.refund:
		return r.asked
	}
	return r.total
}

// needed are the sums without which a summary proves nothing: the count and what the amounts
// make.
func (l *layout) needed(kind payment.BillType) []string {
	switch {
	case l.early():
		return []string{sumRows.name, "总交易额", "总退款金额", sumFee.name}
	case kind == payment.BillSuccess:
		return []string{sumRows.name, "订单总金额", sumFee.name}
	}
	return []string{sumRows.name, "订单总金额", "申请退款总金额", sumFee.name}
}

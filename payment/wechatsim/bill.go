package wechatsim

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha1" //nolint:gosec // WeChat's choice
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

const (
	// endpointFile is the download of a bill, which has the wire's faults of "bill" and
	// none of the file's: those were spent on the application.
	endpointFile = "bill_file"
	// billHost is what WeChat's download addresses begin with. It is not where the
	// simulator listens: a client has to ask the host that it was configured with, and
	// take path and query alone from the answer.
	billHost = "https://api.mch.weixin.qq.com"
	// otherAddress is the second host of every page of the API, and the path that the
	// example of the newest page of the application has.
	otherAddress = "https://api2.mch.weixin.qq.com/v3/bill/downloadurl"
	// billToken is how long a download address lives, billMonths how far back bills
	// go: both from WeChat's document of the application for a trade bill.
	billToken  = 5 * time.Minute
	billMonths = 3
	// billHour is when the bill of the day before is made, in Beijing: WeChat says
	// to fetch it after 10:00.
	billHour = 10
	// maxBillFiles bounds the files that wait to be fetched: they are kept in memory.
	// One more and some other is forgotten, whose address then answers as an expired
	// one.
	maxBillFiles = 32
	// bigBill is the size of the fault "big", in bytes: beyond the 10 MiB at which
	// gopay's own download silently ends.
	bigBill = 12 << 20
	// bombBytes is what the fault "gzip_bomb" unpacks to: it packs to 2 MiB.
	bombBytes = 2 << 30
	// feeRate is WeChat's fee in 1/10000: 0.60 %, the usual one of shops.
	feeRate = 60
)

// The columns of the bills, in their order, and of their last line: from WeChat's
// documents of the formats of trade bill and fund-flow bill. headLost and sumLost
// lack the last three columns, which no document of WeChat's has: a client must not guess
// what an order cost. headEarly and sumEarly are the early layout of the same document,
// as bills that were captured in 2017 and 2018 have it.
const (
	// 交易时间 is the success of a payment; of a refund its acceptance, and only a bill
	// of refunds has the success beside it.
	billFirst  = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额"
	billRefund = "微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态"
	billLast   = "商品名称,商户数据包,手续费,费率"
	// head… is the first line, sum… the names above the sums, of the types ALL, SUCCESS
	// and REFUND, and of the fund-flow bill; what refunds add stands in billRefund.
	headAll     = billFirst + "," + billRefund + "," + billLast + ",订单金额,申请退款金额,费率备注"
	headLost    = billFirst + "," + billRefund + "," + billLast
	headSuccess = billFirst + "," + billLast + ",订单金额,费率备注"
	headRefund  = billFirst + ",退款申请时间,退款成功时间," + billRefund + "," + billLast + ",订单金额,申请退款金额,费率备注"
	sumAll      = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
	sumLost     = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额"
	sumEarly    = "总交易单数,总交易额,总退款金额,总企业红包退款金额,手续费总金额"
	sumSuccess  = "总交易单数,应结订单总金额,手续费总金额,订单总金额"
	headFlow    = "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号"
	sumFlow     = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额"
)

// headEarly is the first line of the early layout, of the type ALL.
var headEarly = strings.NewReplacer("应结订单金额", "总金额", "代金券", "企业红包", "充值券", "企业红包").Replace(headLost)

// billFiles are the bills that can be fetched, by token: an address is a secret of five
// minutes, as WeChat's.
type billFiles struct {
	mu      sync.Mutex
	byToken map[string]billFile
}

// billFile is a file that was offered for download. expires is by the simulator's clock.
type billFile struct {
	// send writes the file as it goes over the wire, packed where the merchant wanted
	// it.
	send func(io.Writer)
	// html: the fault "html", which also has another Content-Type.
	html    bool
	expires time.Time
}

// line is a row of a bill before it is printed: a payment, or a refund of it.
type line struct {
	at time.Time
	// trade is the payment, also in a refund's row, which repeats its numbers.
	trade Trade
	// refund is nil in a payment's row.
	refund  *Refund
	amount  int64 // fen, of the payment or of the refund
	mchID   string
	title   string
	attach  string
	success time.Time // of a refund
	// state is 交易状态 of a row of other business, "" for the usual ones.
	state string
	// place is where the row stands among the others: see shuffleKey.
	place uint64
}

// tradeBill makes the bill of a day and says where it is. It is made when it is asked
// for, of what is true then, while WeChat's is a snapshot of the next morning: two
// applications for one day may differ.
func (s *Sim) tradeBill(x *exchange) answer {
	q := x.r.URL.Query()
	kind := q.Get("bill_type")
	if kind == "" {
		kind = "ALL"
	}
	if !slices.Contains([]string{"ALL", "SUCCESS", "REFUND"}, kind) {
		return wrongIn(inQuery, "bill_type", kind, "账单类型不正确")
	}
	day, refusal := s.billDay(x, q.Get("bill_date"))
	if refusal != nil {
		return *refusal
	}
	lines := s.linesOf(day, kind)
	if len(lines) == 0 || slices.Contains(x.plan.bill, FaultEmptyDay) {
		return refuse(http.StatusBadRequest, "NO_STATEMENT_EXIST", "账单文件不存在", tailNotSpecified)
	}
	lines = spoilLines(lines, x.plan.bill)
	return s.offer(x, printBill(lines, kind, x.plan.bill))
}

// billDay checks the day that is asked for: a day of Beijing, not to come, three months
// back at most. The refusal is nil when the day has, or could have, a bill.
func (s *Sim) billDay(x *exchange, date string) (time.Time, *answer) {
	now := s.o.Now().In(beijing())
	day, err := time.ParseInLocation(time.DateOnly, date, beijing())
	var a answer
	switch {
	case err != nil || day.After(now) || day.Before(now.AddDate(0, -billMonths, 0)):
		a = refuse(http.StatusBadRequest, "INVALID_REQUEST", "账单日期不正确或超出可下载范围", tailParam)
	case slices.Contains(x.plan.bill, FaultNotReady), s.o.StrictBillTime &&
		now.Before(day.Add((24+billHour)*time.Hour)):
		a = refuse(http.StatusBadRequest, "STATEMENT_CREATING", "账单生成中，请在10点后获取", tailNotSpecified)
	default:
		return day, nil
	}
	return day, &a
}

// linesOf gives the rows of a day in no order: payments by their success, refunds by
// their acceptance. A refund whose payment was on an earlier day is in this day's bill
// all the same.
func (s *Sim) linesOf(day time.Time, kind string) []line {
	in := func(t time.Time) bool { return !t.Before(day) && t.Before(day.AddDate(0, 0, 1)) }
	var lines []line
	trades := map[string]Trade{}
	for _, t := range s.Trades() {
		if t.TransactionID == "" {
			continue
		}
		trades[t.OutTradeNo] = t
		if kind != "REFUND" && in(t.SuccessTime) {
			lines = append(lines, line{at: t.SuccessTime, trade: t, amount: t.Total, mchID: t.MchID,
				title: t.Description, attach: t.Attach})
		}
	}
	for _, r := range s.Refunds() {
		if t := trades[r.OutTradeNo]; kind != "SUCCESS" && in(r.CreateTime) {
			lines = append(lines, line{at: r.CreateTime, trade: t, refund: &r, amount: r.Amount, mchID: t.MchID,
				title: t.Description, attach: t.Attach, success: r.SuccessTime})
		}
	}
	for i := range lines { // once a row: a day has tens of thousands
		lines[i].place = lines[i].shuffleKey()
	}
	sort.Slice(lines, func(i, j int) bool { return lines[i].place < lines[j].place })
	return lines
}

// shuffleKey puts rows in an order that has nothing to do with time, so that nobody
// relies on one, and that is the same every time: WeChat's bills are in no documented
// order, and two copies of one bill must have one SHA-1.
func (l line) shuffleKey() uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, l.trade.TransactionID)
	if l.refund != nil {
		_, _ = io.WriteString(h, l.refund.RefundID)
	}
	return h.Sum64()
}

// spoilLines does to the rows what the faults say; the summary follows the rows. It
// changes the rows in place; they are of this application alone.
func spoilLines(lines []line, faults []string) []line {
	for _, f := range faults {
		if len(lines) == 0 {
			break
		}
		switch f {
		case FaultDuplicateRow:
			lines = append(lines, lines[0])
		case FaultMissingRow:
			lines = lines[1:]
		case FaultOneFenOff:
			lines[0].amount++
		case FaultExtraRow:
			extra := lines[0]
			extra.refund, extra.amount = nil, 1
			extra.trade.TransactionID, extra.trade.OutTradeNo = "4200"+randomDigits(24), "SOMEBODYELSE01"
			lines = append(lines, extra)
		case FaultOtherBusiness:
			till := lines[0]
			till.refund, till.amount = nil, 1200
			till.trade.TransactionID, till.trade.OutTradeNo = "4200"+randomDigits(24), "TILL-"+randomDigits(10)
			till.trade.TradeType, till.state = "MICROPAY", "SUCCESS"
			back := till
			back.state = "REVOKED"
			lines = append(lines, till, back)
		case FaultOtherDay:
			for i := range lines {
				lines[i].at = lines[i].at.AddDate(0, 0, -1)
			}
		case FaultOtherMerchant:
			for i := range lines {
				lines[i].mchID = "1999999999"
			}
		case FaultCommas:
			for i := range lines {
				lines[i].title, lines[i].attach = `Mug, blue, "large"`, "a,b`c,,d"
			}
		case FaultBig:
			pad := strings.Repeat("很长的商品名称", bigBill/len(lines)/21+1)
			for i := range lines {
				lines[i].title = pad
			}
		}
	}
	return lines
}

// totals are the sums of a bill's rows, fees in 1/100000 yuan.
type totals struct{ n, paid, refunded, fee int64 }

// printBill writes a trade bill in WeChat's bytes: a BOM, CRLF, a back-tick before
// every value, no quoting. A captured bill gives the hash that WeChat named for it in
// this form only. The first line and the names above the sums have no back-ticks.
func printBill(lines []line, kind string, faults []string) []byte {
	head, sums := headAll, sumAll
	early, lost := slices.Contains(faults, FaultEarlyColumns), slices.Contains(faults, FaultLostColumns)
	old := kind == "ALL" && (early || lost)
	switch {
	case old && early:
		head, sums = headEarly, sumEarly
	case old:
		head, sums = headLost, sumLost
	case kind == "SUCCESS":
		head, sums = headSuccess, sumSuccess
	case kind == "REFUND":
		head = headRefund
	}
	var b bytes.Buffer
	b.WriteString("\ufeff" + head + "\r\n")
	var t totals
	for _, l := range lines {
		t.n++
		fee := l.amount * feeRate / 10 // fen × 0.60 % in 1/100000 yuan
		if l.refund != nil {
			t.refunded += l.amount
			t.fee -= fee
		} else {
			t.paid += l.amount
			t.fee += fee
		}
		writeRow(&b, l.values(kind, old)...)
	}
	if slices.Contains(faults, FaultBadSummary) {
		t.n, t.paid = t.n+1, t.paid+1
	}
	b.WriteString(sums + "\r\n")
	values := []string{fmt.Sprint(t.n), yuan(t.paid), yuan(t.refunded), yuan(0), feeText(t.fee), yuan(t.paid),
		yuan(t.refunded)}
	switch {
	case old:
		values = values[:5]
	case kind == "SUCCESS":
		values = []string{values[0], values[1], values[4], values[5]}
	}
	writeRow(&b, values...)
	return b.Bytes()
}

// writeRow writes one line of values, each behind a back-tick: it keeps spreadsheets
// from making numbers of ids.
func writeRow(b *bytes.Buffer, values ...string) {
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("`" + v)
	}
	b.WriteString("\r\n")
}

// values gives the cells of a row, in the columns of its bill type. In a refund's row the
// payment's own amounts are 0, and the fee that WeChat gives back is negative.
func (l line) values(kind string, old bool) []string {
	t, paid, state := l.trade, yuan(l.amount), cmp.Or(l.state, "SUCCESS")
	refund := []string{"0", "0", yuan(0), yuan(0), "", ""}
	fee, back := feeText(l.amount*feeRate/10), yuan(0)
	if r := l.refund; r != nil {
		paid, back, state = yuan(0), yuan(l.amount), "REFUND"
		refund = []string{r.RefundID, r.OutRefundNo, back, yuan(0), "ORIGINAL", billState(r.State)}
		fee = feeText(-l.amount * feeRate / 10)
	}
	v := []string{billTime(l.at), t.AppID, l.mchID, "0", "", t.TransactionID, t.OutTradeNo, t.OpenID, t.TradeType,
		state, "OTHERS", "CNY", paid, yuan(0)}
	switch kind {
	case "SUCCESS":
		return append(v, l.title, l.attach, fee, "0.60%", paid, "")
	case "REFUND":
		success := ""
		if !l.success.IsZero() {
			success = billTime(l.success)
		}
		v = append(v, billTime(l.at), success)
	}
	v = append(append(v, refund...), l.title, l.attach, fee, "0.60%")
	if old {
		return v
	}
	return append(v, paid, back, "")
}

// billState is the word for a refund's state in bills, which differs from the API's:
// FAIL for CLOSED, CHANGE for ABNORMAL.
func billState(s State) string {
	switch s {
	case StateSuccess:
		return "SUCCESS"
	case StateClosed:
		return "FAIL"
	case StateAbnormal:
		return "CHANGE"
	case StateNone, StateNotPay, StateRefund, StateProcessing:
	}
	return "PROCESSING"
}

// billTime prints a time as bills have it, in Beijing.
func billTime(t time.Time) string { return t.In(beijing()).Format(time.DateTime) }

// yuan prints fen as yuan with two decimals.
func yuan(fen int64) string { return decimal(fen, 100, 2) }

// feeText prints 1/100000 yuan with five decimals.
func feeText(n int64) string { return decimal(n, 100_000, 5) }

// decimal prints n units of 1/unit yuan with that many digits; unit is 10 to the power
// of digits.
func decimal(n, unit int64, digits int) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%0*d", sign, n/unit, digits, n%unit)
}

// fundFlowBill makes the bill of the account's movements: a payment in, its fee out, a
// refund out, its fee back. Every movement has the time of its payment or refund; in
// life the money of a refund may leave later. account_type is not looked at: there is
// one account.
func (s *Sim) fundFlowBill(x *exchange) answer {
	day, refusal := s.billDay(x, x.r.URL.Query().Get("bill_date"))
	if refusal != nil {
		return *refusal
	}
	lines := s.linesOf(day, "ALL")
	if len(lines) == 0 || slices.Contains(x.plan.bill, FaultEmptyDay) {
		return refuse(http.StatusBadRequest, "NO_STATEMENT_EXIST", "账单文件不存在", tailNotSpecified)
	}
	var b bytes.Buffer
	b.WriteString("\ufeff" + headFlow + "\r\n")
	var in, out, nIn, nOut int64
	move := func(l line, name, kind string, fen int64) {
		if fen == 0 {
			return
		}
		direction, amount := "收入", fen
		if fen < 0 {
			direction, amount = "支出", -fen
			out, nOut = out+amount, nOut+1
		} else {
			in, nIn = in+amount, nIn+1
		}
		number := l.trade.TransactionID
		if l.refund != nil {
			number = l.refund.RefundID
		}
		writeRow(&b, billTime(l.at), number, "10"+number[2:], name, kind, direction, yuan(amount), yuan(in-out),
			"system", "", l.trade.OutTradeNo)
	}
	for _, l := range lines {
		fee := (l.amount*feeRate + 5000) / 10_000 // rounded to fen
		if l.refund != nil {
			move(l, "退款", "退款", -l.amount)
			move(l, "扣除交易手续费", "交易", fee)
			continue
		}
		move(l, "交易", "交易", l.amount)
		move(l, "扣除交易手续费", "扣除交易手续费", -fee)
	}
	b.WriteString(sumFlow + "\r\n")
	writeRow(&b, fmt.Sprintf("%d.0", nIn+nOut), fmt.Sprintf("%d.0", nIn), yuan(in), fmt.Sprintf("%d.0", nOut),
		yuan(out))
	return s.offer(x, b.Bytes())
}

// offer keeps a file for a while and says where it is and what its hash is: SHA-1 of
// the plain file, whether or not it is sent packed (tar_type=GZIP).
func (s *Sim) offer(x *exchange, plain []byte) answer {
	sum := sha1.Sum(plain) //nolint:gosec // WeChat's choice
	packed := strings.EqualFold(x.r.URL.Query().Get("tar_type"), "GZIP")
	file := billFile{send: sender(plain, packed, x.plan.bill), html: slices.Contains(x.plan.bill, FaultHTML),
		expires: s.o.Now().Add(billToken)}
	if slices.Contains(x.plan.bill, FaultWrongHash) {
		sum[0]++
	}
	token := randomText(32)
	s.files.mu.Lock()
	for old, f := range s.files.byToken {
		if s.o.Now().After(f.expires) || len(s.files.byToken) >= maxBillFiles {
			delete(s.files.byToken, old)
		}
	}
	s.files.byToken[token] = file
	s.files.mu.Unlock()
	url := billHost + "/v3/billdownload/file?token=" + token
	if slices.Contains(x.plan.bill, FaultOtherAddress) {
		url = otherAddress + "?token=" + token
	}
	if packed {
		url += "&tartype=gzip"
	}
	return ok(map[string]string{"download_url": url, "hash_type": "SHA1", "hash_value": hex.EncodeToString(sum[:])})
}

// sender gives what a download sends, with the faults of the file: a web page,
// gigabytes, or half of it.
func sender(plain []byte, packed bool, faults []string) func(io.Writer) {
	pack := func(from io.Reader) func(io.Writer) {
		return func(w io.Writer) {
			z := gzip.NewWriter(w)
			_, _ = io.Copy(z, from) // the client may be gone
			_ = z.Close()
		}
	}
	switch {
	case slices.Contains(faults, FaultHTML):
		return func(w io.Writer) { _, _ = io.WriteString(w, "<html><body>系统繁忙</body></html>\n") }
	case slices.Contains(faults, FaultBomb):
		return func(w io.Writer) { pack(io.LimitReader(zeros{}, bombBytes))(w) }
	}
	if slices.Contains(faults, FaultTruncated) {
		plain = plain[:len(plain)/2]
	}
	return func(w io.Writer) {
		if packed {
			pack(bytes.NewReader(plain))(w)
			return
		}
		_, _ = w.Write(plain)
	}
}

// zeros is an endless source of zeros, for a file that unpacks to gigabytes.
type zeros struct{}

// Read fills p with zeros.
func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// billFile sends a file that was offered, as often as it is asked for while its address
// lives. The request is signed like any other; the answer never is.
func (s *Sim) billFile(x *exchange) answer {
	s.files.mu.Lock()
	f, known := s.files.byToken[x.r.URL.Query().Get("token")]
	s.files.mu.Unlock()
	if !known || s.o.Now().After(f.expires) {
		return refuse(http.StatusBadRequest, "INVALID_REQUEST", "token已失效", tailParam)
	}
	return answer{status: http.StatusOK, file: f.send, html: f.html}
}

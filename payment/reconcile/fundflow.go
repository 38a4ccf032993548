package reconcile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// FundFlow is what the fund-flow bill of a day says, by WeChat's document of the format
// of fund-flow bills: every movement of the merchant's basic account (account_type
// BASIC). Its JSON is part of the stored Result.
type FundFlow struct {
	Rows int64 `json:"rows"`
	In   Sum   `json:"in"`
	Out  Sum   `json:"out"`
	// By has a sum for every business and direction, sorted.
	By []FlowGroup `json:"by"`
	// Trade is what the trade bill of the day makes: paid − refunded − fees. Nil
	// until that day is reconciled. The two differ by what moved for other
	// reasons, and by refunds whose money moved on another day.
	Trade *payment.Fen `json:"trade_fen,omitempty"`
}

// FlowGroup is the movements of one kind.
type FlowGroup struct {
	Business  string `json:"business"`
	Direction string `json:"direction"` // 收入 or 支出
	Sum
}

// Net is in − out.
func (f *FundFlow) Net() payment.Fen { return f.In.Fen - f.Out.Fen }

// fundFlow reads and stores the fund-flow bill, and compares its sum with the trade
// bill of the day. It records no payment and makes no difference: its rows are
// movements of money, without the states and totals that a payment is recorded by.
func (r *Reconciler) fundFlow(ctx context.Context, u *run, bill *os.File) (Result, error) {
	res := u.newResult()
	res.FundFlow = &FundFlow{By: []FlowGroup{}}
	if u.sha1 == "" {
		u.counts = true
		return res, nil
	}
	if _, err := bill.Seek(0, io.SeekStart); err != nil {
		return res, fmt.Errorf("read the bill: %w", err)
	}
	flow, err := readFlow(bill, u.date)
	if err != nil {
		return res, err
	}
	res.FundFlow = flow
	trade, err := r.showNow(ctx, ID(u.date, payment.BillAll))
	switch {
	case err == nil && trade.Result != nil && !trade.Result.Uncounted:
		t := &trade.Result.Totals
		net := t.PaidFen - t.RefundFen - payment.Fen((t.FeeX100000+500)/1000) // fees rounded to fen
		flow.Trade = &net
	case err != nil && !errors.Is(err, ErrNotFound):
		return res, err
	}
	if err := r.saveBill(ctx, u, bill); err != nil {
		return res, err
	}
	if err := r.weigh(ctx, u); err != nil {
		return res, err
	}
	counted := u.newResult()
	counted.FundFlow = flow
	return counted, nil
}

// The columns and sums of a fund-flow bill, from WeChat's document of its format
// (pay.weixin.qq.com/docs/merchant/products/bill-download/format-fundflow.html of
// 2024-11-25; the v2 API's 下载资金账单 has the same). Captured bills have the brackets of
// the two amounts in either width, and counts as 20 and as 20.0.
const (
	flowHead = "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号"
	flowSums = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额"
	// The places of the columns that are read.
	flowAt, flowNumber, flowBusiness, flowDirection, flowAmount = 0, 1, 3, 5, 6
)

// readFlow reads a fund-flow bill and checks its rows against its last line. Of
// tradeBill it uses the reading of lines alone.
func readFlow(in io.Reader, date string) (*FundFlow, error) {
	from, err := dayStart(date)
	if err != nil {
		return nil, err
	}
	b := &tradeBill{in: bufio.NewReaderSize(in, maxLine), wanted: wanted{kind: payment.BillFundFlow}}
	names, err := b.firstLine()
	if err != nil {
		return nil, err
	}
	if err := flowHeader(names); err != nil {
		return nil, err
	}
	f := &FundFlow{By: []FlowGroup{}}
	for {
		text, err := b.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, badLine(b.line, "the file ends without its summary: it is cut")
		case err != nil:
			return nil, err
		case len(text) == 0 || text[0] != '`':
			return f, f.check(b, text)
		}
		cells := bytes.Split(text[1:], cellEnd)
		if len(cells) < len(names) {
			return nil, badLine(b.line, "has %d cells, the header has %d", len(cells), len(names))
		}
		if err := f.read(cells, date, from); err != nil {
			return nil, badLine(b.line, "%v", err)
		}
	}
}

// flowHeader refuses another first line than that of a fund-flow bill.
func flowHeader(names []string) error {
	plain := strings.NewReplacer("（", "(", "）", ")").Replace(strings.Join(names, ","))
	switch want := strings.Split(flowHead, ","); {
	case plain == flowHead:
		return nil
	case names[0] == colTime:
		return badLine(1, "it is not the header of a fund-flow bill but of a trade bill: give it as type ALL, "+
			"SUCCESS or REFUND")
	default:
		for _, n := range want {
			if !slices.Contains(strings.Split(plain, ","), n) {
				return badLine(1, "is not the header of a fund-flow bill: the column %s is missing", n)
			}
		}
		return badLine(1, "is not the header of a fund-flow bill: other columns, or another order, than in WeChat "+
			"Pay's document")
	}
}

// read takes in one movement of a day that begins at from.
func (f *FundFlow) read(cells [][]byte, date string, from time.Time) error {
	t, err := parseTime(cells[flowAt])
	if err != nil {
		return err
	}
	if t.Before(from) || !t.Before(from.AddDate(0, 0, 1)) {
		return fmt.Errorf("is not of %s: %.32s", date, cells[flowAt])
	}
	if scientific(cells[flowNumber]) || scientific(cells[flowNumber+1]) {
		return fmt.Errorf("has a number that was made by a spreadsheet, which has lost its digits: %s", asDownloaded)
	}
	fen, err := parseDecimal(cells[flowAmount], 2)
	if err != nil {
		return err
	}
	return f.add(string(cells[flowBusiness]), string(cells[flowDirection]), payment.Fen(fen))
}

// maxGroups bounds the kinds of business that one bill may have. A real bill has
// few; without a bound, a wrong file's column would be kept in memory as a whole.
const maxGroups = 200

// add counts one movement. Groups are kept sorted, so that equal bills give equal
// results. The key of a group has a zero byte between its two texts, which no name of
// WeChat's has.
func (f *FundFlow) add(business, direction string, fen payment.Fen) error {
	side := &f.In
	switch direction {
	case "收入":
	case "支出":
		side = &f.Out
	default:
		return fmt.Errorf("%.32q is neither 收入 nor 支出", direction)
	}
	f.Rows++
	side.add(fen)
	at, found := slices.BinarySearchFunc(f.By, business+"\x00"+direction, func(g FlowGroup, key string) int {
		return strings.Compare(g.Business+"\x00"+g.Direction, key)
	})
	if !found {
		if len(f.By) >= maxGroups {
			return errors.New("too many kinds of business")
		}
		f.By = slices.Insert(f.By, at, FlowGroup{Business: business, Direction: direction})
	}
	f.By[at].add(fen)
	return nil
}

// check compares the last line of the bill with what was read.
func (f *FundFlow) check(b *tradeBill, header []byte) error {
	want := []int64{f.Rows, f.In.Count, int64(f.In.Fen), f.Out.Count, int64(f.Out.Fen)}
	names, values, err := b.lastLine(header, "资金流水总笔数")
	if err != nil {
		return err
	}
	if strings.Join(names, ",") != flowSums {
		return badLine(b.line-1, "is not the summary of a fund-flow bill")
	}
	for i, name := range names {
		digits := 2
		if strings.HasSuffix(name, "笔数") {
			digits = 0 // counts may be printed as 20.0
		}
		if err := b.compare(name, values[i], want[i], digits); err != nil {
			return err
		}
	}
	return b.end()
}

// writeFlow prints a fund flow as a person reads it.
func writeFlow(out io.Writer, r Result) error {
	f := r.FundFlow
	if r.SHA1 == "" || f == nil {
		_, err := fmt.Fprintf(out, "%s fund flow: nothing moved on that day\n", r.Date)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "%s fund flow\tbill %s\n", r.Date, r.billText())
	for _, g := range f.By {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", bounds.Shown(g.Direction), bounds.Shown(g.Business), g.Count, g.Fen)
	}
	fmt.Fprintf(w, "net\t\t%d\t%s\n", f.Rows, f.Net())
	if f.Trade != nil {
		fmt.Fprintf(w, "trade bill\tpaid − refunded − fees\t\t%s\n", *f.Trade)
		fmt.Fprintf(w, "difference\t\t\t%s\n", f.Net()-*f.Trade)
	}
	return w.Flush()
}

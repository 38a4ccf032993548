package reconcile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/payment"
)

const (
	testMch  = "1900000001"
	testHead = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额," +
		"微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率"
	payLine = "`2026-11-20 10:00:00,`wx1,`1900000001,`0,`,`4200,`01JD4ZKX0000000000000000AB-01,`o,`NATIVE,`SUCCESS," +
		"`OTHERS,`CNY,`9.50,`0.50,`0,`0,`0.00,`0.00,`,`,`mug,`shop-7,`0.06000,`0.60%"
	refundLine = "`2026-11-20 11:00:00,`wx1,`1900000001,`0,`,`4200,`01JD4ZKX0000000000000000AB-01,`o,`NATIVE,`REFUND," +
		"`OTHERS,`CNY,`0.00,`0.00,`50300,`R1,`1.50,`0.50,`ORIGINAL,`SUCCESS,`mug,`shop-7,`-0.01000,`0.60%"
)

func lines(all ...string) string { return strings.Join(all, "\r\n") + "\r\n" }

// want is the bill of a kind that tests read; numbers of orders begin as ULIDs of that day do.
func want(kind payment.BillType) wanted {
	return wanted{date: "2026-11-20", kind: kind, mchID: testMch, window: defaultWindow,
		own: func(outTradeNo string) bool { return strings.HasPrefix(outTradeNo, "01JD") }}
}

func readAll(t *testing.T, text string, kind payment.BillType) ([]row, Totals, error) {
	t.Helper()
	var rows []row
	totals, err := readTrade(strings.NewReader(text), want(kind), func(r *row) error {
		kept := *r
		for _, b := range []*[]byte{&kept.transactionID, &kept.outTradeNo, &kept.refundID, &kept.outRefundNo,
			&kept.state, &kept.refundState} {
			*b = bytes.Clone(*b)
		}
		rows = append(rows, kept)
		return nil
	})
	return rows, totals, err
}

// Nothing is quoted in a bill: commas, quotes and even back-ticks in free text must not move the money's columns.
func TestFreeTextMovesNoMoney(t *testing.T) {
	for _, text := range []string{"mug, blue", `a "large" mug`, "a,`b,`c", "`", "a`b,c", ""} {
		now := lines(testHead+",订单金额,申请退款金额,费率备注", strings.Replace(payLine, "`mug", "`"+text, 1)+",`10.00,`0.00,`",
			"总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额",
			"`1,`9.50,`0.00,`0.00,`0.06000,`10.00,`0.00")
		rows, totals, err := readAll(t, now, payment.BillAll)
		if err != nil || rows[0].amount != 1000 || totals.FeeX100000 != 6000 ||
			string(rows[0].transactionID) != "4200" {
			t.Errorf("%q: %+v %v", text, rows, err)
		}
	}
}

// A float, a rounding or an overflow here is money that nobody can find again.
func TestDecimalsAreExact(t *testing.T) {
	for text, want := range map[string]int64{"0.01": 1, "149.00": 14900, "-0.50": -50, "12": 1200, "1.5": 150,
		"99999999999.99": 9999999999999, "0.010": 1, "20.0": 2000} {
		if got, err := parseDecimal([]byte(text), 2); err != nil || got != want {
			t.Errorf("%s: %d %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-", ".5", "1.", "1.005", "1,5", "1e3", "+1", "١", " 1", "1 ", "0x1", "--1",
		"9999999999999999999", "1.2.3"} {
		if got, err := parseDecimal([]byte(text), 2); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
	if got := decimal(-5, 2) + decimal(123456, 5) + decimal(7, 0); got != "-0.051.234567" {
		t.Error(got)
	}
}

// A bill comes from outside: no bytes may crash the reader or make it accept what does not add up.
func FuzzBill(f *testing.F) {
	f.Add([]byte(allBill()))
	f.Add([]byte(early))
	f.Add([]byte(lines(testHead, payLine)))
	f.Add([]byte("<html>"))
	f.Add([]byte("`"))
	f.Add([]byte(lines(testHead+",订单金额,申请退款金额,费率备注", "`", "总交易单数,订单总金额,申请退款总金额,手续费总金额", "`")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var rows int64
		var paid payment.Fen
		totals, err := readTrade(bytes.NewReader(b), want(payment.BillAll), func(r *row) error {
			rows++
			if !r.refund {
				paid += r.amount
			}
			return nil
		})
		if err == nil && (totals.Rows != rows || totals.PaidFen != paid) {
			t.Errorf("%d rows of %s read, %d of %s told", rows, paid, totals.Rows, totals.PaidFen)
		}
		if err != nil && !errors.Is(err, ErrBadBill) {
			t.Errorf("an error of another kind: %v", err)
		}
		_, _ = readFlow(bytes.NewReader(b), "2026-11-20")
	})
}

// The account's movements: counts may be printed as 20.0, and the sums must fit.
func TestFundFlow(t *testing.T) {
	head := "\ufeff记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号"
	row := func(business, direction, yuan string) string {
		return "`2026-11-20 10:00:00,`4200,`1042,`" + business + ",`x,`" + direction + ",`" + yuan +
			",`0.00,`system,`a,b,`v"
	}
	rows := []string{head, row("交易", "收入", "10.00"), row("扣除交易手续费", "支出", "0.06"), row("退款", "支出", "2.00")}
	good := lines(append(rows, "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额", "`3.0,`1.0,`10.00,`2.0,`2.06")...)
	f, err := readFlow(strings.NewReader(good), "2026-11-20")
	if err != nil || f.Rows != 3 || f.Net() != 794 || len(f.By) != 3 {
		t.Fatalf("%+v %v", f, err)
	}
	for name, text := range map[string]string{
		"sums":    strings.Replace(good, "`2.06", "`2.07", 1),
		"cut":     lines(rows...),
		"day":     strings.Replace(good, "2026-11-20", "2026-11-19", 1),
		"neither": strings.Replace(good, "收入,`10.00", "进出,`10.00", 1),
		"header":  "<html>",
	} {
		if _, err := readFlow(strings.NewReader(text), "2026-11-20"); !errors.Is(err, ErrBadBill) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sample() []Difference {
	return []Difference{{ID: "0123", Date: "2026-11-20", Type: payment.BillAll, Kind: BillOnly,
		Ref: "4200001234202611201234567890", OrderNo: "01JD4ZKX0000000000000000AB",
		BillFen: 14900, Line: 181, Status: StatusOpen, OpenedAt: time.UnixMilli(1_800_000_000_000).UTC(),
		ResolvedWhy: `=HYPERLINK("http://evil","x") <&>`}}
}

// A spreadsheet that rounds 28 digits, or runs what a buyer wrote, is worse than none.
func TestCSVKeepsDigitsAndRunsNothing(t *testing.T) {
	var b bytes.Buffer
	if err := WriteCSV(&b, sample()); err != nil {
		t.Fatal(err)
	}
	text, bom := strings.CutPrefix(b.String(), "\ufeff")
	all, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || !bom || len(all) != 2 || len(all[0]) != len(all[1]) {
		t.Fatal(err, b.String())
	}
	cells := map[string]string{}
	for i, name := range all[0] {
		cells[name] = all[1][i]
	}
	if cells["ref"] != "\t4200001234202611201234567890" || cells["bill_yuan"] != "149.00" ||
		cells["difference_yuan"] != "149.00" || cells["label"] != "长款" ||
		!strings.HasPrefix(cells["resolved_why"], "'=") {
		t.Errorf("%v", cells)
	}
}

package reconcile

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/payment"
)

// early is a bill of the early layout as captured on 2017-09-02, with made-up numbers: what WeChat's page of
// 2024-11-25 says that a few merchants still get. The coupon is a part of 总金额.
var early = lines("\ufeff交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,总金额,企业红包金额,"+
	"微信退款单号,商户退款单号,退款金额,企业红包退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率",
	"`2026-11-20 10:00:00,`wx1,`1900000001,`0,`,`4200,`01JD4ZKX0000000000000000AB-01,`o,`JSAPI,`SUCCESS,`SPDB_DEBIT,"+
		"`CNY,`298.00,`20.00,`0,`0,`0.00,`0.00,`,`,`mug,`,`1.78800,`0.60%",
	"`2026-11-20 11:00:00,`wx1,`1900000001,`0,`,`4200,`01JD4ZKX0000000000000000AB-01,`o,`JSAPI,`REFUND,`SPDB_DEBIT,"+
		"`CNY,`0.00,`0.00,`50300,`R1,`149.00,`10.00,`ORIGINAL,`SUCCESS,`mug,`,`-0.89400,`0.60%",
	"总交易单数,总交易额,总退款金额,总企业红包退款金额,手续费总金额", "`2,`298.00,`149.00,`10.00,`0.89400")

// partners is a bill of refunds of a partner, in the form captured on 2018-08-21: 交易时间 is that of the payment, on
// the day before; the refund's own day is 退款申请时间.
var partners = lines("交易时间,公众账号ID,商户号,子商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,总金额,企业红包金额,退款申请时间,退款成功时间,"+
	"微信退款单号,商户退款单号,退款金额,企业红包退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率",
	"`2026-11-19 14:40:09,`wx1,`1900000001,`1511458511,`,`42000001452018,`2018082010,`o,`NATIVE,`REFUND,`CFT,`CNY,"+
		"`0.00,`0.00,`2026-11-20 18:13:10,`2026-11-20 18:13:12,`500007078120180,`R7,`0.01,`0.00,`ORIGINAL,`SUCCESS,"+
		"`测试-2,`,`0.00000,`1.00%",
	"总交易单数,总交易额,总退款金额,总企业红包退款金额,手续费总金额", "`1,`0.00,`0.01,`0.00,`0.00000")

// Every layout that has a source is read, and by what each column means in it; a refund of a bill of refunds is of the
// day on which it was asked for.
func TestEveryLayoutWithASource(t *testing.T) {
	rows, totals, err := readAll(t, early, payment.BillAll)
	if err != nil || len(rows) != 2 || rows[0].amount != 29800 || rows[0].coupon != 2000 || rows[1].amount != 14900 ||
		totals.PaidFen != 29800 || totals.RefundFen != 14900 {
		t.Errorf("early: %+v %+v %v", rows, totals, err)
	}
	named := strings.NewReplacer("企业红包", "代金券或立减优惠", "特约商户号", "子商户号").Replace(early)
	if rows, _, err := readAll(t, named, payment.BillAll); err != nil || rows[0].amount != 29800 {
		t.Errorf("2014: %+v %v", rows, err)
	}
	rows, _, err = readAll(t, partners, payment.BillRefund)
	if err != nil || len(rows) != 1 || rows[0].amount != 1 || !rows[0].at.Equal(time.Date(2026, 11, 20, 10, 13, 10, 0,
		time.UTC)) {
		t.Errorf("a refund of yesterday's payment: %+v %v", rows, err)
	}
	late := strings.Replace(partners, "2026-11-20 18:13:10", "2026-11-19 18:13:10", 1)
	if _, _, err := readAll(t, late, payment.BillRefund); !errors.Is(err, ErrBadBill) {
		t.Errorf("a refund of another day: %v", err)
	}
	for _, l := range layouts {
		for kind, want := range map[payment.BillType]int{payment.BillAll: 27, payment.BillSuccess: 20,
			payment.BillRefund: 29} {
			if l.early() {
				want = map[payment.BillType]int{payment.BillAll: 24, payment.BillSuccess: 18,
					payment.BillRefund: 26}[kind]
			}
			if names, _ := l.columns(kind, l.sub[0]); len(names) != want {
				t.Errorf("%s, %s: %d columns, the document has %d", l.name, kind, len(names), want)
			}
		}
	}
}

// A refund that is accepted in the last seconds of a day and succeeds in the first of the next stands in an early
// bill of everything with the time of its success: it must not spoil that day for good. No other row is of another day.
func TestEarlyRefundThatSucceedsAfterMidnight(t *testing.T) {
	at := func(text, from, to string) string {
		return strings.Replace(text, "`2026-11-20 "+from, "`2026-11-21 "+to, 1)
	}
	rows, _, err := readAll(t, at(early, "11:00:00", "00:00:01"), payment.BillAll)
	if err != nil || len(rows) != 2 || !rows[1].at.Equal(time.Date(2026, 11, 20, 16, 0, 1, 0, time.UTC)) {
		t.Errorf("%+v %v", rows, err)
	}
	for name, text := range map[string]string{
		"a payment":                         at(early, "10:00:00", "00:00:01"),
		"a refund far from midnight":        at(early, "11:00:00", "00:10:00"),
		"a refund of the present layout":    at(allBill(), "11:00:00", "00:00:01"),
		"a refund of the day before":        strings.Replace(early, "11-20 11:00:00", "11-19 23:59:59", 1),
		"a payment of the day before, then": strings.Replace(early, "11-20 10:00:00", "11-19 23:59:59", 1),
	} {
		if _, _, err := readAll(t, text, payment.BillAll); !errors.Is(err, ErrBadBill) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What another business of the merchant number calls its trades, and what WeChat leaves out of its rows, must not
// spoil the day of our orders; a row of ours that cannot be read is named with its line and what to do.
func TestOtherBusinessSpoilsNoBill(t *testing.T) {
	const shop = "TILL-1-20261120-7"
	good := strings.ReplaceAll(allBill(), "01JD4ZKX0000000000000000AB-01", shop)
	in := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	sums := func(text, settled, fee, total string) string {
		return strings.NewReplacer("`2,`9.50,", "`2,`"+settled+",", "`0.05000,`10.00,`2.00",
			"`"+fee+",`"+total+",`2.00").Replace(text)
	}
	unpriced := strings.Replace(in("`9.50", "`"), "`10.00,`0.00,", "`,`,", 1)
	for name, text := range map[string]string{
		"a trade number of 33":        in("`"+shop, "`"+strings.Repeat("9", 33)),
		"a trade number in Chinese":   in("`"+shop, "`收银台7"),
		"a trade number of no text":   in("`"+shop, "`\xff\x1b"),
		"no trade number":             in("`"+shop, "`"),
		"an id of a bank":             in("`4200009001202611200000000001", "`YL4200009001202611200000000001"),
		"an id that is long":          in("`4200009001202611200000000001", "`"+strings.Repeat("4", 33)),
		"no id":                       in("`4200009001202611200000000001", "`"),
		"a refund's id of a bank":     in("`50300009001202611200000000007", "`YL50300009"),
		"a refund without a number":   in("`R1", "`"),
		"a refund's number of 65":     in("`R1", "`"+strings.Repeat("R", 65)),
		"an empty fee":                sums(in("`0.06000", "`"), "9.50", "-0.01000", "10.00"),
		"an empty coupon":             in("`0.50,`0,", "`,`0,"),
		"no amounts of what it costs": sums(unpriced, "0.00", "0.05000", "0.00"),
		"a doubled mark of UTF-8":     "\ufeff" + good,
		"three of them":               "\ufeff\ufeff" + good,
	} {
		rows, _, err := readAll(t, text, payment.BillAll)
		if err != nil || len(rows) != 2 {
			t.Errorf("%s: %v", name, err)
		}
		for _, r := range rows {
			if len(r.transactionID) > maxNumber || len(r.outTradeNo) > maxNumber || len(r.outRefundNo) > maxRefundNo ||
				!kept(r.outTradeNo, maxNumber) || !kept(r.transactionID, maxNumber) {
				t.Errorf("%s: %q %q %q does not fit its column", name, r.transactionID, r.outTradeNo, r.outRefundNo)
			}
		}
	}
	for name, text := range map[string]string{
		"our row with an id of a bank": strings.Replace(allBill(), "`42000", "`YL42000", 1),
		"our refund with an id of one": strings.Replace(allBill(), "`50300", "`YL50300", 1),
		"an id of a spreadsheet":       in("`4200009001202611200000000001", "`4.2E+27"),
	} {
		_, _, err := readAll(t, text, payment.BillAll)
		if !errors.Is(err, ErrBadBill) || !strings.Contains(err.Error(), "line ") ||
			!strings.Contains(err.Error(), asDownloaded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that is not as WeChat Pay made it is refused by what happened to it and what to do, whoever saved it.
func TestEachWrongFileIsNamed(t *testing.T) {
	good := allBill()
	body := strings.TrimPrefix(good, "\ufeff")
	in := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	quoted := strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(body), ",", `","`), "\r\n", "\"\r\n\"")
	flow := "\ufeff记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号\r\n"
	nowhere := lines("\ufeff"+testHead, payLine, "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额",
		"`1,`9.50,`0.00,`0.00,`0.06000")
	fewer := strings.NewReplacer(",订单总金额", "", "`10.00,`2.00\r\n", "`2.00\r\n").Replace(good)
	for name, c := range map[string]struct{ text, says string }{
		"ids of a spreadsheet":       {in("`4200009001202611200000000001", "`4.2E+27"), "lost its digits"},
		"order numbers of one":       {in("`01JD4ZKX0000000000000000AB-01", "`1.41564E+09"), "lost its digits"},
		"rounded ids":                {in("`4200009001202611200000000001", "`4200009001202610000000000000"), "rounded"},
		"an id with letters":         {in("`4200009001202611200000000001", "`42x"), "digits only"},
		"refund ids of one":          {in("`50300009001202611200000000007", "`5.03E+28"), "lost its digits"},
		"no back-ticks":              {strings.ReplaceAll(good, "`", ""), "lost the back-ticks"},
		"quotes":                     {`"` + quoted + `"`, "in quotes"},
		"tabs":                       {strings.ReplaceAll(good, ",", "\t"), "not divided by commas"},
		"semicolons":                 {strings.ReplaceAll(good, ",", ";"), "not divided by commas"},
		"empty columns":              {strings.ReplaceAll(good, "\r\n", ",,,\r\n"), "empty columns"},
		"empty columns at the end":   {in("申请退款总金额\r\n", "申请退款总金额,,,\r\n"), "empty columns"},
		"dates of one":               {in("2026-11-20 10:00:00", "2026/11/20 10:00"), "as a spreadsheet does"},
		"thousands":                  {in("`10.00,`0.00,`\r\n", "`1,010.00,`0.00,`\r\n"), "as a spreadsheet does"},
		"GBK":                        {"\xbd\xbb\xd2\xd7\xca\xb1\xbc\xe4,x\r\n", "GBK"},
		"UTF-16":                     {"\xff\xfe\xa4\x4e\x13\x66", "UTF-16"},
		"another charset":            {"\xa5\xe6\xa9\xf6,x\r\n`1\r\n", "not UTF-8"},
		"a ZIP archive":              {"PK\x03\x04....", "ZIP"},
		"an old workbook":            {"\xd0\xcf\x11\xe0\xa1\xb1", ".xls"},
		"a PDF":                      {"%PDF-1.7", "PDF"},
		"gzip twice":                 {"\x1f\x8b\x08\x00", "gzip inside gzip"},
		"a web page":                 {" \r\n<!DOCTYPE html><html>", "a web page"},
		"an XML answer":              {"<xml><return_code>FAIL</return_code></xml>", "an XML answer"},
		"a JSON answer":              {`{"code":"NO_AUTH"}`, "a JSON answer"},
		"empty":                      {"\ufeff\r\n", "empty"},
		"an empty line":              {in("\r\n`2026-11-20 11", "\r\n\r\n`2026-11-20 11"), "is empty"},
		"a fund-flow bill":           {flow, "type FUNDFLOW"},
		"a bill of refunds":          {partners, "of type REFUND"},
		"a column without a source":  {in("费率备注", "费率备注,备注二"), "备注二"},
		"a column less":              {in(",设备号", ""), "设备号 is missing"},
		"columns in another order":   {in("微信订单号,商户订单号", "商户订单号,微信订单号"), "order"},
		"the 24 columns of nowhere":  {nowhere, "without 订单金额"},
		"early sums":                 {in("应结订单总金额", "总交易额"), "not one of"},
		"a sum less":                 {fewer, "lacks 订单总金额"},
		"a sum twice":                {in(",退款总金额", ",应结订单总金额"), "twice"},
		"a wrong sum":                {in("`0.05000,`10.00", "`0.05001,`10.00"), "the rows make"},
		"a second bill":              {good + good, "a second bill"},
		"a second, after a line":     {good + "\r\n" + body, "a second bill"},
		"a row after the end":        {good + "\r\n`1\r\n", "after the summary"},
		"a word after the end":       {good + "checked by Li", "after the summary"},
		"cut in the names of sums":   {good[:strings.Index(good, "充值券退款总金额")], "empty columns"},
		"cut in the sums":            {good[:len(good)-20], "cut"},
		"cut before them":            {good[:strings.Index(good, "总交易单数")], "cut"},
		"cut in a row":               {good[:strings.Index(good, "`JSAPI")+3], "cells"},
		"another merchant's partner": {in("`1900000001,`0", "`1800000001,`1700000001"), "of merchant 1800000001"},
	} {
		_, _, err := readAll(t, c.text, payment.BillAll)
		if !errors.Is(err, ErrBadBill) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	for name, text := range map[string]string{"as it is": good, "empty lines at the end": good + "\r\n\n",
		"no end of line": strings.TrimSuffix(good, "\r\n"), "no BOM, LF": strings.ReplaceAll(body, "\r\n", "\n"),
		"what a partner took": in("`1900000001,`0", "`1800000001,`1900000001")} {
		if rows, _, err := readAll(t, text, payment.BillAll); err != nil || len(rows) != 2 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// allBill is a good bill of the present layout.
func allBill() string {
	long := strings.NewReplacer("`4200,", "`4200009001202611200000000001,", "`50300,",
		"`50300009001202611200000000007,", "`NATIVE", "`JSAPI")
	return long.Replace(lines("\ufeff"+testHead+",订单金额,申请退款金额,费率备注", payLine+",`10.00,`0.00,`",
		refundLine+",`0.00,`2.00,`", "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额",
		"`2,`9.50,`1.50,`0.50,`0.05000,`10.00,`2.00"))
}

// The same of the fund flow: what is after its end, and what another program has made of it.
func TestEachWrongFundFlowIsNamed(t *testing.T) {
	good := lines("\ufeff"+strings.NewReplacer("(", "（", ")", "）").Replace(flowHead),
		"`2026-11-20 10:00:00,`4200009001202611200000000001,`1042,`交易,`交易,`收入,`10.00,`0.00,`system,`缺货,`换,`v",
		"资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额", "`1.0,`1,`10.00,`0,`0")
	if f, err := readFlow(strings.NewReader(good), "2026-11-20"); err != nil || f.Net() != 1000 {
		t.Fatalf("%+v %v", f, err)
	}
	fewer := strings.NewReplacer(",支出金额\r\n", "\r\n", "`0,`0\r\n", "`0\r\n").Replace(good)
	id := strings.Replace(good, "`4200009001202611200000000001", "`4.2E+27", 1)
	for name, c := range map[string]struct{ text, says string }{
		"a second one":       {good + good, "a second bill"},
		"a word after it":    {good + "\r\nchecked", "after the summary"},
		"no back-ticks":      {strings.ReplaceAll(good, "`", ""), "lost the back-ticks"},
		"ids":                {id, "lost its digits"},
		"dates":              {strings.Replace(good, "2026-11-20", "2026/11/20", 1), "as a spreadsheet does"},
		"a ZIP archive":      {"PK\x03\x04", "ZIP"},
		"GBK":                {"\xbc\xc7\xd5\xcb\xca\xb1\xbc\xe4,\r\n", "GBK"},
		"a trade bill":       {allBill(), "of a trade bill"},
		"a column less":      {strings.Replace(good, ",业务凭证号", "", 1), "业务凭证号 is missing"},
		"a column more":      {strings.Replace(good, ",业务凭证号", ",业务凭证号,x", 1), "other columns"},
		"a sum less":         {fewer, "not the summary"},
		"a wrong sum":        {strings.Replace(good, "`1.0,`1,`10.00", "`1.0,`1,`10.01", 1), "the rows make"},
		"cut":                {good[:strings.Index(good, "资金流水总笔数")], "it is cut"},
		"empty":              {"", "empty"},
		"an error of the v2": {"<xml>", "an XML answer"},
	} {
		if _, err := readFlow(bytes.NewReader([]byte(c.text)), "2026-11-20"); !errors.Is(err, ErrBadBill) ||
			!strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

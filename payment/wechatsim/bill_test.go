package wechatsim_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"orderd/payment/wechatsim"
)

// bill applies for a bill and downloads it, as bytes on the wire.
func (b *bench) bill(query string) (body []byte, hash string) {
	b.t.Helper()
	r := b.do(request{method: "GET", target: "/v3/bill/" + query}).want(b.t, 200, "")
	var where struct {
		DownloadURL string `json:"download_url"`
		HashType    string `json:"hash_type"`
		HashValue   string `json:"hash_value"`
	}
	must(b.t, json.Unmarshal(r.body, &where))
	u, err := url.Parse(where.DownloadURL)
	must(b.t, err)
	if u.Host != "api.mch.weixin.qq.com" && u.Host != "api2.mch.weixin.qq.com" || where.HashType != "SHA1" {
		b.t.Errorf("%s", r.body)
	}
	file := b.do(request{method: "GET", target: u.RequestURI()})
	if file.status != 200 || file.header.Get("Wechatpay-Signature") != "" {
		b.t.Errorf("%d, signature %q", file.status, file.header.Get("Wechatpay-Signature"))
	}
	return file.body, where.HashValue
}

func gunzip(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	must(t, err)
	plain, err := io.ReadAll(z)
	must(t, err)
	return plain
}

// theDay is a day with two payments and three refunds, one of them of an older payment.
func theDay(t *testing.T) (*bench, *clock) {
	c := &clock{at: time.Date(2026, 11, 19, 15, 59, 59, 0, time.UTC)} // 23:59:59 in Beijing
	b := start(t, wechatsim.Options{Now: c.now, NoSpacing: true, RefundDelay: time.Hour})
	old := b.paid("BILL0001")
	c.forward(time.Second) // midnight
	tx := b.paid("BILL0002")
	b.paid("BILL0003")
	b.refund(tx, "RB1", 100, nil).want(t, 200, "")
	b.refund(tx, "RB2", 200, nil).want(t, 200, "")
	b.refund(old, "RB3", 300, nil).want(t, 200, "")
	must(t, b.sim.SetRefundOutcome("RB1", wechatsim.StateSuccess, 0))
	c.forward(24 * time.Hour)
	return b, c
}

// The reader of real bills is written against these bytes: one that is off here is off on the first real day.
func TestBillBytes(t *testing.T) {
	b, _ := theDay(t)
	plain, hash := b.bill("tradebill?bill_date=2026-11-20&bill_type=ALL")
	sum := sha1.Sum(plain)
	if hash != hex.EncodeToString(sum[:]) {
		t.Error("the hash is not that of the file")
	}
	packed, hash2 := b.bill("tradebill?bill_date=2026-11-20&bill_type=ALL&tar_type=GZIP")
	if hash2 != hash || !bytes.Equal(gunzip(t, packed), plain) {
		t.Error("packed it is another file")
	}
	text := string(plain)
	lines := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
	if !strings.HasPrefix(text, "\ufeff交易时间,") || !strings.HasSuffix(text, "\r\n") || len(lines) != 1+5+2 {
		t.Fatalf("%d lines:\n%s", len(lines), text)
	}
	if got := lines[6]; got != "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额" {
		t.Error(got)
	}
	if got := lines[7]; got != "`5,`298.00,`6.00,`0.00,`1.75200,`298.00,`6.00" {
		t.Error(got)
	}
	payments, refunds := 0, 0
	for _, l := range lines[1:6] {
		cells := strings.Split(l, ",`")
		if len(cells) != 27 || !strings.HasPrefix(l, "`2026-11-20 00:00:00,`"+appID) {
			t.Errorf("%d cells: %s", len(cells), l)
			continue
		}
		switch cells[9] {
		case "SUCCESS":
			payments++
			if cells[12] != "149.00" || cells[14] != "0" || cells[22] != "0.89400" || cells[24] != "149.00" {
				t.Error(l)
			}
		case "REFUND":
			refunds++
			if cells[12] != "0.00" || !strings.HasPrefix(cells[14], "5030") || !strings.HasPrefix(cells[15], "RB") ||
				cells[18] != "ORIGINAL" || !strings.HasPrefix(cells[22], "-") {
				t.Error(l)
			}
			if want := map[bool]string{true: "SUCCESS", false: "PROCESSING"}[cells[15] == "RB1"]; cells[19] != want {
				t.Errorf("%s is %s", cells[15], cells[19])
			}
		}
	}
	if payments != 2 || refunds != 3 {
		t.Errorf("%d payments, %d refunds", payments, refunds)
	}
	for kind, columns := range map[string]int{"SUCCESS": 20, "REFUND": 29} {
		plain, _ := b.bill("tradebill?bill_date=2026-11-20&bill_type=" + kind)
		head, _, _ := strings.Cut(string(plain), "\r\n")
		if n := strings.Count(head, ",") + 1; n != columns {
			t.Errorf("%s has %d columns", kind, n)
		}
	}
	flow, _ := b.bill("fundflowbill?bill_date=2026-11-20&account_type=BASIC")
	if !strings.Contains(string(flow), "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\r\n`") {
		t.Errorf("%s", flow)
	}
}

// Days that have no bill, or none yet, must be told apart, or an outage looks like a day without trade.
func TestBillDays(t *testing.T) {
	c := &clock{at: time.Date(2026, 11, 20, 4, 0, 0, 0, time.UTC)}
	b := start(t, wechatsim.Options{Now: c.now, StrictBillTime: true})
	b.paid("DAY00001")
	ask := func(date string) reply {
		return b.do(request{method: "GET", target: "/v3/bill/tradebill?bill_type=ALL&bill_date=" + date})
	}
	ask("2026-11-20").want(t, 400, "STATEMENT_CREATING")
	ask("2026-11-19").want(t, 400, "NO_STATEMENT_EXIST")
	ask("2026-11-21").want(t, 400, "INVALID_REQUEST")
	ask("2026-07-01").want(t, 400, "INVALID_REQUEST")
	ask("20261120").want(t, 400, "INVALID_REQUEST")
	c.forward(22*time.Hour - time.Second) // 9:59:59 of the next day
	ask("2026-11-20").want(t, 400, "STATEMENT_CREATING")
	c.forward(time.Second)
	ask("2026-11-20").want(t, 200, "")
}

// A bad bill that cannot be made is a bad bill that nobody has tried.
func TestBillFaults(t *testing.T) {
	b, _ := theDay(t)
	clean, _ := b.bill("tradebill?bill_date=2026-11-20&bill_type=ALL")
	rows := func(p []byte) int { return strings.Count(string(p), "\r\n") - 3 }
	for kind, check := range map[string]func(p []byte, hash string) bool{
		"wrong_hash": func(p []byte, h string) bool { return bytes.Equal(p, clean) && h != sha1Hex(p) },
		"truncated":  func(p []byte, h string) bool { return len(p) == len(clean)/2 && h == sha1Hex(clean) },
		"big":        func(p []byte, h string) bool { return len(p) > 12<<20 && h == sha1Hex(p) },
		"missing_columns": func(p []byte, _ string) bool {
			return strings.Count(strings.SplitN(string(p), "\r\n", 2)[0], ",") == 23
		},
		"commas":        func(p []byte, _ string) bool { return strings.Contains(string(p), "Mug, blue,") },
		"duplicate_row": func(p []byte, _ string) bool { return rows(p) == 6 },
		"missing_row":   func(p []byte, _ string) bool { return rows(p) == 4 },
		"extra_row":     func(p []byte, _ string) bool { return strings.Contains(string(p), "SOMEBODYELSE01") },
		"early_columns": func(p []byte, _ string) bool {
			return strings.Contains(string(p), ",总金额,企业红包金额,") && strings.Contains(string(p), "\r\n总交易单数,总交易额,")
		},
		"other_business": func(p []byte, _ string) bool {
			return rows(p) == 7 && strings.Contains(string(p), "`MICROPAY,`REVOKED,")
		},
		"other_address":  func(p []byte, h string) bool { return bytes.Equal(p, clean) && h == sha1Hex(p) },
		"one_fen_off":    func(p []byte, _ string) bool { return rows(p) == 5 && !bytes.Equal(p, clean) },
		"bad_summary":    func(p []byte, _ string) bool { return strings.Contains(string(p), "`6,`298.01") },
		"other_merchant": func(p []byte, _ string) bool { return strings.Count(string(p), "1999999999") == 5 },
		"other_day":      func(p []byte, _ string) bool { return strings.Count(string(p), "`2026-11-19") == 5 },
	} {
		must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "bill", Kind: kind, Count: 1}))
		if p, h := b.bill("tradebill?bill_date=2026-11-20&bill_type=ALL"); !check(p, h) {
			t.Errorf("%s: %.600s", kind, p)
		}
		if p, _ := b.bill("tradebill?bill_date=2026-11-20&bill_type=ALL"); !bytes.Equal(p, clean) {
			t.Errorf("%s stays", kind)
		}
	}
	for kind, code := range map[string]string{"empty_day": "NO_STATEMENT_EXIST", "not_ready": "STATEMENT_CREATING"} {
		must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "bill", Kind: kind, Count: 1}))
		b.do(request{method: "GET", target: "/v3/bill/tradebill?bill_type=ALL&bill_date=2026-11-20"}).want(t, 400, code)
	}
	must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "bill", Kind: "html", Count: 1}))
	if p, _ := b.bill("tradebill?bill_date=2026-11-20&bill_type=ALL"); !strings.HasPrefix(string(p), "<html>") {
		t.Errorf("%.80s", p)
	}
}

func sha1Hex(b []byte) string { s := sha1.Sum(b); return hex.EncodeToString(s[:]) }

// Tencent's own client must be able to apply for a bill and to fetch it.
func TestOfficialSDKFetchesBills(t *testing.T) {
	eachKeyMode(t, func(t *testing.T, b *bench, c sdk) {
		b.paid("SDKBILL1")
		today := time.Now().In(time.FixedZone("Beijing", 8*60*60)).Format(time.DateOnly)
		res, err := c.client.Get(context.Background(),
			"https://api.mch.weixin.qq.com/v3/bill/tradebill?bill_date="+today+"&bill_type=ALL&tar_type=GZIP")
		must(t, err)
		var where struct {
			DownloadURL string `json:"download_url"`
			HashValue   string `json:"hash_value"`
		}
		must(t, json.NewDecoder(res.Response.Body).Decode(&where))
		u, err := url.Parse(where.DownloadURL)
		must(t, err)
		file := b.do(request{method: http.MethodGet, target: u.RequestURI()})
		if plain := gunzip(t, file.body); sha1Hex(plain) != where.HashValue || !strings.Contains(string(plain),
			"SDKBILL1") {
			t.Errorf("%.300s", plain)
		}
	})
}

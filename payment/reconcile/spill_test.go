package reconcile

import (
	"hash/maphash"
	"os"
	"strings"
	"testing"
	"time"

	"orderd/payment"
)

// onePartition is a side of one partition with a row of the bill, a refund of it and a row of ours.
func onePartition(t *testing.T) *spill {
	t.Helper()
	s, err := newSpill(t.TempDir(), "bill", maphash.MakeSeed(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	for _, r := range []row{
		{line: 2, at: time.UnixMilli(1_700_000_000_000), transactionID: []byte("4200001"), outTradeNo: []byte("A-01"),
			appID: []byte("app"), mchID: []byte("mch"), subMch: []byte("0"), tradeType: []byte("NATIVE"),
			state: []byte("SUCCESS"), currency: []byte("CNY"), amount: 12345, coupon: -7},
		{line: 300, at: time.UnixMilli(1), transactionID: []byte("4200001"), refund: true, refundID: []byte("50300"),
			refundState: []byte("PROCESSING"), subMch: []byte("sub"), currency: []byte("USD"), foreign: 1 << 40,
			tradeType: []byte(strings.Repeat("T", 300))},
	} {
		if err := s.addRow(&r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// What goes to disk comes back as it was: a fact that is lost there is lost for whoever looks at the difference.
func TestRowsComeBackFromDisk(t *testing.T) {
	s := onePartition(t)
	var got []item
	partition, err := s.whole(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := eachRecord(partition, func(_ int, r record) { got = append(got, r.item(true)) }); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		key, state string
		line       int64
		amount     payment.Fen
		facts      Facts
	}{
		{"4200001", "SUCCESS", 2, 12345, Facts{At: time.UnixMilli(1_700_000_000_000).UTC(), OutTradeNo: "A-01",
			TransactionID: "4200001", AppID: "app", MchID: "mch", TradeType: "NATIVE", Currency: "CNY", Coupon: -7}},
		{"50300", "PROCESSING", 300, 0, Facts{At: time.UnixMilli(1).UTC(), TransactionID: "4200001", SubMchID: "sub",
			TradeType: strings.Repeat("T", 300), Currency: "USD", Foreign: 1 << 40, RefundID: "50300"}},
	}
	if len(got) != len(want) || s.rows[0] != len(want) {
		t.Fatalf("%d rows of %d came back, %d were counted", len(got), len(want), s.rows[0])
	}
	for i, w := range want {
		g := &got[i]
		if g.key != w.key || g.state != w.state || g.line != w.line || g.amount != w.amount || g.said() != w.facts ||
			g.refund != (i == 1) {
			t.Errorf("%+v %+v\nwant %+v", *g, g.said(), w)
		}
	}
}

// A file that was cut or written over must end the run: half a side would make differences of the rest.
func TestDamagedPartitionEndsTheRun(t *testing.T) {
	for name, harm := range map[string]func(*os.File, int64) error{
		"cut":      func(f *os.File, size int64) error { return f.Truncate(size - 3) },
		"zeros":    func(f *os.File, size int64) error { return f.Truncate(size + 5) },
		"too long": func(f *os.File, _ int64) error { _, err := f.WriteAt([]byte{0xff, 0xff, 0x7f}, 0); return err },
		"no end": func(f *os.File, size int64) error {
			_, err := f.WriteAt([]byte(strings.Repeat("\xff", 12)), size)
			return err
		},
	} {
		s := onePartition(t)
		whole, err := s.whole(0, nil)
		if err == nil {
			err = eachRecord(whole, func(int, record) {})
		}
		if err == nil {
			err = harm(s.files[0], int64(len(whole)))
		}
		if err != nil {
			t.Fatal(err)
		}
		harmed, err := s.whole(0, whole)
		if err == nil {
			err = eachRecord(harmed, func(int, record) {})
		}
		if err == nil || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

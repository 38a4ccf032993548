package wechat

import (
	"testing"
)

// BenchmarkClose is one call over loopback; BenchmarkRequestSignature is the
// part of it that cannot be saved. What lies between is HTTP and the sham.
func BenchmarkClose(b *testing.B) {
	g, _ := against(b, reply{status: 204})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Close(b.Context(), testNo); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequestSignature(b *testing.B) {
	for b.Loop() {
		_ = rsaSign(theWorld().merchant, "POST\n/v3/pay\n1\nn\n{}\n")
	}
}

// BenchmarkParseNotification is what one callback costs before the database.
func BenchmarkParseNotification(b *testing.B) {
	g := mustNew(b, testConfig())
	n := []byte(notice(tradeBody(nil), nil))
	h := signedHeader(string(n))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.ParseNotification(h, n); err != nil {
			b.Fatal(err)
		}
	}
}

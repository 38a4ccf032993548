package payment_test

import (
	"strings"
	"testing"

	"orderd/payment"
)

// A traceparent is anybody's text: what does not fit must be none, or it stands in rows and headers.
func TestTraceparent(t *testing.T) {
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for header, want := range map[string]string{
		"00-" + id + "-" + parent + "-01":                      id,
		"00-" + id + "-" + parent + "-00":                      id,
		"cc-" + id + "-" + parent + "-01-later":                id, // of a version to come
		"00-" + id + "-" + parent + "-01-later":                "",
		"cc-" + id + "-" + parent + "-01later":                 "",
		"ff-" + id + "-" + parent + "-01":                      "",
		"00-" + strings.ToUpper(id) + "-" + parent + "-01":     "",
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01": "",
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":     "",
		"00-" + id + "-" + parent + "-0g":                      "",
		"00-" + id[1:] + "-0" + parent + "-01":                 "",
		"00-" + id + "\n-" + parent[1:] + "-01":                "",
		id:                                                     "", "": "",
	} {
		if got := payment.ParseTrace(header); got.ID != want {
			t.Errorf("%q is of %q, want %q", header, got.ID, want)
		}
	}
	got := payment.ParseTrace("00-" + id + "-" + parent + "-01")
	on := got.Header()
	if payment.ParseTrace(on) != got || strings.Contains(on, parent) || on == got.Header() {
		t.Errorf("handed on as %s", on)
	}
	if h := (payment.Trace{}).Header(); h != "" {
		t.Errorf("no trace is handed on as %q", h)
	}
}

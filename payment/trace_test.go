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

// A trace that is kept with an order is read back as it was, and an id that only looks like one is none: a proxy's
// request ids have 32 digits too.
func TestTraceIsKept(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, flags := range []string{"00", "01", "03"} {
		got := payment.ParseTrace("00-" + id + "-00f067aa0ba902b7-" + flags)
		if got.Mark() != id+"-"+flags || payment.MarkedTrace("web/request/"+got.Mark()) != got {
			t.Errorf("%s is kept as %q and read as %v", flags, got.Mark(), payment.MarkedTrace("r/"+got.Mark()))
		}
	}
	if mark := (payment.Trace{}).Mark(); mark != "" {
		t.Errorf("no trace is kept as %q", mark)
	}
	for _, text := range []string{"", "/", "request", id, id + "-01", "web/" + id, "web/" + id + "-",
		"web/" + id + "-0", "web/" + id + "-01-02", "web/" + id + "-0g", "web/" + id[1:] + "-01", id + "-01/request",
		"web/" + strings.Repeat("0", 32) + "-01"} {
		if got := payment.MarkedTrace(text); got != (payment.Trace{}) {
			t.Errorf("%q is of %v", text, got)
		}
	}
}

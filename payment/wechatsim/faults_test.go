package wechatsim_test

import (
	"strings"
	"testing"
	"time"

	"orderd/payment/wechatsim"
)

// Without faults that do exactly what they say (and no more than count times),
// a test of lost answers proves nothing about lost answers.
func TestFaultsOfAnswers(t *testing.T) {
	tests := []struct {
		name     string
		fault    wechatsim.Fault
		lost     bool // no answer arrives
		status   int
		verifies bool
		state    wechatsim.State // after the close that met the fault
	}{
		{"cut before", wechatsim.Fault{Kind: "cut_before"}, true, 0, false, wechatsim.StateNotPay},
		{"cut after", wechatsim.Fault{Kind: "cut_after"}, true, 0, false, wechatsim.StateClosed},
		{"timeout", wechatsim.Fault{Kind: "timeout", DelayMS: 30}, true, 0, false, wechatsim.StateClosed},
		{"delay", wechatsim.Fault{Kind: "delay", DelayMS: 30}, false, 204, true, wechatsim.StateClosed},
		{"429", wechatsim.Fault{Kind: "status", Status: 429}, false, 429, true, wechatsim.StateNotPay},
		{"202", wechatsim.Fault{Kind: "status", Status: 202}, false, 202, true, wechatsim.StateNotPay},
		{"403", wechatsim.Fault{Kind: "status", Status: 403, Code: "TRADE_ERROR"}, false, 403, true,
			wechatsim.StateNotPay},
		{"500", wechatsim.Fault{Kind: "status", Status: 500}, false, 500, true, wechatsim.StateNotPay},
		{"401", wechatsim.Fault{Kind: "status", Status: 401}, false, 401, false, wechatsim.StateNotPay},
		{"502", wechatsim.Fault{Kind: "status", Status: 502}, false, 502, false, wechatsim.StateNotPay},
		{"bad signature", wechatsim.Fault{Kind: "bad_signature"}, false, 204, false, wechatsim.StateClosed},
		{"no signature", wechatsim.Fault{Kind: "no_signature"}, false, 204, false, wechatsim.StateClosed},
		{"old timestamp", wechatsim.Fault{Kind: "old_timestamp"}, false, 204, false, wechatsim.StateClosed},
		{"unknown serial", wechatsim.Fault{Kind: "unknown_serial"}, false, 204, false, wechatsim.StateClosed},
		{"paid first", wechatsim.Fault{Kind: "paid_first"}, false, 400, true, wechatsim.StateSuccess},
		{"not closed", wechatsim.Fault{Kind: "not_closed"}, false, 204, true, wechatsim.StateNotPay},
	}
	b := start(t, wechatsim.Options{})
	c := b.officialClient(true)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			no, other := "FAULT-"+string(rune('A'+i)), "OTHER-"+string(rune('A'+i))
			b.prepay(no, nil).want(t, 200, "")
			b.prepay(other, nil).want(t, 200, "")
			f := test.fault
			f.Endpoint, f.OutTradeNo, f.Count = "close", no, 1
			must(t, b.sim.AddFault(f))
			b.close(other).want(t, 204, "") // another trade is left alone
			began := time.Now()
			got := b.close(no)
			if test.lost != (got.err != nil) {
				t.Fatalf("answer lost %v, want %v: %+v", got.err, test.lost, got)
			}
			if took := time.Since(began); took < time.Duration(f.DelayMS)*time.Millisecond {
				t.Errorf("took %v only", took)
			}
			if got.status != test.status || !test.lost && c.verified(got) != test.verifies {
				t.Errorf("status %d, verified %v; want %d, %v: %s", got.status, c.verified(got), test.status,
					test.verifies, got.body)
			}
			if v := b.trade(no); v.State != test.state {
				t.Errorf("trade is %s, want %s", v.State, test.state)
			}
			if left := b.sim.Faults(); len(left) != 0 {
				t.Errorf("the fault was to happen once: %+v", left)
			}
			if again := b.close(no); again.err != nil || !c.verified(again) {
				t.Errorf("the call after the fault: %+v", again)
			}
		})
	}
}

// Without bytes before the cut Go's client would silently repeat a query on a
// reused connection, and the fault would vanish.
func TestCutQueryIsNotRepeatedByTheClient(t *testing.T) {
	b := start(t, wechatsim.Options{})
	b.prepay("CUTQUERY", nil).want(t, 200, "") // the connection is warm now
	must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "query", Kind: "cut_before", Count: 1}))
	if r := b.query("CUTQUERY"); r.err == nil {
		t.Errorf("the cut was not seen: %d", r.status)
	}
	b.query("CUTQUERY").want(t, 200, "")
}

// Without a 502 in HTML a client that decodes every body as JSON is never tried.
func TestGatewayErrorsAreHTML(t *testing.T) {
	b := start(t, wechatsim.Options{})
	must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "query", Kind: "status", Status: 502}))
	r := b.query("NOSUCH01").want(t, 502, "")
	if !strings.HasPrefix(string(r.body), "<html>") || r.header.Get("Content-Type") != "text/html" {
		t.Errorf("%s %s", r.header.Get("Content-Type"), r.body)
	}
	b.sim.ClearFaults()
	b.query("NOSUCH01").want(t, 404, "ORDER_NOT_EXIST")
}

// Without the share, a demo could have a fault always or never.
func TestPercent(t *testing.T) {
	b := start(t, wechatsim.Options{Seed: 42})
	b.prepay("PERCENT1", nil).want(t, 200, "")
	must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "query", OutTradeNo: "*", Kind: "status", Status: 429,
		Percent: 30}))
	failed := 0
	for range 200 {
		if b.query("PERCENT1").status == 429 {
			failed++
		}
	}
	if failed < 30 || failed > 90 {
		t.Errorf("%d of 200 failed, about 60 are wanted", failed)
	}
}

// Without a strict grammar a mistyped fault on a command line would do nothing,
// and the day would look calm.
func TestParseFault(t *testing.T) {
	good := map[string]wechatsim.Fault{
		"close=timeout:10%":  {Endpoint: "close", OutTradeNo: "*", Kind: "timeout", Percent: 10},
		"close=cut_after:5%": {Endpoint: "close", OutTradeNo: "*", Kind: "cut_after", Percent: 5},
		"notify=drop:0.5%":   {Endpoint: "notify", OutTradeNo: "*", Kind: "drop", Percent: 0.5},
		"prepay=delay:300ms:x2": {Endpoint: "prepay", OutTradeNo: "*", Kind: "delay", DelayMS: 300,
			Count: 2},
		"close=status:429:FREQUENCY_LIMITED:20%": {Endpoint: "close", OutTradeNo: "*", Kind: "status", Status: 429,
			Code: "FREQUENCY_LIMITED", Percent: 20},
		"close=paid_first:@ORDER1-01": {Endpoint: "close", OutTradeNo: "ORDER1-01", Kind: "paid_first"},
		"refund=status:500":           {Endpoint: "refund", OutTradeNo: "*", Kind: "status", Status: 500},
	}
	for text, want := range good {
		if got, err := wechatsim.ParseFault(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	bad := map[string]string{ // text -> what the error must say
		"close":                   "ENDPOINT=KIND",
		"open=cut_after":          "prepay, query, close",
		"close=explode":           "cut_before, cut_after",
		"notify=paid_first":       "drop",
		"query=not_closed":        "paid_first",
		"close=delay":             "above 0",
		"close=delay:2m":          "up to 1m0s",
		"close=status":            "201 to 599",
		"close=status:200":        "201 to 599",
		"close=cut_after:110%":    "up to 100%",
		"close=cut_after:0%":      "above 0%",
		"close=cut_after:x0":      "x3",
		"close=cut_after:20ms":    "a share (10%)",
		"close=timeout:10":        "a duration (250ms)",
		"close=timeout:":          "does not fit",
		"close=cut_after:NOTHING": "does not fit",
	}
	for text, want := range bad {
		if _, err := wechatsim.ParseFault(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", text, err, want)
		}
	}
}

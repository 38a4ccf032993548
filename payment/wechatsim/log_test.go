package wechatsim_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"orderd/payment/wechatsim"
)

// Without a log that knows what really happened, nobody could judge whether
// stock was returned for money that arrived.
func TestLogIsAnOracle(t *testing.T) {
	var file bytes.Buffer
	b := start(t, wechatsim.Options{EffectsLog: &file})
	b.prepay("ORACLE01", nil).want(t, 200, "")
	must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "close", OutTradeNo: "ORACLE01", Kind: "paid_first", Count: 1}))
	must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "close", OutTradeNo: "ORACLE01", Kind: "cut_after", Count: 1}))
	must(t, b.sim.AddFault(wechatsim.Fault{Endpoint: "notify", Kind: "drop"}))
	if r := b.close("ORACLE01"); r.err == nil {
		t.Fatalf("answered %d, the answer was to be lost", r.status)
	}
	until(t, "the lost callback", func() bool { return len(events(b.sim, "ORACLE01", wechatsim.KindCallback)) == 1 })
	var story []string
	for i, e := range b.sim.Log(0) {
		if e.Seq != i+1 || e.At.IsZero() {
			t.Errorf("entry %d: %+v", i, e)
		}
		if e.OutTradeNo == "ORACLE01" && e.Kind != wechatsim.KindControl && e.Kind != wechatsim.KindCallback {
			story = append(story, strings.TrimSpace(fmt.Sprint(e.Kind, " ", e.Endpoint, e.Event, " ", e.State, " ",
				e.Code, " ", e.Faults)))
		}
	}
	want := []string{
		"effect created NOTPAY  []", "request prepay   []",
		"effect paid SUCCESS  []", "request close  ORDERPAID [paid_first cut_after]",
	}
	if !slices.Equal(story, want) {
		t.Errorf("story\n%s\nwant\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
	}
	last := b.sim.Log(0)
	if tail := b.sim.Log(last[len(last)-2].Seq); len(tail) != 1 || tail[0].Seq != last[len(last)-1].Seq {
		t.Errorf("since: %+v", tail)
	}
	b.sim.Close() // the writer has written all
	lines := 0
	for scan := bufio.NewScanner(&file); scan.Scan(); lines++ {
		var e wechatsim.Entry
		must(t, json.Unmarshal(scan.Bytes(), &e))
		if e.Seq != lines+1 {
			t.Errorf("line %d has number %d", lines+1, e.Seq)
		}
	}
	if lines != len(last) {
		t.Errorf("%d lines written, %d entries", lines, len(last))
	}
}

// Without a bound the log would grow with the load; without word of it a reader
// would take the rest for the whole.
func TestLogIsBoundedAndSaysSo(t *testing.T) {
	b := start(t, wechatsim.Options{})
	const more = 65_536 + 10
	for range more {
		b.sim.ClearFaults() // one entry each
	}
	got := b.sim.Log(0)
	if got[0].Kind != wechatsim.KindTruncated || got[0].Seq != 10 || len(got) != 65_537 || got[1].Seq != 11 ||
		got[65_536].Seq != more {
		t.Errorf("%d entries from %+v", len(got), got[0])
	}
	if all := b.sim.Log(20); all[0].Seq != 21 || all[0].Kind != wechatsim.KindControl {
		t.Errorf("nothing was cut for this reader: %+v", all[0])
	}
	if none := b.sim.Log(more + 5); len(none) != 0 {
		t.Errorf("from the future: %+v", none)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// Without care a full disk would stop the simulator.
func TestBrokenEffectsLogStopsNothing(t *testing.T) {
	b := start(t, wechatsim.Options{EffectsLog: brokenWriter{}})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { b.sim.ClearFaults(); _ = i })
	}
	wg.Wait()
	b.prepay("BROKEN01", nil).want(t, 200, "")
}

// Without the control surface shells, demos and other languages have no buyer.
func TestControlSurface(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{Speed: 1000}, true)
	b.open("CONTROL1", s)
	b.control("GET", "/trades/NOSUCH01", "").want(t, 404, "")
	b.control("POST", "/trades/NOSUCH01/pay", "").want(t, 404, "")
	b.control("POST", "/trades/CONTROL1/notify", `{"mode":"normal"}`).want(t, 409, "")
	b.control("POST", "/trades/CONTROL1/pay", `{"notfiy":true}`).want(t, 400, "")
	paid := b.control("POST", "/trades/CONTROL1/pay", `{"notify":true,"payer_total":100}`).want(t, 200, "")
	var v wechatsim.Trade
	must(t, json.Unmarshal(paid.body, &v))
	if v.State != wechatsim.StateSuccess || v.PayerTotal != 100 || v.TransactionID == "" {
		t.Errorf("%s", paid.body)
	}
	b.control("POST", "/trades/CONTROL1/pay", "").want(t, 409, "")
	until(t, "the callback", func() bool { return b.trade("CONTROL1").CallbacksAccepted == 1 })
	sent := b.control("POST", "/trades/CONTROL1/notify", `{"count":2,"mode":"forged"}`).want(t, 200, "")
	if string(sent.body) != `{"deliveries":[{"status":401},{"status":401}]}`+"\n" {
		t.Errorf("%s", sent.body)
	}
	// the fault as armed
	b.control("POST", "/faults", `{"endpoint":"close","out_trade_no":"*","kind":"status","status":429,`+
		`"code":"FREQUENCY_LIMITED","count":1}`).want(t, 201, "FREQUENCY_LIMITED")
	b.control("POST", "/faults", `{"endpoint":"close","kind":"explode"}`).want(t, 400, "")
	b.close("CONTROL1").want(t, 429, "FREQUENCY_LIMITED")
	b.close("CONTROL1").want(t, 400, "ORDERPAID")
	b.control("POST", "/faults", `{"endpoint":"close","kind":"cut_after"}`).want(t, 201, "")
	b.control("DELETE", "/faults", "").want(t, 204, "")
	b.close("CONTROL1").want(t, 400, "ORDERPAID")
	b.control("POST", "/clock", `{"speed":60}`).want(t, 200, "")
	b.control("POST", "/clock", `{"speed":0}`).want(t, 400, "")
	b.control("GET", "/log?since=x", "").want(t, 400, "")
	log := b.control("GET", "/log?since=1", "").want(t, 200, "")
	if lines := strings.Split(strings.TrimSpace(string(log.body)), "\n"); len(lines) != len(b.sim.Log(1)) ||
		!strings.Contains(lines[0], `"seq":2`) {
		t.Errorf("%d lines, the first is %s", len(lines), lines[0])
	}
}

// Without this a simulator that listens on every interface lets anybody on the
// network pay orders.
func TestControlIsForThisMachine(t *testing.T) {
	for _, open := range []bool{false, true} {
		b := start(t, wechatsim.Options{ControlAnywhere: open})
		for remote, wantLocal := range map[string]bool{"127.0.0.1:4000": true, "[::1]:4000": true,
			"192.0.2.7:4000": false, "nonsense": false} {
			r := httptest.NewRequest(http.MethodGet, "/control/faults", nil)
			r.RemoteAddr, r.Host = remote, "127.0.0.1"
			w := httptest.NewRecorder()
			b.sim.Handler().ServeHTTP(w, r)
			if got := w.Code == http.StatusOK; got != (wantLocal || open) {
				t.Errorf("from %s with ControlAnywhere %v: %d", remote, open, w.Code)
			}
		}
	}
}

package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/payment/wechatsim"
)

// A thin run that passes for green is worse than none: whatever is short must make it invalid, and a violation red.
func TestVerdict(t *testing.T) {
	full := func() *Report {
		return &Report{Options: Options{Orders: 10, Kills: 1, Faults: 2, MinRate: 50, Trials: 1}, Placed: 10,
			Rate: 50, ByKind: map[string]int{}, Trials: map[string]Trial{"B1": {Times: 1}, "B2": {Times: 1},
				"B3": {Times: 1}, "B4": {Times: 1}, "B5": {Times: 1}, "B6": {Times: 1}},
			Kills:    map[string]int{"api": 1},
			Faults:   map[string]int{"silence": 2},
			Complete: true, Invariants: 50, Happened: make([]Happened, len(needs))}
	}
	if err := full().verdict(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(r *Report){
		"orders":       func(r *Report) { r.Placed = 9 },
		"kills":        func(r *Report) { r.Kills = nil },
		"faults":       func(r *Report) { r.Faults["silence"] = 1 },
		"rate":         func(r *Report) { r.Rate = 49 },
		"a counter":    func(r *Report) { r.Happened[0].Need = 1 },
		"broken off":   func(r *Report) { r.Complete = false },
		"not counted":  func(r *Report) { r.Happened = nil },
		"not verified": func(r *Report) { r.Invariants = 0 },
		"cut short":    func(r *Report) { r.Cut = time.Hour },
		"a trial":      func(r *Report) { delete(r.Trials, "B3") },
	} {
		r := full()
		if spoil(r); !errors.Is(r.verdict(), ErrInvalid) {
			t.Errorf("%s: %v", name, r.verdict())
		}
	}
	r := full()
	if r.violated("V1: gone"); !errors.Is(r.verdict(), ErrViolation) || r.CaughtBy()[0] != "V1" {
		t.Error(r.verdict(), r.CaughtBy())
	}
}

// A thousand rows of one broken rule must not hide that a second rule is broken, and a run that the clock has ended
// must say so: what it did not do, it did not prove.
func TestReportCountsEveryKind(t *testing.T) {
	r := &Report{ByKind: map[string]int{}, Options: Options{Orders: 10}, Placed: 8, Cut: time.Hour}
	for range 1000 {
		r.violated("R1: %sREFUND_LOCAL_ONLY 42", openDifference)
	}
	r.violated("R1: %sAMOUNT_MISMATCH 43", openDifference)
	r.violated("R1: reconciling 2026-11-29 ended with 4: no")
	r.violated("verify: stock.conserved: 3 rows, such as x")
	r.violated("GET /v1/orders/1 answered 500: {}")
	r.violated("log of api1: \"panic\": at x")
	r.violated("placing c/v1 answered 404 SKU_NOT_FOUND")
	want := map[string]int{"R1 REFUND_LOCAL_ONLY": 1000, "R1 AMOUNT_MISMATCH": 1, "R1": 1, "stock.conserved": 1,
		"answer 500": 1, "assertion in the log": 1, "other": 1}
	if !maps.Equal(r.ByKind, want) || len(r.Violations) != maxOfKind+6 || r.Broken != 1006 {
		t.Errorf("%v, %d quoted", r.ByKind, len(r.Violations))
	}
	caught := []string{"R1", "stock.conserved", "answer 500", "assertion in the log"}
	if got := r.CaughtBy(); !slices.Equal(got, caught) {
		t.Error(got)
	}
	r.Verdict = r.verdict().Error()
	for _, say := range []string{"1006 times", "cut short by its limit of 1h0m0s", "8 of 10 orders"} {
		if !strings.Contains(r.Verdict, say) {
			t.Errorf("%q does not say %q", r.Verdict, say)
		}
	}
	var text strings.Builder
	r.Write(&text)
	for kind, n := range want {
		if line := fmt.Sprintf("| %s | %d |\n", kind, n); !strings.Contains(text.String(), line) {
			t.Errorf("no line %q in\n%s", line, &text)
		}
	}
}

// A trade that was closed and stands as payable would make every close a violation; one that is not known to be
// payable would let a broken close pass.
func TestTruthKnowsWhatCanBePaid(t *testing.T) {
	tr := &truth{open: map[string]time.Time{}, counts: map[string]int{}}
	at := time.Now()
	for i, e := range []wechatsim.Entry{
		{OutTradeNo: "a-01", State: wechatsim.StateNotPay}, {OutTradeNo: "b-01", State: wechatsim.StateNotPay},
		{OutTradeNo: "a-01", State: wechatsim.StateNotPay}, // issued again
		{OutTradeNo: "b-01", State: wechatsim.StateClosed},
		{OutTradeNo: "c-01", OutRefundNo: "R1", State: wechatsim.StateNotPay},
	} {
		e.Kind, e.At = wechatsim.KindEffect, at.Add(time.Duration(i)*time.Second)
		tr.count(e)
	}
	if got := tr.payable(); len(got) != 1 || got[0] != (openTrade{"a-01", at}) {
		t.Error(got)
	}
}

// Trials are spread over orders and faults, and all of them come.
func TestTrialsAreSpread(t *testing.T) {
	o := Options{Orders: 100, Kills: 10, Faults: 90, Trials: 2}
	n := newNemesis(nil, o, nil)
	var at []int
	for share := range 101 {
		for {
			if _, ok := n.nextTrial(o, float64(share)/100, share-10); !ok {
				break
			}
			n.trials++
			at = append(at, share)
		}
	}
	if len(at) != 11 || at[0] != 15 || at[10] != 98 { // faults lag behind by ten
		t.Error(at)
	}
	if _, ok := n.nextTrial(o, 1, 100); !ok || n.trialsLeft(o) != 1 {
		t.Error("the last one does not come")
	}
}

// A seed that is red has to bring the same faults again, and another one others; without a number all come.
func TestFaultsOfAGateAreDrawnBySeed(t *testing.T) {
	drawn := func(seed uint64, n int) (names []string) {
		o := Options{Gate: "redis", Seed: seed, SaleFaults: n}
		for _, f := range o.saleFaults() {
			names = append(names, f.name)
		}
		return names
	}
	all := drawn(1, 0)
	if len(all) != 21 || !slices.Equal(all, drawn(2, 0)) {
		t.Error(all)
	}
	six := drawn(1, 6)
	if len(six) != 6 || !slices.Equal(six, drawn(1, 6)) || slices.Equal(six, drawn(2, 6)) {
		t.Error(six)
	}
	slices.Sort(six)
	if len(slices.Compact(six)) != 6 {
		t.Error("one comes twice:", six)
	}
}

// What WeChat Pay saw is the evidence: a lie that was acknowledged, a lost answer and a repeat must not be
// overlooked.
func TestTruthTakesNote(t *testing.T) {
	tr, err := newTruth(filepath.Join(t.TempDir(), "truth.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tr.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, e := range []wechatsim.Entry{
		{Kind: wechatsim.KindCallback, OutTradeNo: "a-01", Status: 204, Detail: wechatsim.ModeForged},
		{Kind: wechatsim.KindCallback, OutTradeNo: "b-01", Status: 401, Detail: wechatsim.ModeForged},
		{Kind: wechatsim.KindCallback, OutTradeNo: "c-01", Status: 204, Detail: wechatsim.ModeNormal,
			Faults: []string{"signtest"}},
		{Kind: wechatsim.KindCallback, OutTradeNo: "d-01", TransactionID: "42", Status: 204,
			Detail: wechatsim.ModeNormal},
		{Kind: wechatsim.KindCallback, OutTradeNo: "d-01", TransactionID: "42", Status: 503,
			Detail: wechatsim.ModeNormal + ": x"},
		{Kind: wechatsim.KindRequest, Endpoint: "close", Faults: []string{wechatsim.FaultCutAfter}},
		{Kind: wechatsim.KindRequest, Endpoint: "query", Faults: []string{wechatsim.FaultCutAfter}},
	} {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
	}
	if len(tr.forged) != 2 || tr.counts["forged callback"] != 3 ||
		tr.counts["callback after it was acknowledged"] != 1 ||
		tr.counts["close answered, answer lost"] != 1 || len(tr.accepted) != 1 {
		t.Errorf("%+v %+v %+v", tr.forged, tr.counts, tr.accepted)
	}
	if got := <-tr.acked; got.transaction != "42" || len(tr.acked) != 0 {
		t.Error(got)
	}
}

// The simulator loses some answers on purpose, of the bill and of its file: a person would ask again, and a judge that
// does not calls that a difference.
func TestLostBillsAreAskedForAgain(t *testing.T) {
	for text, again := range map[string]bool{
		"orderd: wechat pay bill: unknown: no usable answer":      true,
		"orderd: wechat pay bill_file: unknown: no usable answer": true,
		"orderd: wechat pay bill: rejected":                       false,
		"orderd: database unavailable: unknown":                   false,
	} {
		if billUnknown.MatchString(text) != again {
			t.Errorf("%q", text)
		}
	}
}

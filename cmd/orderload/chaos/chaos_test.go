package chaos

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"orderd/payment/wechatsim"
)

// A thin run that passes for green is worse than none: whatever is short must make it invalid, and a violation red.
func TestVerdict(t *testing.T) {
	full := func() *Report {
		return &Report{Options: Options{Orders: 10, Kills: 1, Faults: 2, MinRate: 50}, Placed: 10, Rate: 50,
			Kills: map[string]int{"api": 1}, Faults: map[string]int{"silence": 2},
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

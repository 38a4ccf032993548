package wechatsim_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"orderd/payment/wechatsim"
)

// Without repeats until 200 or 204, and none after it, a merchant whose database
// was away for a minute could not be judged.
func TestRetriesUntilAccepted(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{Speed: 10_000}, true)
	s.answer = func(n int, _ notice) int { return []int{0, 500, 302, 401, 200}[min(n, 4)] }
	b.open("RETRY-01", s)
	must(t, b.sim.Pay("RETRY-01", wechatsim.PayOptions{Notify: true}))
	until(t, "an accepted callback", func() bool { return b.trade("RETRY-01").CallbacksAccepted == 1 })
	got := events(b.sim, "RETRY-01", wechatsim.KindCallback)
	if !slices.Equal(got, []string{"refused", "refused", "refused", "accepted"}) {
		t.Errorf("callbacks %v", got)
	}
	first := s.notices()[0]
	for _, n := range s.notices() {
		if n.err != nil || n.id != first.id {
			t.Errorf("a repeat: %+v", n)
		}
	}
}

// Without WeChat's own intervals the scaled ladder would flatter or strain a
// merchant: fifteen repeats, 24 h 4 min, never faster than scaled.
func TestLadder(t *testing.T) {
	const speed = 100_000 // the whole ladder in 0.9 s
	b, s := withShop(t, wechatsim.Options{Speed: speed}, true)
	s.answer = func(int, notice) int { return http.StatusInternalServerError }
	b.open("LADDER01", s)
	must(t, b.sim.Pay("LADDER01", wechatsim.PayOptions{Notify: true}))
	until(t, "the end of the ladder", func() bool {
		return slices.Contains(events(b.sim, "LADDER01",
			wechatsim.KindCallback), "given_up")
	})
	got := s.notices()
	seconds := []int{15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800, 10800, 10800, 21600, 21600}
	if len(got) != len(seconds)+1 {
		t.Fatalf("%d deliveries, want %d", len(got), len(seconds)+1)
	}
	total := 0
	for i, sec := range seconds {
		total += sec
		// From answer to next delivery; the clock of arrival is the test's, so only
		// the lower bound is exact.
		if gap, least := got[i+1].at.Sub(got[i].at), time.Duration(sec)*time.Second/speed; gap < least {
			t.Errorf("repeat %d came after %v, not before %v", i+1, gap, least)
		}
	}
	if total != 24*3600+4*60 {
		t.Errorf("the ladder of this test adds up to %d s", total)
	}
}

// Without faults on callbacks, lost and half-lost ones could not be played.
func TestFaultsOfCallbacks(t *testing.T) {
	tests := []struct {
		fault    wechatsim.Fault
		want     []string // events in the log
		received int
		believed int
	}{
		{wechatsim.Fault{Kind: "drop"}, []string{"lost"}, 0, 0},
		{wechatsim.Fault{Kind: "cut_before"}, []string{"cut_before", "accepted"}, 1, 1},
		{wechatsim.Fault{Kind: "cut_after"}, []string{"accepted", "accepted"}, 2, 2},
		{wechatsim.Fault{Kind: "status", Status: 500}, []string{"accepted", "accepted"}, 2, 2},
		{wechatsim.Fault{Kind: "bad_signature"}, []string{"refused", "accepted"}, 2, 1},
		{wechatsim.Fault{Kind: "no_signature"}, []string{"refused", "accepted"}, 2, 1},
		{wechatsim.Fault{Kind: "old_timestamp"}, []string{"refused", "accepted"}, 2, 1},
		{wechatsim.Fault{Kind: "unknown_serial"}, []string{"refused", "accepted"}, 2, 1},
		{wechatsim.Fault{Kind: "delay", DelayMS: 20}, []string{"accepted"}, 1, 1},
	}
	for _, test := range tests {
		t.Run(test.fault.Kind, func(t *testing.T) {
			b, s := withShop(t, wechatsim.Options{Speed: 10_000}, true)
			b.open("NFAULT01", s)
			f := test.fault
			f.Endpoint, f.Count = "notify", 1
			must(t, b.sim.AddFault(f))
			must(t, b.sim.Pay("NFAULT01", wechatsim.PayOptions{Notify: true}))
			until(t, "the callbacks", func() bool {
				return len(events(b.sim, "NFAULT01",
					wechatsim.KindCallback)) >= len(test.want)
			})
			if got := events(b.sim, "NFAULT01", wechatsim.KindCallback); !slices.Equal(got, test.want) {
				t.Errorf("callbacks %v, want %v", got, test.want)
			}
			believed := 0
			for _, n := range s.notices() {
				if n.err == nil {
					believed++
				}
			}
			if len(s.notices()) != test.received || believed != test.believed {
				t.Errorf("%d received, %d believed; want %d, %d", len(s.notices()), believed, test.received,
					test.believed)
			}
		})
	}
}

// Without each nastiness doing its own thing a nasty day is only noise.
func TestNastyCallbacks(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{Speed: 10_000, Nastiness: &wechatsim.Nastiness{
		DuplicateNotify: 1, SignTest: 1, NewNotifyID: 1, ReorderNotify: 1, DelayNotify: 1,
		MaxNotifyDelay: 20 * time.Second,
	}}, true)
	b.open("NASTY-01", s)
	must(t, b.sim.Pay("NASTY-01", wechatsim.PayOptions{Notify: true}))
	until(t, "two accepted callbacks", func() bool { return b.trade("NASTY-01").CallbacksAccepted == 2 })
	probes, ids := 0, map[string]bool{}
	for _, n := range s.notices() {
		if n.err != nil {
			probes++
			continue
		}
		ids[n.id] = true
	}
	if probes != 2 || len(ids) != 2 {
		t.Errorf("%d probes, %d ids; two of each are wanted", probes, len(ids))
	}
}

// Without a default that is nasty, tests would be kind unless somebody thinks of
// it; and Nasty must be off unless asked for.
func TestNastyByDefaultOnlyWhenAsked(t *testing.T) {
	lost := func(o wechatsim.Options) int {
		b, n := start(t, o), 0
		b.prepay("DEFAULT1", nil)
		for range 300 {
			if b.query("DEFAULT1").err != nil {
				n++
			}
		}
		return n
	}
	quick := wechatsim.DefaultNastiness()
	quick.MaxAnswerDelay = time.Millisecond
	if n := lost(wechatsim.Options{Seed: 7, Nastiness: &quick}); n == 0 || n > 30 {
		t.Errorf("%d of 300 answers lost, a few are wanted", n)
	}
	if n := lost(wechatsim.Options{Seed: 7}); n != 0 {
		t.Errorf("%d answers lost on a calm day", n)
	}
}

// Without the same decisions for the same seed a failed run could not be repeated.
func TestSeedRepeats(t *testing.T) {
	story := func(seed uint64) (lost []bool) {
		b := start(t, wechatsim.Options{Seed: seed, Nastiness: &wechatsim.Nastiness{LostAnswer: 0.5}})
		for range 40 {
			lost = append(lost, b.prepay("SEED-001", nil).err != nil)
		}
		return lost
	}
	if !slices.Equal(story(5), story(5)) {
		t.Error("one seed, two stories")
	}
	if slices.Equal(story(5), story(6)) {
		t.Error("two seeds, one story")
	}
}

// Without these options late, lost and multiplied callbacks would need a fault each.
func TestPayOptionsOfCallbacks(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{}, true)
	b.open("OPTION01", s)
	must(t, b.sim.Pay("OPTION01", wechatsim.PayOptions{Notify: true, NotifyCount: 3,
		NotifyDelay: 50 * time.Millisecond}))
	until(t, "three callbacks", func() bool { return b.trade("OPTION01").CallbacksAccepted == 3 })
	if wait := s.notices()[0].at.Sub(b.trade("OPTION01").SuccessTime); wait < 50*time.Millisecond {
		t.Errorf("the first callback came after %v", wait)
	}
	b.open("OPTION02", s)
	must(t, b.sim.Pay("OPTION02", wechatsim.PayOptions{Notify: true, DropNotify: true}))
	if got := events(b.sim, "OPTION02", wechatsim.KindCallback); !slices.Equal(got, []string{"lost"}) {
		t.Errorf("callbacks %v", got)
	}
	if err := b.sim.Pay("OPTION02", wechatsim.PayOptions{NotifyCount: 101}); err == nil ||
		errors.Is(err, wechatsim.ErrAlreadyPaid) {
		t.Errorf("a hundred and one callbacks: %v", err)
	}
}

// Without errors a test that notifies the wrong thing would wait for nothing.
func TestNotifyRefuses(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{}, true)
	b.open("UNPAID01", s)
	b.close("BURNED01").want(t, 204, "")
	for name, test := range map[string]struct {
		no   string
		o    wechatsim.NotifyOptions
		want error
	}{
		"unpaid":   {"UNPAID01", wechatsim.NotifyOptions{}, wechatsim.ErrNotPaid},
		"unknown":  {"NOSUCH01", wechatsim.NotifyOptions{}, wechatsim.ErrUnknownTrade},
		"burned":   {"BURNED01", wechatsim.NotifyOptions{Mode: "forged"}, wechatsim.ErrUnknownTrade},
		"mode":     {"UNPAID01", wechatsim.NotifyOptions{Mode: "loud"}, nil},
		"too many": {"UNPAID01", wechatsim.NotifyOptions{Mode: "forged", Count: 101}, nil},
	} {
		if err := b.sim.Notify(test.no, test.o); err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.notices()); n != 0 {
		t.Errorf("%d callbacks were sent", n)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	b.prepay("NOSHOP01", func(p map[string]any) { p["notify_url"] = gone.URL + "/n" }).want(t, 200, "")
	if err := b.sim.Notify("NOSHOP01", wechatsim.NotifyOptions{Mode: "forged"}); err == nil {
		t.Error("a merchant who is not there accepted a callback")
	}
}

// Without an end to what is pending, Close would hang for a day, and goleak in
// TestMain finds what it leaves behind.
func TestCloseEndsPendingDeliveries(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{}, true) // speed 1: the next repeat is 15 s away
	s.answer = func(int, notice) int { return 500 }
	b.open("PENDING1", s)
	must(t, b.sim.Pay("PENDING1", wechatsim.PayOptions{Notify: true}))
	until(t, "the first callback", func() bool { return len(s.notices()) == 1 })
	began := time.Now()
	b.sim.Close()
	b.sim.Close()
	if took := time.Since(began); took > 12*time.Second { // the next repeat would be 15 s away
		t.Errorf("Close took %v", took)
	}
	b.prepay("PENDING2", nil).want(t, 200, "")
	must(t, b.sim.Pay("PENDING2", wechatsim.PayOptions{Notify: true}))
	if got := events(b.sim, "PENDING2", wechatsim.KindCallback); !slices.Equal(got, []string{"lost"}) {
		t.Errorf("after Close: %v", got)
	}
}

// transport answers in place of a merchant.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Without WeChat's five seconds a merchant who answers late would pass here.
func TestDeliveryWaitsFiveSeconds(t *testing.T) {
	var left time.Duration
	late := transport(func(r *http.Request) (*http.Response, error) {
		deadline, _ := r.Context().Deadline()
		left = time.Until(deadline)
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	})
	b := start(t, wechatsim.Options{NotifyClient: &http.Client{Transport: late}})
	b.prepay("FIVESEC1", nil).want(t, 200, "")
	must(t, b.sim.Pay("FIVESEC1", wechatsim.PayOptions{}))
	must(t, b.sim.Notify("FIVESEC1", wechatsim.NotifyOptions{}))
	if left <= 3*time.Second || left > 5*time.Second {
		t.Errorf("the merchant has %v to answer, 5 s are WeChat's", left)
	}
}

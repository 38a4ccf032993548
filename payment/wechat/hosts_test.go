package wechat

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/payment"
	"orderd/payment/wechatsim"
)

// twoEntries is a stage whose WeChat Pay has two entries, and what was tried where.
type twoEntries struct {
	*stage
	main, second string
	mu           sync.Mutex
	tried        []string
}

func newTwoEntries(t *testing.T, timeout time.Duration) *twoEntries {
	t.Helper()
	e := &twoEntries{}
	e.stage = newStage(t, wechatsim.Options{RefuseReplay: true}, func(c *Config) {
		e.main, c.Timeout = c.BaseURL, timeout
	})
	other := httptest.NewServer(e.sim.SecondHandler())
	t.Cleanup(other.Close)
	e.second = other.URL
	k := simKeys().Client()
	e.gateway = mustNew(t, Config{
		MchID: k.MchID, AppID: k.AppID, SerialNo: k.SerialNo, PrivateKeyPEM: k.PrivateKeyPEM, APIv3Key: k.APIv3Key,
		VerifyKeys: k.VerifyKeys, BaseURL: e.main, SecondURL: e.second, Now: time.Now, Timeout: timeout,
		Tried: func(host, result string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			name := "main "
			if host == e.second {
				name = "second "
			}
			e.tried = append(e.tried, name+result)
		}})
	return e
}

func (e *twoEntries) set(t *testing.T, n int, fault string) {
	t.Helper()
	if err := e.sim.SetEntry(n, fault); err != nil {
		t.Fatal(err)
	}
}

// since gives what was tried since it was called last.
func (e *twoEntries) since() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	got := strings.Join(e.tried, ", ")
	e.tried = nil
	return got
}

// Without the other entry an outage of the main one stops every close, and with them all stock, although WeChat Pay
// works. With it each call is answered, and is one trade and one refund, also where the main entry had handled it.
func TestTheOtherEntryAnswers(t *testing.T) {
	for fault, result := range map[string]string{
		wechatsim.EntryCut: tryUnanswered, wechatsim.EntrySilent: tryUnanswered,
		wechatsim.EntryLost: tryUnanswered, wechatsim.EntryFails: tryFailed} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			e := newTwoEntries(t, time.Second)
			e.set(t, 1, fault)
			rescued := "main " + result + ", second answered"
			want := func(op, tried string, err error) {
				t.Helper()
				if got := e.since(); err != nil || got != tried {
					t.Errorf("%s: %v, tried %q, want %q", op, err, got, tried)
				}
			}
			a := e.attempt(payment.Native, "ENTRY-01")
			p, err := e.gateway.Prepay(t.Context(), a)
			want("prepay", rescued, err)
			if !p.Doubt {
				t.Error("a prepay that may still arrive elsewhere is certain")
			}
			_, err = e.gateway.Query(t.Context(), "ENTRY-01")
			want("query", rescued, err)
			if err := e.sim.Pay("ENTRY-01", wechatsim.PayOptions{}); err != nil {
				t.Fatal(err)
			}
			trade, _ := e.sim.Trade("ENTRY-01")
			_, err = e.gateway.Refund(t.Context(), payment.RefundRequest{OutRefundNo: "ENTRY-R1",
				TransactionID: trade.TransactionID, Amount: 100, Total: a.Amount})
			want("refund", rescued, err)
			if all := e.sim.Refunds(); len(all) != 1 {
				t.Errorf("%d refunds of one call", len(all))
			}
			// Three in a row were rescued: the other entry is asked first from here on.
			_, err = e.gateway.QueryRefund(t.Context(), "ENTRY-R1")
			want("refund query", "second answered", err)
			reply, err := e.gateway.Close(t.Context(), "ENTRY-02")
			want("close", "second answered", err)
			if reply.Answer != payment.CloseAccepted {
				t.Errorf("close: %+v", reply)
			}
		})
	}
}

// Where nothing listens nothing was sent: the answer of the other entry is as certain as any.
func TestAnEntryThatIsNotThere(t *testing.T) {
	e := newTwoEntries(t, time.Second)
	e.gateway.hosts.list[0] = "http://127.0.0.1:1"
	p, err := e.gateway.Prepay(t.Context(), e.attempt(payment.Native, "ENTRY-03"))
	if err != nil || p.Doubt || e.since() != "main unreachable, second answered" {
		t.Errorf("%+v %v", p, err)
	}
	e.gateway.hosts.list[1] = "http://127.0.0.1:1"
	_, err = e.gateway.Prepay(t.Context(), e.attempt(payment.Native, "ENTRY-03"))
	if g := (*payment.GatewayError)(nil); !errors.As(err, &g) || !g.NotSent || !payment.Ended(err) {
		t.Errorf("neither is there: %v", err)
	}
}

// What WeChat Pay has signed is its answer. Asking elsewhere until another comes would be forum shopping with money.
func TestSignedAnswersAreNotTriedElsewhere(t *testing.T) {
	e := newTwoEntries(t, time.Second)
	e.prepaid(t, "ENTRY-04")
	e.since()
	for _, f := range []wechatsim.Fault{{Status: 500}, {Status: 403, Code: "NO_AUTH"}, {Status: 404}, {Status: 202},
		{Status: 429}, {Status: 401}, {Status: 400, Code: "ORDERPAID"}} {
		f.Endpoint, f.Kind, f.Count = "close", wechatsim.FaultStatus, 1
		if err := e.sim.AddFault(f); err != nil {
			t.Fatal(err)
		}
		_, _ = e.gateway.Close(t.Context(), "ENTRY-04")
		if got := e.since(); got != "main answered" {
			t.Errorf("%d %s: tried %q", f.Status, f.Code, got)
		}
	}
	if err := e.sim.AddFault(wechatsim.Fault{Endpoint: "close", Kind: wechatsim.FaultUnknownSerial}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.gateway.Close(t.Context(), "ENTRY-04"); err == nil || e.since() != "main answered" {
		t.Errorf("a key that is not configured is not an entry's failure: %v", err)
	}
}

// The first try may arrive after the second was refused: then nothing has ended, and no other number may be used.
func TestARefusalAfterALostTryEndsNothing(t *testing.T) {
	e := newTwoEntries(t, time.Second)
	e.set(t, 1, wechatsim.EntrySilent)
	for _, f := range []wechatsim.Fault{{Endpoint: "prepay", Status: 400, Code: "PARAM_ERROR"},
		{Endpoint: "refund", Status: 400, Code: "INVALID_REQUEST"}, {Endpoint: "prepay", Status: 403,
			Code: "NO_AUTH"}} {
		f.Kind, f.Count = wechatsim.FaultStatus, 1
		if err := e.sim.AddFault(f); err != nil {
			t.Fatal(err)
		}
		e.gateway.hosts.first, e.gateway.hosts.rescued = 0, 0
		var err error
		if f.Endpoint == "prepay" {
			_, err = e.gateway.Prepay(t.Context(), e.attempt(payment.Native, "ENTRY-05"))
		} else {
			_, err = e.gateway.Refund(t.Context(), payment.RefundRequest{OutRefundNo: "ENTRY-R5",
				TransactionID: "4200001234202611201234567890", Amount: 100, Total: 100})
		}
		want := payment.KindUnknown
		if f.Code == "NO_AUTH" {
			want = payment.KindMisconfigured
		}
		if g := (*payment.GatewayError)(nil); payment.KindOf(err) != want || payment.Ended(err) ||
			!errors.As(err, &g) || g.Code != f.Code {
			t.Errorf("%s %s: %v, ended %v", f.Endpoint, f.Code, err, payment.Ended(err))
		}
	}
}

// A caller that hangs up is no sign that an entry is down.
func TestHangingUpBlamesNoEntry(t *testing.T) {
	e := newTwoEntries(t, 5*time.Second)
	e.set(t, 1, wechatsim.EntrySilent)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for range 5 {
		_, _ = e.gateway.Query(ctx, "ENTRY-06")
	}
	if got := e.since(); strings.Contains(got, "second") || e.gateway.hosts.first != 0 || e.gateway.hosts.rescued != 0 {
		t.Errorf("tried %q, first %d", got, e.gateway.hosts.first)
	}
}

// The memory changes late and comes back late, so that it does not flap; and it does not stay away for good.
func TestMemoryOfEntries(t *testing.T) {
	now := time.Unix(1e9, 0)
	h := &hosts{list: []string{"m", "s"}, now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	first := func(op string, want ...int) {
		t.Helper()
		if got := h.sequence(op); !slices.Equal(got, want) {
			t.Errorf("%s tries %v, want %v", op, got, want)
		}
	}
	h.ended(0, false, true)
	h.ended(0, false, true)
	h.ended(0, true, false) // an answer between: no outage
	h.ended(0, false, true)
	h.ended(0, false, true)
	first(opClose, 0, 1)
	for range 9 {
		h.ended(0, false, false) // both are down: changing helps nobody
	}
	first(opClose, 0, 1)
	h.ended(0, false, true)
	first(opClose, 1, 0)
	first(opQuery, 1, 0) // no probe yet
	for i := range recovered {
		now = now.Add(probeEvery)
		first(opClose, 1, 0) // what changes something never probes
		first(opQuery, 0, 1)
		first(opQuery, 1, 0) // one probe at a time
		h.ended(0, true, false)
		if i == 0 {
			h.ended(0, false, true) // a bad one begins anew
			h.ended(0, true, false)
		}
	}
	first(opClose, 0, 1)
}

// The two entries of production are there without a setting; one that is configured has no other unless it is named.
func TestEntriesOfTheConfiguration(t *testing.T) {
	for _, tc := range []struct {
		base, second string
		want         []string
	}{
		{"", "", []string{"https://api.mch.weixin.qq.com", "https://api2.mch.weixin.qq.com"}},
		{"https://pay.example.com", "", []string{"https://pay.example.com"}},
		{"http://127.0.0.1:7", "http://127.0.0.1:8/", []string{"http://127.0.0.1:7", "http://127.0.0.1:8"}},
		{"https://pay.example.com", "http://127.0.0.1:8", nil},
		{"https://pay.example.com", "http://other.example.com", nil},
	} {
		c := testConfig()
		c.BaseURL, c.SecondURL = tc.base, tc.second
		g, err := New(c)
		if (err == nil) != (tc.want != nil) || err == nil && !slices.Equal(g.hosts.list, tc.want) {
			t.Errorf("%q %q: %v", tc.base, tc.second, err)
		}
	}
}

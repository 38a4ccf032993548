package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"orderd/payment"
	"orderd/payment/wechatsim"
)

// This file drives the gateway against the simulator, which shares no code
// with it: what both agree on is not a mistake that one of them makes alone.

var simKeys = sync.OnceValue(func() *wechatsim.Keys {
	k, err := wechatsim.GenerateKeys("1900007291", "wxd678efh567hg6787")
	if err != nil {
		panic(err)
	}
	return k
})

// stage is a simulator, a gateway towards it, and a shop that takes callbacks.
type stage struct {
	sim     *wechatsim.Sim
	gateway *Gateway
	heard   chan result // of each callback; as many as any test sends
	shopURL string
}

type result struct {
	n   payment.Notification
	err error
}

func newStage(t *testing.T, o wechatsim.Options, change func(*Config)) *stage {
	t.Helper()
	o.Keys, o.Now, o.Speed = simKeys(), time.Now, 1e6
	sim, err := wechatsim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(sim.Handler())
	k := simKeys().Client()
	c := Config{
		MchID: k.MchID, AppID: k.AppID, SerialNo: k.SerialNo, PrivateKeyPEM: k.PrivateKeyPEM, APIv3Key: k.APIv3Key,
		VerifyKeys: k.VerifyKeys, BaseURL: api.URL, Now: time.Now,
	}
	if change != nil {
		change(&c)
	}
	s := &stage{sim: sim, gateway: mustNew(t, c), heard: make(chan result, 1024)}
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(io.LimitReader(r.Body, MaxNotification+1))
		if err != nil {
			return
		}
		n, err := s.gateway.ParseNotification(r.Header, raw)
		status := http.StatusNoContent
		if err != nil {
			status = http.StatusUnauthorized
		}
		w.WriteHeader(status)
		s.heard <- result{n, err}
	}))
	s.shopURL = shop.URL + "/wechat/v3/notify/payment"
	t.Cleanup(func() { sim.Close(); api.Close(); shop.Close() })
	return s
}

func (s *stage) attempt(tt payment.TradeType, no string) payment.Attempt {
	a := testAttempt(tt)
	a.OutTradeNo, a.NotifyURL = no, s.shopURL
	a.TimeExpire = time.Now().Add(30 * time.Minute).Format(time.RFC3339)
	return a
}

func (s *stage) prepaid(t *testing.T, no string) payment.Attempt {
	t.Helper()
	a := s.attempt(payment.Native, no)
	if _, err := s.gateway.Prepay(t.Context(), a); err != nil {
		t.Fatalf("prepay %s: %v", no, err)
	}
	return a
}

// next waits for one callback.
func (s *stage) next(t *testing.T) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case r := <-s.heard:
		return r
	case <-ctx.Done():
		t.Fatal("no callback within a minute")
		return result{}
	}
}

// A whole life of a trade: whatever the two sides do not agree on would show
// here before it shows with money.
func TestSimulatorLife(t *testing.T) {
	for _, tt := range []payment.TradeType{payment.Native, payment.JSAPI, payment.H5, payment.App} {
		t.Run(string(tt), func(t *testing.T) {
			s := newStage(t, wechatsim.Options{}, nil)
			no := "LIFE-" + string(tt) + "-01"
			a := s.attempt(tt, no)
			a.Description = "杯子🎁" // the simulator refuses emoji as WeChat does
			for range 2 {
				if _, err := s.gateway.Prepay(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			other := a
			other.Amount++
			_, err := s.gateway.Prepay(t.Context(), other)
			wantRejected(t, "other parameters", err, "INVALIDREQUEST")
			if tr, err := s.gateway.Query(t.Context(), no); err != nil || tr.State != payment.TradeNotPay {
				t.Errorf("open: %+v, %v", tr, err)
			}
			if err := s.sim.Pay(no, wechatsim.PayOptions{Notify: true, PayerTotal: 39000}); err != nil {
				t.Fatal(err)
			}
			told := s.next(t)
			asked, err := s.gateway.Query(t.Context(), no)
			if told.err != nil || err != nil {
				t.Fatalf("callback %v, query %v", told.err, err)
			}
			asked.RequestID = ""
			if told.n.Trade != asked || asked.State != payment.TradeSuccess || asked.Total != 39800 ||
				asked.PayerTotal != payment.Said(39000) || asked.MchID != "1900007291" {
				t.Errorf("callback %+v\nquery    %+v", told.n.Trade, asked)
			}
			if r, err := s.gateway.Close(t.Context(), no); err != nil || r.Answer != payment.ClosePaid {
				t.Errorf("close of a paid trade: %+v, %v", r, err)
			}
			_, err = s.gateway.Prepay(t.Context(), a)
			wantRejected(t, "prepay of a paid trade", err, "ORDERPAID")
		})
	}
}

func wantRejected(t *testing.T, what string, err error, code string) {
	t.Helper()
	var ge *payment.GatewayError
	if !errors.As(err, &ge) || ge.Kind != payment.KindRejected || ge.RequestID == "" || normalised(ge.Code) != code {
		t.Errorf("%s: %#v, want rejected %s", what, err, code)
	}
}

func normalised(code string) string {
	var out []rune
	for _, r := range code {
		if r != '_' {
			out = append(out, r)
		}
	}
	return string(out)
}

// Closing decides over stock: open, closed, never seen and paid must come
// back as four different things, in every spelling and status.
func TestSimulatorClose(t *testing.T) {
	s := newStage(t, wechatsim.Options{}, nil)
	a := s.prepaid(t, "CLOSE-OPEN-01")
	for range 2 {
		if r, err := s.gateway.Close(t.Context(), a.OutTradeNo); err != nil || r.Answer != payment.CloseAccepted {
			t.Errorf("open: %+v, %v", r, err)
		}
	}
	if tr, err := s.gateway.Query(t.Context(), a.OutTradeNo); err != nil || tr.State != payment.TradeClosed {
		t.Errorf("after close: %+v, %v", tr, err)
	}
	_, err := s.gateway.Prepay(t.Context(), a)
	wantRejected(t, "prepay after close", err, "ORDERCLOSED")

	if r, err := s.gateway.Close(t.Context(), "CLOSE-NEVER-01"); err != nil || r.Answer != payment.CloseAccepted {
		t.Errorf("never seen: %+v, %v", r, err)
	}
	_, err = s.gateway.Prepay(t.Context(), s.attempt(payment.Native, "CLOSE-NEVER-01"))
	wantRejected(t, "prepay of a burned number", err, "INVALIDREQUEST")
	if tr, err := s.gateway.Query(t.Context(), "CLOSE-NOBODY-01"); err != nil || tr.State != payment.TradeNotFound {
		t.Errorf("query of an unseen number: %+v, %v", tr, err)
	}

	for _, o := range []wechatsim.Options{{}, {PaidCode: "ORDER_PAID"}, {PaidCode: "ORDER_PAID", PaidStatus: 403}} {
		s := newStage(t, o, nil)
		s.prepaid(t, "CLOSE-PAID-01")
		if err := s.sim.Pay("CLOSE-PAID-01", wechatsim.PayOptions{}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.gateway.Close(t.Context(), "CLOSE-PAID-01"); err != nil || r.Answer != payment.ClosePaid {
			t.Errorf("paid %+v: %+v, %v", o, r, err)
		}
	}
	strict := newStage(t, wechatsim.Options{UnknownCloseNotFound: true}, nil)
	if r, err := strict.gateway.Close(t.Context(), "CLOSE-NEVER-02"); err != nil || r.Answer != payment.CloseNotFound {
		t.Errorf("never seen, 404: %+v, %v", r, err)
	}
}

// A lost, late, forged or refused answer to a close must never be read as one.
func TestSimulatorFaultsOnClose(t *testing.T) {
	s := newStage(t, wechatsim.Options{}, func(c *Config) { c.Timeout = 500 * time.Millisecond })
	for i, tc := range []struct {
		fault  wechatsim.Fault
		answer payment.CloseAnswer
		kind   payment.Kind
	}{
		{wechatsim.Fault{Kind: wechatsim.FaultDelay, DelayMS: 20}, payment.CloseAccepted, 0},
		{wechatsim.Fault{Kind: wechatsim.FaultTimeout}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultCutBefore}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultCutAfter}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultBadSignature}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultNoSignature}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultOldTimestamp}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultUnknownSerial}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultPaidFirst}, payment.ClosePaid, 0},
		{wechatsim.Fault{Kind: wechatsim.FaultNotClosed}, payment.CloseAccepted, 0}, // only a query can tell
		{wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: 202}, 0, payment.KindUserPaying},
		{wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: 400, Code: "ORDER_CLOSED"}, payment.CloseAlreadyClosed,
			0},
		{wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: 401}, 0, payment.KindMisconfigured},
		{wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: 403, Code: "TRADE_ERROR"}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: 404, Code: "ORDER_NOT_EXIST"}, payment.CloseNotFound, 0},
		{wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: 429}, 0, payment.KindRateLimited},
		{wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: 500}, 0, payment.KindUnknown},
		{wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: 502}, 0, payment.KindUnknown},
	} {
		no := fmt.Sprintf("FAULT-%02d-01", i)
		s.prepaid(t, no)
		f := tc.fault
		f.Endpoint, f.OutTradeNo, f.Count = "close", no, 1
		if err := s.sim.AddFault(f); err != nil {
			t.Fatal(err)
		}
		r, err := s.gateway.Close(t.Context(), no)
		switch {
		case tc.answer != 0 && (err != nil || r.Answer != tc.answer):
			t.Errorf("%+v: %+v, %v", f, r, err)
		case tc.answer == 0 && (err == nil || payment.KindOf(err) != tc.kind):
			t.Errorf("%+v: %+v, %v, want %s", f, r, err, tc.kind)
		}
		// Whatever was lost, asking again tells what is true.
		tr, err := s.gateway.Query(t.Context(), no)
		truth, _ := s.sim.Trade(no)
		if err != nil || string(tr.State) != string(truth.State) {
			t.Errorf("%+v: query says %s (%v), the simulator has %s", f, tr.State, err, truth.State)
		}
	}
}

// Prepay and query share the transport, but a fault there must not pass either.
func TestSimulatorFaultsOnPrepayAndQuery(t *testing.T) {
	s := newStage(t, wechatsim.Options{}, func(c *Config) { c.Timeout = 500 * time.Millisecond })
	for i, kind := range []string{
		wechatsim.FaultTimeout, wechatsim.FaultCutBefore, wechatsim.FaultCutAfter, wechatsim.FaultBadSignature,
		wechatsim.FaultNoSignature, wechatsim.FaultOldTimestamp, wechatsim.FaultUnknownSerial,
	} {
		a := s.attempt(payment.JSAPI, fmt.Sprintf("FAULTPQ-%02d-01", i))
		for _, endpoint := range []string{"prepay", "query"} {
			if err := s.sim.AddFault(wechatsim.Fault{Endpoint: endpoint, OutTradeNo: a.OutTradeNo, Kind: kind,
				Count: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := s.gateway.Prepay(t.Context(), a); payment.KindOf(err) != payment.KindUnknown ||
			p != (payment.Prepaid{}) {
			t.Errorf("%s on prepay: %+v, %v", kind, p, err)
		}
		if _, err := s.gateway.Prepay(t.Context(), a); err != nil {
			t.Errorf("%s on prepay, repeated with the same parameters: %v", kind, err)
		}
		if tr, err := s.gateway.Query(t.Context(), a.OutTradeNo); payment.KindOf(err) != payment.KindUnknown ||
			tr != (payment.Trade{}) {
			t.Errorf("%s on query: %+v, %v", kind, tr, err)
		}
		if tr, err := s.gateway.Query(t.Context(), a.OutTradeNo); err != nil || tr.State != payment.TradeNotPay {
			t.Errorf("%s on query, repeated: %+v, %v", kind, tr, err)
		}
	}
}

// A callback that lies about its sender must be refused; one that lies about
// its facts is WeChat's own and is handed on with the facts to compare.
func TestSimulatorNotifications(t *testing.T) {
	s := newStage(t, wechatsim.Options{}, nil)
	s.prepaid(t, "NOTIFY-01")
	if err := s.sim.Pay("NOTIFY-01", wechatsim.PayOptions{}); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]error{
		wechatsim.ModeNormal: nil, wechatsim.ModeWrongAmount: nil, wechatsim.ModeWrongMchID: nil,
		wechatsim.ModeWrongAppID: nil, wechatsim.ModeSignTest: payment.ErrProbe, wechatsim.ModeOldTimestamp: errSkew,
		wechatsim.ModeForged: errBadSig, wechatsim.ModeUnknown: payment.ErrBadSignature,
		wechatsim.ModeNoSignature: errHeaders,
		wechatsim.ModeTruncated:   payment.ErrMalformed,
	} {
		if err := s.sim.Notify("NOTIFY-01", wechatsim.NotifyOptions{Mode: mode}); err != nil {
			t.Fatal(err)
		}
		r := s.next(t)
		if want != nil {
			if !errors.Is(r.err, want) || r.n != (payment.Notification{}) {
				t.Errorf("%s: %+v, %v", mode, r.n, r.err)
			}
			continue
		}
		tr := r.n.Trade
		honest := tr.Total == 39800 && tr.MchID == "1900007291" && tr.AppID == "wxd678efh567hg6787"
		if r.err != nil || tr.OutTradeNo != "NOTIFY-01" || honest != (mode == wechatsim.ModeNormal) {
			t.Errorf("%s: %+v, %v", mode, tr, r.err)
		}
	}
}

// In a rotation WeChat signs with any of its keys, callbacks and answers
// alike: a gateway that believes only one of them stops for days.
func TestSimulatorRotation(t *testing.T) {
	for id := range simKeys().Client().VerifyKeys {
		s := newStage(t, wechatsim.Options{CallbackSerial: id, GreyRatio: 0.5, Seed: 7},
			func(c *Config) { c.ResponseKeyID = id })
		s.prepaid(t, "ROTATE-01")
		if err := s.sim.Pay("ROTATE-01", wechatsim.PayOptions{}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := s.sim.Notify("ROTATE-01", wechatsim.NotifyOptions{}); err != nil {
				t.Fatal(err)
			}
			if r := s.next(t); r.err != nil {
				t.Errorf("callback while %s is in use: %v", id, r.err)
			}
		}
	}
}

// The race the whole project is about: a buyer pays while we close. Whatever
// the gateway reports as definite must be what the simulator knows to be true.
func TestSimulatorPayAgainstClose(t *testing.T) {
	s := newStage(t, wechatsim.Options{Nasty: true, Seed: 11}, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	const trades = 100
	slots := make(chan struct{}, 8) // two cores: more at once only makes time-outs
	for i := range trades {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			no := fmt.Sprintf("RACE-%03d-01", i)
			a := s.attempt(payment.Native, no)
			for range 5 { // nasty: answers get lost
				if _, err := s.gateway.Prepay(t.Context(), a); err == nil {
					break
				}
			}
			var both sync.WaitGroup
			pay := func() { _ = s.sim.Pay(no, wechatsim.PayOptions{}) } // an error is the buyer losing
			switch i % 4 {
			case 0: // so that both outcomes happen in every run
				pay()
			case 1:
			default:
				both.Go(pay)
			}
			r, err := s.gateway.Close(t.Context(), no)
			both.Wait()
			truth, _ := s.sim.Trade(no)
			paid := truth.State == wechatsim.StateSuccess
			if err == nil && (r.Answer == payment.CloseAccepted && paid || r.Answer == payment.ClosePaid && !paid) {
				t.Errorf("%s: close says %s, the simulator %s", no, r.Answer, truth.State)
			}
			mu.Lock()
			seen[fmt.Sprintf("%s, %v", r.Answer, err != nil)]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if seen["accepted, false"] == 0 || seen["paid, false"] == 0 {
		t.Errorf("the race never happened: %v", seen)
	}
	t.Logf("seed 11: %v", seen)
}

// A card that WeChat cannot decrypt, or one in the clear, would only show with a buyer's money: the simulator decrypts
// under the key that the request names, in both kinds of keys.
func TestSimulatorAbnormalRefund(t *testing.T) {
	k := simKeys().Client()
	for id := range k.VerifyKeys {
		s := newStage(t, wechatsim.Options{NoSpacing: true}, func(c *Config) { c.ResponseKeyID = id })
		a := s.prepaid(t, "ABNORMAL-01")
		if err := s.sim.Pay(a.OutTradeNo, wechatsim.PayOptions{}); err != nil {
			t.Fatal(err)
		}
		paid, err := s.gateway.Query(t.Context(), a.OutTradeNo)
		if err != nil {
			t.Fatal(err)
		}
		card := payment.BankCard{BankType: "ICBC_DEBIT", Account: "6222020000000000403", RealName: "张三"}
		for no, to := range map[string]payment.CardOwner{"RA1": payment.CardOfMerchant, "RA2": payment.CardOfUser} {
			q := payment.RefundRequest{OutRefundNo: no, TransactionID: paid.TransactionID, Amount: 100,
				Total: paid.Total}
			if err := s.sim.SetRefundOutcome(no, wechatsim.StateAbnormal, time.Hour); err != nil {
				t.Fatal(err)
			}
			r, err := s.gateway.Refund(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			ask := payment.AbnormalRequest{OutRefundNo: no, RefundID: r.RefundID, TransactionID: paid.TransactionID,
				Amount: 100, Total: paid.Total, To: to}
			if to == payment.CardOfUser {
				ask.Card = card
			}
			_, err = s.gateway.AbnormalRefund(t.Context(), ask)
			wantRejected(t, "one that is under way", err, "INVALIDREQUEST")
			if err := s.sim.SetRefundOutcome(no, wechatsim.StateAbnormal, 0); err != nil {
				t.Fatal(err)
			}
			got, err := s.gateway.AbnormalRefund(t.Context(), ask)
			v, _ := s.sim.Refund(no)
			if err != nil || got.Status != payment.RefundProcessing || got.RequestID == "" || v.Card != string(to) {
				t.Errorf("%s under %s: %+v, %v; the simulator has %q", to, id, got, err, v.Card)
			}
			for name, wrong := range map[string]func(*payment.AbnormalRequest){
				"no card":   func(q *payment.AbnormalRequest) { q.To, q.Card = payment.CardOfUser, payment.BankCard{} },
				"no number": func(q *payment.AbnormalRequest) { q.RefundID = "" },
				"a path":    func(q *payment.AbnormalRequest) { q.RefundID = "1/../2" },
				"nowhere":   func(q *payment.AbnormalRequest) { q.To = "" },
			} {
				bad := ask
				wrong(&bad)
				if _, err := s.gateway.AbnormalRefund(t.Context(), bad); payment.KindOf(err) != payment.KindRejected ||
					!payment.Ended(err) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

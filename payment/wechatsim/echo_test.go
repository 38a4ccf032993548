package wechatsim_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orderd/payment/wechatsim"
)

// doctor --live would be tried on a fiction: Tencent's code asks for an echo, verifies the answer, and believes the
// callback that comes of it.
func TestOfficialSDKAsksForAnEcho(t *testing.T) {
	eachKeyMode(t, func(t *testing.T, b *bench, c sdk) {
		heard := make(chan error, 4)
		shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var said struct {
				Message string `json:"echo_message"`
			}
			n, err := c.notices.ParseNotifyRequest(context.Background(), r, &said)
			if err == nil && (n.EventType != "SECURITY_ECHO.SUCCESS" || n.Resource.OriginalType != "security" ||
				said.Message != "hello") {
				t.Errorf("%+v said %q", n, said.Message)
			}
			w.WriteHeader(http.StatusNoContent)
			heard <- err
		}))
		defer shop.Close()
		ask := func(body map[string]any) *http.Response {
			res, err := c.client.Post(context.Background(), "https://api.mch.weixin.qq.com/v3/security/echo", body)
			must(t, err)
			return res.Response
		}
		res := ask(map[string]any{"echo_message": "hello", "notify_url": shop.URL + "/notify"})
		raw, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		var said map[string]string
		must(t, json.Unmarshal(raw, &said))
		if len(said) != 1 || said["echo_message"] != "hello" {
			t.Errorf("answer %s", raw)
		}
		select {
		case err := <-heard:
			must(t, err)
		case <-time.After(patience):
			t.Fatal("no callback")
		}
		if all := b.sim.Trades(); len(all) != 0 {
			t.Errorf("a test has opened %v", all)
		}
	})
}

// An echo that is taken without what the documents demand would let a wrong client pass.
func TestEchoRefuses(t *testing.T) {
	b := start(t, wechatsim.Options{PublicKeyOnly: true})
	id := b.keys.PublicKeyID
	for name, q := range map[string]struct{ serial, body string }{
		"no key named":      {"", `{"echo_message":"hello"}`},
		"key of a stranger": {"PUB_KEY_ID_7", `{"echo_message":"hello"}`},
		"no message":        {id, `{"notify_url":"https://shop.example/notify"}`},
		"endless":           {id, `{"echo_message":"` + strings.Repeat("x", 1025) + `"}`},
		"address":           {id, `{"echo_message":"hello","notify_url":"https://shop.example/n?x=1"}`},
		"kind":              {id, `{"echo_message":7}`},
		"encrypted":         {id, `{"echo_message":"hello","encrypted_echo_message":"x"}`},
	} {
		got := b.do(request{method: "POST", target: "/v3/security/echo", body: q.body, serialWanted: q.serial})
		if got.status != 400 || got.code == "" {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	got := b.do(request{method: "POST", target: "/v3/security/echo", body: `{"echo_message":"a"}`, serialWanted: id})
	if got.status != 200 || string(got.body) != `{"echo_message":"a"}` {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Without the repeats nobody sees that a callback that was refused once comes again, and without the drop nobody can
// try what doctor says when none comes.
func TestEchoCallbackRepeatsAndDrops(t *testing.T) {
	b := start(t, wechatsim.Options{Speed: 1e6})
	heard := make(chan string, 8)
	var calls atomic.Int64
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		status := http.StatusNoContent
		if calls.Add(1) == 1 {
			status = http.StatusInternalServerError
		}
		w.WriteHeader(status)
		heard <- n.ID
	}))
	defer shop.Close()
	ask := func() {
		b.do(request{method: "POST", target: "/v3/security/echo", serialWanted: b.keys.PublicKeyID,
			body: `{"echo_message":"hello","notify_url":"` + shop.URL + `/n"}`}).want(t, 200, "")
	}
	ask()
	first, second := <-heard, <-heard
	if first != second || first == "" {
		t.Errorf("a repeat has the id %q, the first %q", second, first)
	}
	f, err := wechatsim.ParseFault("notify=drop")
	must(t, err)
	must(t, b.sim.AddFault(f))
	ask()
	deadline := time.Now().Add(patience)
	for {
		lost := 0
		for _, e := range b.sim.Log(0) {
			if e.Event == "lost" && e.Detail == "echo" {
				lost++
			}
		}
		if lost == 1 && len(heard) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d lost, %d heard", lost, len(heard))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

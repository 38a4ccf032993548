package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is what run prints, readable while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func parse(t *testing.T, args ...string) flags {
	t.Helper()
	var f flags
	parser, err := kong.New(&f, helpTexts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

// Without a process that says where everything is, serves, and ends on a signal
// with its log complete, it could not stand beside a merchant's service.
func TestRunServesAndEndsCleanly(t *testing.T) {
	dir := t.TempDir()
	f := parse(t, "--addr", "127.0.0.1:0", "--keys", filepath.Join(dir, "keys"), "--log", filepath.Join(dir, "log"),
		"--fault", "close=timeout:10%", "--fault", "notify=drop:x1", "--seed", "7", "--calm")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, ended := &output{}, make(chan error, 1)
	go func() { ended <- run(ctx, f, out) }()
	control := regexp.MustCompile(`control +(http://\S+)`)
	deadline := time.Now().Add(30 * time.Second)
	for control.FindString(out.String()) == "" {
		select {
		case err := <-ended:
			t.Fatalf("ended early: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("no word of the control surface in %q", out)
		}
	}
	for _, want := range []string{"no real money", "seed      7 (calm)", filepath.Join(dir, "keys"),
		"close=timeout:10%", "notify=drop:x1", "1900000001"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(control.FindStringSubmatch(out.String())[1] + "/log")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("control answers %d", res.StatusCode)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("did not end")
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil || strings.Count(string(log), "fault_added") != 2 {
		t.Errorf("log %q, %v", log, err)
	}
}

// Without an early refusal a mistyped flag would show as a calm day.
func TestRunRefusesWhatItCannotDo(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--fault", "close=explode"}, "cut_before"},
		{[]string{"--speed=-1"}, "speed"},
		{[]string{"--addr", "127.0.0.1:99999"}, "listen on 127.0.0.1:99999"},
		{[]string{"--log", filepath.Join(dir, "no", "such", "folder", "log")}, "effects log"},
		{[]string{"--mchid", "1900000009", "--keys", keys}, "another folder"},
	} {
		f := parse(t, append([]string{"--addr", "127.0.0.1:0", "--keys", keys}, test.args...)...)
		err := run(t.Context(), f, &output{})
		if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, context.Canceled) {
			t.Errorf("%v: %v", test.args, err)
		}
	}
}

// Without a drawn seed every nasty day would be the same; without a given one
// none could be repeated.
func TestSeed(t *testing.T) {
	seven := uint64(7)
	if chosenSeed(&seven) != 7 {
		t.Error("a given seed is not taken")
	}
	drawn := map[uint64]bool{}
	for range 20 {
		drawn[chosenSeed(nil)] = true
	}
	if len(drawn) < 10 {
		t.Errorf("%d different seeds of 20", len(drawn))
	}
}

//go:build failpoints

package failpoint

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const step = "place.committed"

// waitFor polls; it is no timing.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// reset arms for one test alone.
func reset(t *testing.T, text string) {
	t.Helper()
	mu.Lock()
	steps[step].Hits = 0
	mu.Unlock()
	if err := arm(step, text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = arm(step, "") })
}

// A step that blocks at every hit could not be chosen among a hundred orders;
// one that never let go could be used once in a process.
func TestArmedBlocksTheNth(t *testing.T) {
	reset(t, "block@3")
	srv := httptest.NewServer(control())
	defer srv.Close()
	passed := make(chan int, 4)
	go func() {
		for i := range 4 {
			Hit(step)
			passed <- i + 1
		}
	}()
	seen := func() (s state) {
		res, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		all := map[string]state{}
		if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
			t.Fatal(err)
		}
		return all[step]
	}
	waitFor(t, "nobody is blocked", func() bool { return seen().Blocked == 1 })
	if s := seen(); s.Hits != 3 || s.Armed != "block@3" || len(passed) != 2 {
		t.Errorf("%+v, %d passed", s, len(passed))
	}
	req, _ := http.NewRequest(http.MethodDelete, srv.URL+"/"+step, nil)
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != http.StatusNoContent {
		t.Fatal(res, err)
	}
	waitFor(t, "who was let go did not go on", func() bool { return len(passed) == 4 })
}

// A kill that is recovered from is none: the process must be gone, without a
// word but the line in the file.
func TestArmedKills(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") != "" {
		defer func() { _ = recover() }()
		for range 3 {
			Hit(step)
		}
		os.Exit(0)
	}
	file := filepath.Join(t.TempDir(), "log")
	child := exec.Command(os.Args[0], "-test.run", "TestArmedKills")
	child.Env = append(os.Environ(), "FAILPOINT_CHILD=1", "ORDERD_FAILPOINTS="+step+"=kill@2; prepay.intended=count",
		"ORDERD_FAILPOINTS_LOG="+file)
	err := child.Run()
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != step+" kill 2\n" {
		t.Errorf("%q %v", text, err)
	}
}

// A pause that returned at once would prove nothing about slow steps.
func TestArmedPauses(t *testing.T) {
	reset(t, "pause(30ms)")
	start := time.Now()
	if Hit(step); time.Since(start) < 30*time.Millisecond {
		t.Error("no pause")
	}
}

// A misspelt step or action must end the process at its start: the test would
// wait for it for ever. And nobody but this machine may arm anything.
func TestArmedRefuses(t *testing.T) {
	for _, bad := range []string{"place.comitted=block", step + "=blok", step + "=block@0", step + "=pause",
		step + "=pause(-1s)", step} {
		if err := setUp(bad, "", ""); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, addr := range []string{":7000", "0.0.0.0:7000", "192.0.2.1:7000", "nonsense"} {
		if err := setUp("", "", addr); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	child := exec.Command(os.Args[0], "-test.run", "^$")
	child.Env = append(os.Environ(), "ORDERD_FAILPOINTS=nonsense=block")
	if out, err := child.CombinedOutput(); err == nil || !strings.Contains(string(out), `no step "nonsense"`) {
		t.Errorf("%v %s", err, out)
	}
}

//go:build failpoints

package failpoint

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds of the control listener.
const (
	maxAction = 64 // bytes of an action
	// headersTimeout bounds the headers of a request to it.
	headersTimeout = 5 * time.Second
)

// action is what happens at a hit.
type action struct {
	do    string // block, kill, pause or count
	pause time.Duration
	at    int64         // the hit that acts; 0 for every one
	free  chan struct{} // closed when it is disarmed
	text  string
}

// state is what one step has seen. Its JSON is what GET / shows.
type state struct {
	Hits    int64  `json:"hits"`
	Armed   string `json:"armed,omitempty"`
	Blocked int    `json:"blocked,omitempty"`
	action  *action
}

// The state of the process: a step has no owner to hand it to. mu guards steps and
// everything in them; log is nil without ORDERD_FAILPOINTS_LOG.
var (
	mu    sync.Mutex
	steps = map[string]*state{}
	log   *os.File
)

// init arms what the environment says. A step that does not exist ends the
// process: a run that waits for it would prove nothing.
func init() {
	if err := setUp(os.Getenv("ORDERD_FAILPOINTS"), os.Getenv("ORDERD_FAILPOINTS_LOG"),
		os.Getenv("ORDERD_FAILPOINTS_ADDR")); err != nil {
		fmt.Fprintln(os.Stderr, "failpoints:", err)
		os.Exit(2)
	}
}

// setUp is init with its three variables as arguments.
func setUp(armed, file, addr string) (err error) {
	for _, p := range Points {
		if p.Name != "" {
			steps[p.Name] = new(state)
		}
	}
	for _, one := range strings.Split(armed, ";") {
		name, text, _ := strings.Cut(strings.TrimSpace(one), "=")
		if name == "" {
			continue
		}
		if text == "" {
			return fmt.Errorf("%s: want NAME=ACTION", name)
		}
		if err := arm(name, text); err != nil {
			return err
		}
	}
	if file != "" {
		if log, err = os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
	}
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("ORDERD_FAILPOINTS_ADDR is %q, it must be a loopback address with a port", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() { _ = (&http.Server{Handler: control(), ReadHeaderTimeout: headersTimeout}).Serve(l) }()
	return nil
}

// parse reads block, kill@3, pause(200ms), count.
func parse(text string) (*action, error) {
	a := &action{text: text, free: make(chan struct{})}
	do, nth, counted := strings.Cut(text, "@")
	if counted {
		n, err := strconv.ParseInt(nth, 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q: the number of a hit is 1 or more", text)
		}
		a.at = n
	}
	a.do = do
	if inner, ok := strings.CutPrefix(do, "pause("); ok {
		d, err := time.ParseDuration(strings.TrimSuffix(inner, ")"))
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("%q: want pause(DURATION)", text)
		}
		a.do, a.pause = "pause", d
	}
	if !slices.Contains([]string{"block", "kill", "pause", "count"}, a.do) || (a.do == "pause") != (a.pause > 0) {
		return nil, fmt.Errorf("%q: want block, kill, pause(DURATION) or count, and @N for one hit", text)
	}
	return a, nil
}

// arm sets or, with "", takes away the action of a step. Whoever is blocked there by
// the action before goes on.
func arm(name, text string) error {
	var a *action
	if text != "" {
		var err error
		if a, err = parse(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	s, ok := steps[name]
	if !ok {
		return fmt.Errorf("there is no step %q", name)
	}
	if s.action != nil {
		close(s.action.free)
	}
	s.action, s.Armed = a, text
	return nil
}

// Hit marks a step of a flow and does what is armed there. A name that is not in Points
// is a panic: a misspelt step would never be reached, and its test pass. It may block
// for ever, and its caller keeps the locks and the transaction that it has: so a test
// can look at them.
func Hit(name string) {
	mu.Lock()
	s, ok := steps[name]
	if !ok {
		mu.Unlock()
		panic("failpoint: " + name + " is not in Points")
	}
	s.Hits++
	a := s.action
	if a == nil || (a.at != 0 && a.at != s.Hits) {
		mu.Unlock()
		return
	}
	if log != nil { // under the lock, so that lines do not mix; the kernel has it when Write returns
		_, _ = fmt.Fprintf(log, "%s %s %d\n", name, a.do, s.Hits)
	}
	if a.do == "block" {
		s.Blocked++
	}
	mu.Unlock()
	switch a.do {
	case "kill":
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way: nothing more happens here
	case "pause":
		time.Sleep(a.pause)
	case "block":
		<-a.free
		mu.Lock()
		s.Blocked--
		mu.Unlock()
	}
}

// control serves the commands of the package comment.
func control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(steps)
	})
	set := func(w http.ResponseWriter, name, text string) {
		if err := arm(name, text); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
	mux.HandleFunc("PUT /{name}", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAction))
		if err != nil || len(text) == 0 {
			http.Error(w, "the body is an action", http.StatusBadRequest)
			return
		}
		set(w, r.PathValue("name"), strings.TrimSpace(string(text)))
	})
	mux.HandleFunc("DELETE /{name}", func(w http.ResponseWriter, r *http.Request) { set(w, r.PathValue("name"), "") })
	return mux
}

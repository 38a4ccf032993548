package wechatsim

import (
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxLog bounds the log in memory (some 20 MB); older entries go only to
	// Options.EffectsLog.
	maxLog = 65_536
	// writerBacklog is how far a slow EffectsLog may lag. Beyond it everything
	// waits for the writer, because its promise is to keep all.
	writerBacklog = 4_096
)

// Kinds of log entries.
const (
	// KindRequest: a call of the merchant's and its answer.
	KindRequest = "request"
	// KindEffect: what really happened (created, reissued, paid, closed, burned,
	// self_closed, refund_accepted …), whatever was answered.
	KindEffect = "effect"
	// KindCallback: one delivery to the merchant, or its loss.
	KindCallback = "callback"
	// KindControl: somebody changed faults or the clock.
	KindControl = "control"
	// KindTruncated: earlier entries are no longer in memory.
	KindTruncated = "truncated"
)

// Entry is one line of the log. Effects are logged under the lock of their
// trade: per trade their order is the order in which they happened.
type Entry struct {
	Seq           int       `json:"seq"` // from 1, without gaps
	At            time.Time `json:"at"`
	Kind          string    `json:"kind"`
	Endpoint      string    `json:"endpoint,omitempty"`
	Event         string    `json:"event,omitempty"`
	OutTradeNo    string    `json:"out_trade_no,omitempty"`
	OutRefundNo   string    `json:"out_refund_no,omitempty"`
	State         State     `json:"state,omitempty"` // after an effect
	TransactionID string    `json:"transaction_id,omitempty"`
	Amount        int64     `json:"amount,omitempty"` // fen
	Status        int       `json:"status,omitempty"` // answered to, or by, the merchant
	Code          string    `json:"code,omitempty"`
	RequestID     string    `json:"request_id,omitempty"`
	Attempt       int       `json:"attempt,omitempty"` // of a callback, from 1
	Faults        []string  `json:"faults,omitempty"`  // what the simulator did on purpose
	Detail        string    `json:"detail,omitempty"`
}

// Log returns the entries after number since, in order. When some of them are
// no longer in memory the first entry returned is of KindTruncated and carries
// the number of the last one that is gone.
func (s *Sim) Log(since int) []Entry { return s.log.since(since) }

// effects is the ring of the latest entries and the way to the writer. Entry number n
// lies at (n-1) modulo maxLog, so that a number is found without a search.
type effects struct {
	now func() time.Time

	mu   sync.Mutex
	ring []Entry
	last int // Seq of the newest entry
	out  chan Entry

	done chan struct{} // the writer has ended
}

// newEffects makes the log; w may be nil. Its writer runs until close, in the one
// goroutine that touches w.
func newEffects(now func() time.Time, w io.Writer, log *slog.Logger) *effects {
	l := &effects{now: now, done: make(chan struct{})}
	if w == nil {
		close(l.done)
		return l
	}
	l.out = make(chan Entry, writerBacklog)
	go l.write(w, l.out, log)
	return l
}

// add gives the entry its number and time and keeps it. It waits for the writer when
// that lags by writerBacklog entries.
func (l *effects) add(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.Seq, e.At = l.last, l.now().UTC()
	if len(l.ring) < maxLog {
		l.ring = append(l.ring, e)
	} else {
		l.ring[(l.last-1)%maxLog] = e
	}
	if l.out != nil {
		l.out <- e // under the lock: the file has the same order as the numbers
	}
}

// since gives the entries after number n that are still in memory.
func (l *effects) since(n int) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(n, 0)
	gone := l.last - len(l.ring)
	entries := make([]Entry, 0, max(l.last-max(n, gone), 0)+1)
	if n < gone {
		entries = append(entries, Entry{Seq: gone, At: l.now().UTC(), Kind: KindTruncated,
			Detail: "entries up to this number are no longer in memory"})
		n = gone
	}
	for seq := n + 1; seq <= l.last; seq++ {
		entries = append(entries, l.ring[(seq-1)%maxLog])
	}
	return entries
}

// write runs until close. A writer that fails is reported once and then ignored: the simulator
// is worth more than its file.
func (l *effects) write(w io.Writer, in <-chan Entry, log *slog.Logger) {
	defer close(l.done)
	encoder, failed := json.NewEncoder(w), false
	for e := range in {
		if failed {
			continue
		}
		if err := encoder.Encode(e); err != nil {
			failed = true
			log.Error("effects log: no more entries are written", "error", err)
		}
	}
}

// close ends the writer after its last entry; later entries stay in memory only.
func (l *effects) close() {
	l.mu.Lock()
	if l.out != nil {
		close(l.out)
		l.out = nil
	}
	l.mu.Unlock()
	<-l.done
}

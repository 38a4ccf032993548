package chaos

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"time"
)

// line is one thing that a buyer or the nemesis did: a line of history.jsonl. At is when
// it began; Status is 0 when there was no answer.
type line struct {
	At     time.Time     `json:"at"`
	Took   time.Duration `json:"took_ns,omitempty"`
	Buyer  string        `json:"buyer,omitempty"`
	Op     string        `json:"op"`
	Key    string        `json:"key,omitempty"`
	Order  string        `json:"order,omitempty"`
	Status int           `json:"status,omitempty"`
	Result string        `json:"result,omitempty"`
}

// history is the file of all lines, for whoever has to find out what happened. Nothing is
// judged by it.
type history struct {
	mu   sync.Mutex
	file *os.File
	buf  *bufio.Writer
	enc  *json.Encoder
}

// newHistory makes the file; close ends it. Lines are buffered: what the last megabyte
// holds is lost when this process is killed.
func newHistory(path string) (*history, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	return &history{file: f, buf: buf, enc: json.NewEncoder(buf)}, nil
}

// add writes a line; from many goroutines.
func (h *history) add(l line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.enc.Encode(l) // the run is judged by counts and databases, not by this file
}

// close writes what is buffered.
func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.buf.Flush(); err != nil {
		return err
	}
	return h.file.Close()
}

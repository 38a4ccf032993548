package sqldb

import (
	"slices"
	"sync"
)

// hearers are whom the commits of a DB are told.
type hearers struct {
	mu   sync.RWMutex
	next int
	by   map[int]func(what []string)
}

// Tells notes that the transaction writes something that others of this process wait for:
// OnCommit hears of it. The same twice is once.
func (tx *Tx) Tells(what string) {
	if !slices.Contains(tx.tells, what) {
		tx.tells = append(tx.tells, what)
	}
}

// OnCommit has hear told what a transaction tells (Tx.Tells), once behind its COMMIT; also
// behind one that has failed or got no answer, so that whoever hears of it looks. Nothing of
// it is kept: who dies is told nothing. hear is called before the transaction's caller has
// its answer, so it must be quick. stop ends it.
func (db *DB) OnCommit(hear func(what []string)) (stop func()) {
	h := db.hearers
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.next
	h.next++
	if h.by == nil {
		h.by = map[int]func([]string){}
	}
	h.by[id] = hear
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.by, id)
	}
}

// tell tells everybody what a transaction told.
func (h *hearers) tell(what []string) {
	if len(what) == 0 {
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, hear := range h.by {
		hear(what)
	}
}

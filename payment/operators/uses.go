package operators

import (
	"context"
	"sync"
	"time"

	"orderd/migrations/sqldb"
)

// Bounds of the notes of uses.
const (
	// NotedEvery is how often the use of a secret is written down by a process, and by all of them together.
	NotedEvery = time.Minute
	// noteFor is how long the one request a minute that writes it down waits for that.
	noteFor = time.Second
	// maxNoted bounds how many secrets are remembered; beyond it they are written down again.
	maxNoted = 1000
)

// Uses writes down when secrets were last used: one row of a table for each, once in NotedEvery and not for every
// request. It is safe for concurrent use.
type Uses struct {
	db     *sqldb.DB
	now    func() time.Time
	update string

	mu    sync.Mutex
	noted map[string]time.Time // by hash
}

// NewUses makes them. update is an UPDATE whose arguments are the time, the hash of the secret and the time before
// which the last use must have been: of several processes one writes.
func NewUses(db *sqldb.DB, now func() time.Time, update string) *Uses {
	return &Uses{db: db, now: now, update: update, noted: map[string]time.Time{}}
}

// Note writes down that a secret was used, by its hash. Whoever uses it is let in all the same when that fails: nothing
// is told, and it is tried again in NotedEvery.
func (u *Uses) Note(ctx context.Context, hash string) {
	now := u.now()
	u.mu.Lock()
	last, known := u.noted[hash]
	if known && now.Sub(last) < NotedEvery && !now.Before(last) {
		u.mu.Unlock()
		return
	}
	if len(u.noted) >= maxNoted {
		clear(u.noted)
	}
	u.noted[hash] = now // before it is written: no other request waits for it
	u.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteFor)
	defer cancel()
	_ = u.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, u.update, sqldb.Millis(now), hash, sqldb.Millis(now.Add(-NotedEvery)))
		return err
	})
}

package sqldb

import (
	"errors"
	"sync"
	"time"
)

// Bounds of Locked.
const (
	// lockedFor is how long a key is remembered after it was last found locked. To
	// remember one that is free costs whoever comes next one transaction of its own.
	lockedFor = time.Minute
	// lockedMost is how many keys are remembered; past it all are forgotten, and found
	// again.
	lockedMost = 4096
	// lockedPause is the first pause before Due says that a key may be tried again. Each
	// is twice the one before, up to lockedLongest: a locked row is taken late by so much
	// at most, when nobody but pages asks for it.
	lockedPause   = 250 * time.Millisecond
	lockedLongest = 4 * time.Second
)

// Locked remembers which keys, of rows that others hold, were found locked, so that
// those who need such a row go apart from those who do not. It is a memory of this
// process only, and never wrong for long: it decides who waits with whom, and nothing
// else. The zero value is ready for use, by several goroutines.
type Locked struct {
	mu   sync.Mutex
	keys map[string]lockedKey
}

// lockedKey is what is known of one key. Times are for durations only.
type lockedKey struct {
	found, next time.Time
	pause       time.Duration
}

// Found notes that what the keys stand for was locked, and reports that one of them is
// news.
func (l *Locked) Found(keys ...string) (news bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil || len(l.keys) > lockedMost {
		l.keys = map[string]lockedKey{}
	}
	for _, k := range keys {
		was, ok := l.keys[k]
		news = news || !ok
		pause := min(max(2*was.pause, lockedPause), lockedLongest)
		l.keys[k] = lockedKey{found: now, next: now.Add(pause), pause: pause}
	}
	return news
}

// Free forgets keys: they were not locked.
func (l *Locked) Free(keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		delete(l.keys, k)
	}
}

// Any reports that one of the keys was found locked lately.
func (l *Locked) Any(keys ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.keys) == 0 {
		return false
	}
	for _, k := range keys {
		if was, ok := l.keys[k]; ok && time.Since(was.found) < lockedFor {
			return true
		}
	}
	return false
}

// Due reports that a key that was found locked may be tried again.
func (l *Locked) Due(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !time.Now().Before(l.keys[key].next)
}

// Apart has write write all rows together, in a transaction of InTxOfMany. Where somebody
// else holds one of them (ErrLocked), the halves are written by themselves, without
// waiting, until it is alone: held is told of it. When most rows were found so (0: there
// is no bound), the parts that are left are not halved, and held is told of each whole.
// Any other error of write, or one of held, ends it. With noWait the first try waits for
// no lock either.
func Apart[T any](rows []T, noWait bool, most int, write func(part []T, noWait bool) error,
	held func(part []T, err error) error) error {
	if len(rows) == 0 {
		return nil
	}
	found := 0
	var try func(part []T, noWait bool) error
	try = func(part []T, noWait bool) error {
		err := write(part, noWait)
		switch {
		case !errors.Is(err, ErrLocked):
			return err
		case len(part) == 1 || most > 0 && found >= most:
			found++
			return held(part, err)
		}
		half := len(part) / 2
		if err := try(part[:half], true); err != nil {
			return err
		}
		return try(part[half:], true)
	}
	return try(rows, noWait)
}

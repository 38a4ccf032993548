package sqldb

import (
	"sync"
	"time"
)

// tellEvery is how long nobody is told again of the same trouble: every order meets it.
const tellEvery = time.Minute

// troubles is who is told of errors that a person has to act upon, and when he was.
type troubles struct {
	mu   sync.Mutex
	hear func(advice string, err error)
	told map[string]time.Time // by advice; for durations only
}

// OnTrouble has hear told of errors of this database that waiting does not cure, of
// each kind at most once a minute, with what to do. It is called where the error
// arises, so it must be quick.
func (db *DB) OnTrouble(hear func(advice string, err error)) {
	db.troubles.mu.Lock()
	defer db.troubles.mu.Unlock()
	db.troubles.hear, db.troubles.told = hear, map[string]time.Time{}
}

// tell tells of an error, if somebody has to act upon it, and gives it back.
func (db *DB) tell(err error) error {
	if err == nil {
		return nil
	}
	if advice := Advice(err); advice != "" {
		db.troubles.say(advice, err)
	}
	return err
}

// say tells of an error, unless it did so of another with this advice a moment ago.
func (t *troubles) say(advice string, err error) {
	t.mu.Lock()
	hear := t.hear
	if at, ok := t.told[advice]; hear == nil || ok && time.Since(at) < tellEvery {
		hear = nil
	} else {
		t.told[advice] = time.Now()
	}
	t.mu.Unlock()
	if hear != nil {
		hear(advice, err)
	}
}

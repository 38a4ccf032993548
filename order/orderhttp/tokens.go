package orderhttp

import (
	"crypto/sha256"
	"sync"
	"time"
)

// knownTokens remembers tokens whose signature was right: whoever presses a button again sends the
// same one, and a signature costs more than most answers. It remembers no refusal, and the
// times of a token are held against the clock whenever it comes. A token is kept by its SHA-256, so
// that memory holds none. The zero value is ready; safe for concurrent use.
type knownTokens struct {
	mu          sync.Mutex
	young, aged map[[sha256.Size]byte]knownToken
}

// knownToken is what a valid token says.
type knownToken struct {
	customer           string
	notBefore, expires time.Time // with the leeway; the zero time of the first is for ever
}

// tokensKept bounds a generation: the older of two is forgotten when the younger is full, some 15 MB
// for both.
const tokensKept = 1 << 16

// find gives the customer of a token that is known and valid at this time.
func (k *knownTokens) find(digest [sha256.Size]byte, now time.Time) (customer string, found bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, young := k.young[digest]
	if !young {
		if t, found = k.aged[digest]; found {
			k.keep(digest, t) // it is still used
		}
	}
	if t.customer == "" || now.Before(t.notBefore) || !now.Before(t.expires) {
		return "", false
	}
	return t.customer, true
}

// put remembers a token.
func (k *knownTokens) put(digest [sha256.Size]byte, t knownToken) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keep(digest, t)
}

// keep is put; the caller holds the lock.
func (k *knownTokens) keep(digest [sha256.Size]byte, t knownToken) {
	if k.young == nil || len(k.young) >= tokensKept {
		k.young, k.aged = make(map[[sha256.Size]byte]knownToken), k.young
	}
	k.young[digest] = t
}

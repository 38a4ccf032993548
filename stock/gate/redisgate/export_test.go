package redisgate

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

// LineID names a line as the package does, for tests that read Redis themselves.
var LineID = lineID

// IsRecent reports that a version of Redis will do.
var IsRecent = isRecent

// Scripts gives the text of every script by its name.
func Scripts() map[string]string {
	return map[string]string{"deduct": deductLua, "return": returnLua, "grant": grantLua, "done": doneLua,
		"open": openLua, "close": closeLua, "cancel": cancelLua, "claim": claimLua, "stat": statLua}
}

// Use makes the home run another text as one of its scripts.
func (h *Home) Use(name, text string) {
	scripts := map[string]**redis.Script{"deduct": &h.deduct, "return": &h.giveBack, "grant": &h.grant,
		"done": &h.done, "open": &h.open, "close": &h.close, "cancel": &h.cancel, "claim": &h.claim, "stat": &h.stat}
	*scripts[name] = redis.NewScript(text)
}

// Mutate replaces a text in one of the scripts, and reports whether it stood there.
func (h *Home) Mutate(name, old, text string) bool {
	script := Scripts()[name]
	h.Use(name, strings.Replace(script, old, text, 1))
	return strings.Contains(script, old)
}

// MostQueued bounds the queue of each bucket, in entries.
func (s *Shared) MostQueued(n int64) { s.mostQueued = n }

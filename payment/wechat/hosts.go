package wechat

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"orderd/migrations/bounds"
)

// WeChat Pay has two entries for the same merchants, keys and trades, in different data
// centres: each page of its API names both (主域名, 备域名), and its guide to disasters
// across cities has merchants change between them. A call that one entry does not answer
// is made once on the other, with the same number and parameters: all calls are idempotent
// by their number. What WeChat Pay has signed is its answer, whatever it says.
const (
	// rescues is how many calls in a row the other entry must answer in place of the one
	// asked first before it becomes the first. One lost answer is no outage.
	rescues = 3
	// probeEvery is how often a query tries the main entry again while the other is first:
	// a query changes nothing, and repeated once costs little.
	probeEvery = 10 * time.Second
	// recovered is how many of those must be answered before the main entry is first again.
	recovered = 3
	// firstShare and ofShares are the part of a call's time-out that the first entry has
	// when there is another: three of five seconds, where WeChat Pay answers in a tenth.
	firstShare, ofShares = 3, 5
)

// Results of a try, as labels.
const (
	tryAnswered    = "answered"    // something came that is no failure of the entry
	tryUnreachable = "unreachable" // nothing was sent
	tryUnanswered  = "unanswered"  // sent, and no answer came in time, or a part of one
	tryFailed      = "failed"      // 5xx without a signature: of a gateway in front
)

// hosts are the entries, and which of them is well.
type hosts struct {
	list  []string // scheme and host; the main one first; one or two
	now   func() time.Time
	log   *slog.Logger
	tried func(host, result string)

	mu      sync.Mutex
	first   int       // which one is asked first
	rescued int       // calls in a row that the other answered in its place
	probeAt time.Time // of the main one, while it is not the first
	well    int       // probes of it in a row that were answered
}

// sequence gives the entries in the order in which a call tries them.
func (h *hosts) sequence(op string) []int {
	if len(h.list) == 1 {
		return []int{0}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if op == opAbnormal { // no page says what a repeat of it does: a person looks first
		return []int{h.first}
	}
	if at := h.now(); h.first != 0 && op == opQuery && !at.Before(h.probeAt) {
		h.probeAt = at.Add(probeEvery)
		return []int{0, 1}
	}
	return []int{h.first, 1 - h.first}
}

// ended learns from a call: which entry it tried first, and whether that, or else the
// other, answered.
func (h *hosts) ended(asked int, answered, other bool) {
	if len(h.list) == 1 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case asked != h.first && answered: // a probe of the main one
		if h.well++; h.well >= recovered {
			h.change(asked)
		}
	case asked != h.first:
		h.well = 0
	case answered:
		h.rescued = 0
	case other:
		if h.rescued++; h.rescued >= rescues {
			h.change(1 - asked)
		}
	}
}

// change makes an entry the first one. h.mu is held.
func (h *hosts) change(to int) {
	h.log.Warn("wechat pay is asked at its other entry from now on", "entry", h.list[to], "before", h.list[h.first])
	h.first, h.rescued, h.well, h.probeAt = to, 0, 0, h.now().Add(probeEvery)
}

// of gives the entry of an address that WeChat Pay named, or else the given one.
func (h *hosts) of(address, given string) string {
	if u, err := url.Parse(address); err == nil && slices.Contains(h.list, bounds.Origin(u)) {
		return bounds.Origin(u)
	}
	return given
}

// attempted is what a call came to: the facts of its last try and that one's error.
type attempted struct {
	*facts
	cause error
}

// send makes a call at one entry or, without an answer there, at both. Where an earlier
// try may still arrive at WeChat Pay, the facts have doubt.
func (g *Gateway) send(ctx context.Context, op string, send func(context.Context) error) attempted {
	order := g.hosts.sequence(op)
	a, result := g.try(ctx, op, order[0], len(order) > 1, send)
	if result == tryAnswered || len(order) == 1 || ctx.Err() != nil {
		// A caller that hung up has not seen whether an answer would have come.
		if ctx.Err() == nil || result == tryAnswered {
			g.hosts.ended(order[0], result == tryAnswered, false)
		}
		return a
	}
	second, then := g.try(ctx, op, order[1], false, send)
	second.doubt = result != tryUnreachable && changes(op)
	g.hosts.ended(order[0], false, then == tryAnswered)
	return second
}

// try makes one request of a call.
func (g *Gateway) try(ctx context.Context, op string, host int, another bool, send func(context.Context) error) (
	attempted, string) {
	if another {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.timeout*firstShare/ofShares)
		defer cancel()
	}
	f := &facts{op: op, host: g.hosts.list[host]}
	cause := send(context.WithValue(ctx, factsKey{}, f))
	result := tryAnswered
	switch {
	case f.status == 0 && notSent(safeCause(cause)):
		result = tryUnreachable
	case f.status == 0 || f.cut:
		result = tryUnanswered
	case f.status >= http.StatusInternalServerError && errors.Is(f.distrust, errHeaders):
		result = tryFailed
	}
	g.hosts.tried(f.host, result)
	return attempted{f, cause}, result
}

// notSent reports that nothing of a request left this machine.
func notSent(cause error) bool { return errors.Is(cause, errNoConnection) || errors.Is(cause, errTLS) }

// changes reports that a call can change something at WeChat Pay.
func changes(op string) bool {
	return op == opPrepay || op == opClose || op == opRefund || op == opAbnormal
}

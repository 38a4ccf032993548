package orderhttp

import (
	"net/http"
	"net/netip"
	"time"
)

// WrongTokens counts tokens that are nobody's and bounds how many of them an address may
// send: whoever guesses, or has a client that never stops, is told to wait. Right tokens
// are not counted and not held back, from whichever address: many customers share one. Nil
// bounds nothing and counts nothing.
type WrongTokens struct {
	limit   *limiter
	proxies []netip.Prefix
	count   func(held bool)
}

// NewWrongTokens lets an address send perMinute wrong tokens a minute, all of them at once
// if it likes; 0 is no limit, and they are counted all the same. proxies are those whose
// X-Forwarded-For is believed. count is told of each wrong token, and whether it was
// answered 429; it may be nil.
func NewWrongTokens(perMinute int, proxies []netip.Prefix, now func() time.Time, count func(held bool)) *WrongTokens {
	r := Rate{Burst: -1}
	if perMinute > 0 {
		r = Rate{Every: time.Minute / time.Duration(perMinute), Burst: perMinute}
	}
	if count == nil {
		count = func(bool) {}
	}
	return &WrongTokens{limit: newLimiter(r, now), proxies: proxies, count: count}
}

// Refuse gives the answer to a wrong token: the error that says so, or CodeRateLimited from
// an address that has sent too many.
func (w *WrongTokens) Refuse(r *http.Request, err error) error {
	if w == nil {
		return err
	}
	wait := w.limit.take(addressOf(r, w.proxies))
	w.count(wait > 0)
	if wait > 0 {
		return &Failure{Code: CodeRateLimited, RetryAfter: wait}
	}
	return err
}

// clientNet is how much of an IPv6 address is one client: whoever has one address has, as a
// rule, the 2^64 of its network.
const clientNet = 64

// AddressOf is where a request came from, as WrongTokens counts: an IPv6 address stands for its
// network, and "" for what is not known. proxies are those whose X-Forwarded-For is believed.
func AddressOf(r *http.Request, proxies []netip.Prefix) string { return addressOf(r, proxies) }

// addressOf is where a request came from: what trusted proxies say, or else the other end of
// the connection.
func addressOf(r *http.Request, proxies []netip.Prefix) string {
	at, ok := clientOf(r, proxies)
	if !ok {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return ""
		}
		at = peer.Addr().Unmap()
	}
	if at.Is4() {
		return at.String()
	}
	return netip.PrefixFrom(at.WithZone(""), clientNet).Masked().String()
}

package webhooks

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment/feed"
)

// Listener sends what happens to one address, of whoever writes a back end: nothing is
// written, and nothing is sent twice.
type Listener struct {
	s        *Service
	endpoint Endpoint
	secret   []byte
	client   *http.Client
	tail     *feed.Tail
}

// listenEvery is how often a Listener looks.
const listenEvery = 250 * time.Millisecond

// Listen begins at this moment, and gives the secret that it signs with. It goes wherever its
// caller says: it runs as the person who calls it, on that person's machine. Errors:
// *InvalidError.
func (s *Service) Listen(ctx context.Context, p Put) (*Listener, string, error) {
	if err := p.check(); err != nil {
		return nil, "", err
	}
	from, err := s.feed.Begin(ctx, s.cfg.Now())
	if err != nil {
		return nil, "", err
	}
	secret, shown := newSecret()
	l := &Listener{s: s, endpoint: Endpoint{URL: p.URL, Types: p.Types}, secret: secret,
		tail: s.feed.Tail(from, time.Now), // durations only, never stored
		client: &http.Client{Timeout: callTimeout, Transport: &http.Transport{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	return l, shown, nil
}

// Run sends until ctx ends, and tells of each event what became of it.
func (l *Listener) Run(ctx context.Context, told func(e *feed.Event, tried Tried)) error {
	defer l.client.CloseIdleConnections()
	for {
		events, err := l.tail.Next(ctx, feed.MaxPage)
		if err != nil {
			return err
		}
		traced := l.s.traced(ctx, events)
		for i := range events {
			e := &events[i]
			if len(l.endpoint.Types) > 0 && !slices.Contains(l.endpoint.Types, e.Type) {
				continue
			}
			r := call(traced[i], l.client, l.endpoint.URL, [][]byte{l.secret}, feed.MessageID(e.ID), feed.Body(e))
			told(e, Tried{Status: r.status, Taken: r.taken, Problem: r.problem})
		}
		if !sqldb.Sleep(ctx, listenEvery/2+rand.N(listenEvery)) {
			return ctx.Err()
		}
	}
}

package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
	"orderd/payment/feed"
)

// Bounds of the sender.
const (
	// lookEvery is the default of Config.LookEvery, and how long endpoints are known to
	// whoever rings.
	lookEvery = time.Second
	// pruneEvery is how often it deletes what has ended, give or take half of it.
	pruneEvery = time.Minute
	// atOnce is how many calls to one endpoint are under way in a process: what bounds its
	// memory, and what one that is slow can hold.
	atOnce = 16
	// turnFor is how long a claimed delivery is left alone, and so how late it is when its
	// process dies: longer than its call and the note of its end.
	turnFor = 30 * time.Second
	// mostRead is how much of an answer is read, in bytes: the status decides, and its beginning is kept.
	mostRead = 4 << 10
	// mostRetryAfter bounds what an endpoint can ask for.
	mostRetryAfter = 24 * time.Hour
	// An endpoint that takes nothing is an alarm after alarmAfter, again every alarmEvery,
	// and disabled after disableAfter.
	alarmAfter   = 30 * time.Minute
	alarmEvery   = 24 * time.Hour
	disableAfter = 5 * 24 * time.Hour
)

// ladder is how long after the try before it each try is made: that of the specification's
// authors. A delivery whose ladder has ended waits for a person.
var ladder = [...]time.Duration{0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}

// nextTry is when the try after tries is made; false when there is none. Up to a tenth is
// added by chance: what failed together does not come back together.
func nextTry(tries int64, now time.Time, after time.Duration) (time.Time, bool) {
	if tries >= int64(len(ladder)) {
		return time.Time{}, false
	}
	step := ladder[max(tries, 0)]
	return now.Add(max(step+rand.N(step/10+1), min(after, mostRetryAfter))), true
}

// Headers sets the headers of the specification on a request that carries body.
func Headers(h http.Header, secrets [][]byte, id string, at time.Time, body []byte) {
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "orderd-webhooks")
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("Webhook-Signature", sign(secrets, id, at, body))
}

// result is what became of one claimed delivery.
type result struct {
	event, tries int64
	status       int // 0 without an answer
	taken, gone  bool
	problem      string
	answer       string // its beginning
	took         time.Duration
	after        time.Duration // Retry-After
	next         time.Time     // zero: no more
}

// Run plans and sends until ctx ends, and returns when the last call has ended. Every worker
// may run it. It looks every LookEvery, and when it is rung (see Relay).
func (s *Service) Run(ctx context.Context) {
	if s.box == nil {
		return
	}
	l := &lanes{s: s, ctx: ctx, of: map[string]*lane{}}
	defer l.all.Wait()
	l.all.Go(func() { s.keep(ctx) })
	var deaf context.CancelFunc // nil: rings are not listened for
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		looks := false
		select {
		case <-ctx.Done():
			if deaf != nil {
				deaf()
			}
			s.release(ctx)
			return
		case <-s.rung:
		case <-look.C:
			looks = true
			look.Reset(s.cfg.LookEvery*8/10 + rand.N(s.cfg.LookEvery*4/10)) // replicas do not look in step
		}
		if err := s.pass(ctx, looks, l); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("webhooks cannot be read or written", "err", err)
		}
		switch plans := s.plans.Load(); {
		case plans && deaf == nil && s.cfg.Rings != nil:
			var hears context.Context
			hears, deaf = context.WithCancel(ctx)
			l.all.Go(func() { s.cfg.Rings(hears, s.wake) })
		case !plans && deaf != nil:
			deaf()
			deaf = nil
		}
	}
}

// Pass looks once, and returns when all lanes have ended: for tests.
func (s *Service) Pass(ctx context.Context) error {
	l := &lanes{s: s, ctx: ctx, of: map[string]*lane{}}
	defer l.all.Wait()
	return s.pass(ctx, true, l)
}

// pass plans, and starts the lane of every endpoint that is on. One that takes nothing is
// started by a look alone: rings, which are as many as there are events, do not press it.
func (s *Service) pass(ctx context.Context, looks bool, l *lanes) error {
	on, err := s.on(ctx)
	if err != nil {
		return err
	}
	if len(on) == 0 {
		s.notOurs()
		return nil
	}
	start := func(on []Endpoint) {
		for i := range on {
			l.start(&on[i], looks)
		}
		looks = false
	}
	err = s.plan(ctx, on, start)
	if looks { // nothing was planned
		start(on)
	}
	return err
}

// lanes are the sendings of a process, to each endpoint one page at a time.
type lanes struct {
	s   *Service
	ctx context.Context // of Run, whose lanes they are
	all sync.WaitGroup
	mu  sync.Mutex
	of  map[string]*lane // by endpoint
}

// lane is what a process knows of its sending to an endpoint.
type lane struct {
	runs    bool
	again   bool // something came while it ran: its last page may have been before that
	failing bool // its last page was not taken
}

// start sends what is due at an endpoint, unless that is under way. One that takes nothing
// is left alone unless it is a look.
func (l *lanes) start(e *Endpoint, looks bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of[e.ID]
	switch {
	case of == nil:
		of = &lane{}
		l.of[e.ID] = of
	case of.runs:
		of.again = true
		return
	}
	if !looks && (of.failing || !e.FailingSince.IsZero()) {
		return
	}
	of.runs = true
	l.all.Go(func() {
		for l.goesOn(e.ID, of, l.s.lane(l.ctx, e)) {
		}
	})
}

// goesOn notes how a lane ended, and reports that it has to run again.
func (l *lanes) goesOn(id string, of *lane, failing bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	of.failing = failing
	if of.again && !failing {
		of.again = false
		return true
	}
	of.runs, of.again = false, false
	if !failing {
		delete(l.of, id)
	}
	return false
}

// lane sends what is due at one endpoint, until nothing is, or none of a page was taken: one
// that is away is asked about a page at every look, however much waits. What a person says of
// the endpoint counts from the next page on. It reports that it ended for a failure.
func (s *Service) lane(ctx context.Context, e *Endpoint) (failing bool) {
	if _, err := s.secrets(e); err != nil {
		s.cfg.Log.Error("webhook", "id", e.ID, "err", err)
		return true
	}
	for ctx.Err() == nil {
		now := s.cfg.Now().Truncate(time.Millisecond)
		turn := now.Add(turnFor)
		c, err := s.claim(ctx, e.ID, now, turn, atOnce)
		if err != nil || len(c.due) == 0 {
			if err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("webhook", "id", e.ID, "err", err)
			}
			return err != nil
		}
		failpoint.Hit("hook.claimed")
		// What was claimed is sent and written, also when the service stops.
		detached := context.WithoutCancel(ctx)
		events := make([]feed.Event, len(c.due))
		for i := range c.due {
			events[i] = c.due[i].Event
		}
		traced := s.traced(detached, events)
		results := make([]result, len(c.due))
		var calls sync.WaitGroup
		for i := range c.due {
			calls.Go(func() { results[i] = s.send(traced[i], &c.to, c.secrets, &c.due[i]) })
		}
		calls.Wait()
		failpoint.Hit("hook.taken")
		if err := s.judge(detached, &c.to, turn, results); err != nil {
			s.cfg.Log.Warn("webhook", "id", e.ID, "err", err)
			return true
		}
		failpoint.Hit("hook.noted")
		if c.to.State != StateOn || !c.to.FailingSince.IsZero() {
			return true
		}
	}
	return true
}

// traced gives a context for the sending of each event, with the trace of what brought it about.
// Without one it is sent all the same.
func (s *Service) traced(ctx context.Context, events []feed.Event) []context.Context {
	all := make([]context.Context, len(events))
	for i := range all {
		all[i] = ctx
	}
	if s.cfg.Traces == nil {
		return all
	}
	traces, err := s.cfg.Traces(ctx, events)
	if err != nil {
		s.cfg.Log.Warn("webhooks are sent without their traces", "err", err)
		return all
	}
	for i := range all {
		all[i] = payment.WithTrace(ctx, traces[i])
	}
	return all
}

// secrets gives those that sign for an endpoint.
func (s *Service) secrets(e *Endpoint) ([][]byte, error) {
	secret, err := open(s.box, e.secret, e.ID)
	if err != nil {
		return nil, err
	}
	all := [][]byte{secret}
	if s.cfg.Now().Before(e.TwoSecretsUntil) {
		for _, sealed := range e.old {
			if old, err := open(s.box, sealed, e.ID); err == nil {
				all = append(all, old)
			}
		}
	}
	return all, nil
}

// send makes one call.
func (s *Service) send(ctx context.Context, e *Endpoint, secrets [][]byte, d *Delivery) result {
	r := s.call(ctx, e, secrets, feed.MessageID(d.Event.ID), feed.Body(&d.Event))
	r.event, r.tries = d.Event.ID, d.Tries
	if !r.taken {
		var more bool
		if r.next, more = nextTry(d.Tries, s.cfg.Now(), r.after); !more {
			r.problem = "given up: " + r.problem
		}
	}
	return r
}

// call is call by the client that the address needs.
func (s *Service) call(ctx context.Context, e *Endpoint, secrets [][]byte, id string, body []byte) result {
	client := s.tls
	if strings.HasPrefix(strings.ToLower(e.URL), "http://") {
		client = s.bare
	}
	return call(ctx, client, e.URL, secrets, id, body)
}

// call posts a body, in the trace of ctx, and says what the endpoint made of it.
func call(ctx context.Context, client *http.Client, to string, secrets [][]byte, id string, body []byte) (r result) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		r.problem = "the address cannot be called"
		return r
	}
	if trace := payment.TraceOf(ctx).Header(); trace != "" {
		req.Header.Set("Traceparent", trace)
	}
	began := time.Now() // this machine's clock: the receiver holds it against its own
	Headers(req.Header, secrets, id, began, body)
	defer func() { r.took = time.Since(began) }()
	res, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // its text has the address, which may have a secret of the shop in it
			err = u.Err
		}
		r.problem = err.Error()
		return r
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, mostRead)) // so that the connection can be used again
	r.answer = answerOf(answer)
	r.status = res.StatusCode
	switch {
	case res.StatusCode >= 200 && res.StatusCode <= 299:
		r.taken = true
		return r
	case res.StatusCode == http.StatusGone:
		r.gone = true
	case res.StatusCode >= 300 && res.StatusCode <= 399:
		r.problem = fmt.Sprintf("answered %d: redirects are not followed, change the address", res.StatusCode)
		return r
	}
	r.problem = fmt.Sprintf("answered %d", res.StatusCode)
	if seconds, err := strconv.ParseInt(strings.TrimSpace(res.Header.Get("Retry-After")), 10, 32); err == nil {
		r.after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(res.Header.Get("Retry-After")); err == nil {
		r.after = time.Until(at)
	}
	return r
}

// judge writes what became of a page, and what it says of the endpoint.
func (s *Service) judge(ctx context.Context, e *Endpoint, turn time.Time, results []result) error {
	taken, gone, problem := false, false, ""
	for i := range results {
		r := &results[i]
		taken, gone = taken || r.taken, gone || r.gone
		switch {
		case r.taken:
			s.cfg.Observe.Webhook("delivered")
		case r.gone:
			s.cfg.Observe.Webhook("gone")
		case r.next.IsZero():
			s.cfg.Observe.Webhook("given_up")
		default:
			s.cfg.Observe.Webhook("failed")
		}
		if !r.taken {
			problem = r.problem
		}
	}
	if err := s.settle(ctx, e.ID, turn, results); err != nil {
		return err
	}
	now := s.cfg.Now().Truncate(time.Millisecond)
	switch {
	case gone:
		return s.close(ctx, e, "it answered 410 Gone")
	case taken && e.FailingSince.IsZero():
		return nil
	case taken:
		e.FailingSince, e.alarmed = time.Time{}, time.Time{}
		return s.mark(ctx, e)
	case e.FailingSince.IsZero():
		e.FailingSince = now
		return s.mark(ctx, e)
	case now.Sub(e.FailingSince) >= disableAfter:
		return s.close(ctx, e, "it took nothing for five days; last: "+problem)
	case now.Sub(e.FailingSince) >= alarmAfter && now.Sub(e.alarmed) >= alarmEvery:
		e.alarmed = now
		left := disableAfter - now.Sub(e.FailingSince)
		s.alarm(e, fmt.Sprintf("it takes nothing since %s, and is disabled in %s; last: %s",
			e.FailingSince.UTC().Format(time.RFC3339), left.Round(time.Hour), problem))
		return s.mark(ctx, e)
	}
	return nil
}

// mark writes since when an endpoint fails, and when that was an alarm.
func (s *Service) mark(ctx context.Context, e *Endpoint) error {
	var failing, alarmed int64
	if !e.FailingSince.IsZero() {
		failing = sqldb.Millis(e.FailingSince)
	}
	if !e.alarmed.IsZero() {
		alarmed = sqldb.Millis(e.alarmed)
	}
	_, err := s.update(ctx, e.ID, "failing_since = ?, alarmed_at = ?", failing, alarmed)
	return err
}

// close disables an endpoint, and tells the others.
func (s *Service) close(ctx context.Context, e *Endpoint, why string) error {
	e.State = StateDisabled
	s.alarm(e, "disabled: "+why)
	now := s.cfg.Now()
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE webhook_endpoints
SET state = 'disabled', why = ?, updated_at = ?
WHERE id = ?
  AND state = 'on'`, bounds.WebhookProblem.Cut(why), sqldb.Millis(now), e.ID)
		if err != nil || n == 0 {
			return err
		}
		return feed.Insert(ctx, tx, []feed.Event{{At: now, Type: feed.EndpointClosed, Ref: e.ID}})
	})
}

// alarm tells operators of an endpoint.
func (s *Service) alarm(e *Endpoint, what string) {
	s.cfg.Log.Error("alarm", "what", "webhook: an endpoint takes nothing", "webhook", e.ID, "detail", what)
	s.cfg.Observe.Alarm("webhook: an endpoint takes nothing", "", e.ID+": "+what)
}

// Tried is the answer to a test.
type Tried struct {
	Status  int // 0 without an answer
	Taken   bool
	Problem string
}

// Test sends a message of type webhook.test, signed as every other, and gives what the
// endpoint made of it. Nothing is written. Errors: ErrNotFound, ErrOff.
func (s *Service) Test(ctx context.Context, id string) (Tried, error) {
	if s.box == nil {
		return Tried{}, ErrOff
	}
	e, err := s.Find(ctx, id)
	if err != nil {
		return Tried{}, err
	}
	secrets, err := s.secrets(&e)
	if err != nil {
		return Tried{}, err
	}
	at := s.cfg.Now()
	body, _ := json.Marshal(feed.Message{Type: "webhook.test", Timestamp: at.UTC().Format(time.RFC3339Nano),
		Data: feed.MessageData{WebhookID: e.ID}})
	r := s.call(ctx, &e, secrets, "evt_test_"+strconv.FormatInt(sqldb.Millis(at), 10), body)
	return Tried{Status: r.status, Taken: r.taken, Problem: r.problem}, nil
}

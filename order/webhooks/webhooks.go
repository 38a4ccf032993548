package webhooks

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/bounds"
	"orderd/migrations/seal"
	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/feed"
)

// MaxEndpoints is how many there may be: each is asked for what is due at every look.
const MaxEndpoints = 50

const (
	// rotation is how long the old secret signs beside the new one.
	rotation = 24 * time.Hour
	// mostOld is how many old ones sign at a time. An answer with a secret may be lost: then the receiver has the one
	// before the one that nobody saw, and it must sign on when a third is made.
	mostOld = 2
)

// EndpointState says whether an endpoint is told.
type EndpointState string

// The states of an endpoint.
const (
	StateOn       EndpointState = "on"
	StateDisabled EndpointState = "disabled" // by a person, by its own 410, or after days of failures; Why says which
	stateRemoved  EndpointState = "removed"
)

// Endpoint is an address that is told. It never has its secret.
type Endpoint struct {
	ID   string
	URL  string
	Note string
	// Types are those it is told, none for all.
	Types []feed.Type
	State EndpointState
	// Why is who did something about it last, and why, or why it was disabled by itself.
	Why       string
	CreatedBy string
	CreatedAt time.Time
	// FailingSince is when the first sending failed after which none was taken; zero when
	// it takes what it is sent.
	FailingSince time.Time
	// TwoSecretsUntil is how long what was the secret before this one signs too; zero without.
	TwoSecretsUntil time.Time

	secret  string   // sealed
	old     []string // sealed, the newest first
	alarmed time.Time
	from    int64
}

// SecretVersion names the secret that an endpoint has, and tells nothing of it: whoever wants another in its place says
// by it which one they mean.
func (e *Endpoint) SecretVersion() string {
	sum := sha256.Sum256([]byte(e.secret))
	return hex.EncodeToString(sum[:8])
}

// wants reports that an endpoint is told of an event.
func (e *Endpoint) wants(ev *feed.Event) bool {
	return ev.ID > e.from && (len(e.Types) == 0 || slices.Contains(e.Types, ev.Type)) &&
		(ev.Type != feed.EndpointClosed || ev.Ref != e.ID)
}

// Put is what a person says of an endpoint.
type Put struct {
	URL, Note string
	Types     []feed.Type
	By        string // an operator's name
	Why       string // what Endpoint.Why says
}

// InvalidError says what of a Put is wrong: field is its name in the API.
type InvalidError struct{ Field, Code, Detail string }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Detail }

// Errors of a Service.
var (
	// ErrNotFound: there is no such endpoint, or it was removed.
	ErrNotFound = errors.New("there is no such webhook")
	// ErrNoEvent: the feed has no such event, or has forgotten it.
	ErrNoEvent = errors.New("the feed has no such event any more")
	// ErrOff: no key is configured that secrets are kept under.
	ErrOff = errors.New("webhooks are off: set ORDERD_WEBHOOK_KEY to at least 32 random bytes " +
		"(openssl rand -hex 32), the same in every process")
	// ErrTooMany: MaxEndpoints are there.
	ErrTooMany = fmt.Errorf("there are %d webhooks, and no more may be; remove one first", MaxEndpoints)
)

// ThereError: the shop tells an address already. Told twice, its back end would have every event twice.
type ThereError struct{ ID string }

func (e *ThereError) Error() string { return "there is a webhook of this address already: " + e.ID }

// RotatedError: the secret of an endpoint is not the one that was meant, or three of it sign, which is as many as may.
type RotatedError struct {
	At    time.Time // when it was made
	Until time.Time // when those before it end
	Why   string    // Endpoint.Why
	Full  bool      // three sign
}

func (e *RotatedError) Error() string {
	if e.Full {
		return fmt.Sprintf("three secrets sign for this webhook until %s, and no more may: give the receiver the "+
			"newest, or wait until then", e.Until.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("the secret was changed at %s; who did something about the webhook last: %s. The secret before "+
		"it signs until %s: read the webhook again, and rotate once more only if nobody has the new secret",
		e.At.UTC().Format(time.RFC3339), e.Why, e.Until.UTC().Format(time.RFC3339))
}

// Observer is told what happened; its methods must be quick.
type Observer interface {
	// Webhook counts a sending by its outcome: delivered, failed, gone, given_up.
	Webhook(outcome string)
	// Alarm is order.Observer's.
	Alarm(what, orderNo, detail string)
}

// Config is what a Service needs. DB and Now are required.
type Config struct {
	DB  *sqldb.DB
	Now func() time.Time // the database's clock
	Log *slog.Logger     // nil: silent
	// Key keeps the secrets in the database, of seal.MinKey bytes or more; "": webhooks are off.
	Key string
	// Allow are the networks beside the public internet.
	Allow   []netip.Prefix
	Observe Observer // nil: nobody watches
	// Holder names this process to the others.
	Holder string
	// Keep is how long deliveries that have ended are kept; 0: for ever.
	Keep time.Duration
	// LookEvery is how often a worker looks for what happened and for what is due, give or
	// take a fifth; default a second. What a ring tells is not waited for.
	LookEvery time.Duration
	// Ring rings the process that makes deliveries, when it is another (see Relay), and
	// Rings calls heard for each such ring until ctx ends; this process makes them meanwhile.
	// Both may lose any. nil: other processes are heard of at the next look.
	Ring  func(ctx context.Context)
	Rings func(ctx context.Context, heard func())
	// Traces gives the traces of what brought events about, one for each; nil: none is sent.
	Traces func(ctx context.Context, events []feed.Event) ([]payment.Trace, error)
}

// Service is the endpoints of a shop and what is sent to them. All methods are safe for
// concurrent use, by any number of processes on one database.
type Service struct {
	cfg  Config
	db   *sqldb.DB
	box  *seal.Box
	feed *feed.Feed
	tls  *http.Client // https://, to the internet and Config.Allow
	bare *http.Client // http://, to Config.Allow alone

	// Of the process that makes deliveries; tail is nil while another does.
	tail      *feed.Tail
	heldUntil time.Time     // it makes them, by the database's clock
	written   int64         // its place in the feed, as it is in the database
	plans     atomic.Bool   // it makes them, for whoever rings
	rung      chan struct{} // it was rung

	known atomic.Pointer[known] // the endpoints of a moment ago; nil: not known
}

// New makes a service; it calls nobody. Close ends its connections.
func New(c Config) (*Service, error) {
	if c.DB == nil || c.Now == nil {
		return nil, errors.New("webhooks: Config needs DB and Now")
	}
	s := &Service{cfg: c, db: c.DB, feed: feed.New(c.DB), rung: make(chan struct{}, 1),
		tls: newClient(c.Allow, false), bare: newClient(c.Allow, true)}
	s.cfg.LookEvery = cmp.Or(c.LookEvery, lookEvery)
	if s.cfg.Log == nil {
		s.cfg.Log = slog.New(slog.DiscardHandler)
	}
	if s.cfg.Observe == nil {
		s.cfg.Observe = nobody{}
	}
	if s.cfg.Holder == "" {
		s.cfg.Holder = ulid.Make().String()
	}
	if c.Key != "" {
		var err error
		if s.box, err = seal.New(c.Key, "webhooks"); err != nil {
			return nil, fmt.Errorf("webhooks: %w", err)
		}
	}
	return s, nil
}

// Close ends connections that nobody uses.
func (s *Service) Close() {
	s.tls.CloseIdleConnections()
	s.bare.CloseIdleConnections()
}

type nobody struct{}

func (nobody) Webhook(string)               {}
func (nobody) Alarm(string, string, string) {}

// check gives an *InvalidError unless an endpoint can be told as a person wants it.
func (p *Put) check() error {
	if wrong := bounds.WebhookURL.Check(p.URL); wrong != nil {
		return &InvalidError{"url", wrong.Code, wrong.Detail}
	}
	u, err := url.Parse(p.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Fragment != "" {
		return &InvalidError{"url", bounds.CodeFormat, "it must be a whole address without a user, such as " +
			"https://shop.example.com/orderd"}
	}
	if wrong := bounds.Note.Check(p.Note); wrong != nil {
		return &InvalidError{"note", wrong.Code, wrong.Detail}
	}
	for _, t := range p.Types {
		if !t.Known() {
			return &InvalidError{"types", "ENUM", fmt.Sprintf("there is no type %q; there are %s", t,
				typesOf(feed.Types()))}
		}
	}
	return nil
}

// typesOf is types as they are stored, and as people read them.
func typesOf(types []feed.Type) string {
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = string(t)
	}
	return strings.Join(words, " ")
}

// Add makes an endpoint, which is told what happens from now on (see feed.Feed.Begin), and
// gives its secret: it is shown this once. Errors: *InvalidError, *ThereError, ErrTooMany, ErrOff.
func (s *Service) Add(ctx context.Context, p Put) (e Endpoint, secret string, err error) {
	if s.box == nil {
		return e, "", ErrOff
	}
	if err := p.check(); err != nil {
		return e, "", err
	}
	from, err := s.feed.Begin(ctx, s.cfg.Now())
	if err != nil {
		return e, "", err
	}
	slices.Sort(p.Types)
	raw, shown := newSecret()
	e = Endpoint{ID: "we_" + ulid.Make().String(), URL: p.URL, Note: p.Note, Types: slices.Compact(p.Types),
		State: StateOn, Why: said(p.Why), CreatedBy: p.By, CreatedAt: s.cfg.Now().Truncate(time.Millisecond),
		from: from}
	e.secret = s.box.Seal(raw, e.ID)
	return e, shown, s.insertEndpoint(ctx, &e)
}

// Change says anew where an endpoint is and what it is told. Errors: *InvalidError, *ThereError,
// ErrNotFound.
func (s *Service) Change(ctx context.Context, id string, p Put) (Endpoint, error) {
	if err := p.check(); err != nil {
		return Endpoint{}, err
	}
	slices.Sort(p.Types)
	return s.updateIf(ctx, id, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := hold(ctx, tx); err != nil {
			return err
		}
		was, err := findEndpoint(ctx, tx, id)
		if err != nil || was.URL == p.URL { // of two that were there before this was refused, either may be changed
			return err
		}
		return free(ctx, tx, id, p.URL)
	}, "url = ?, note = ?, types = ?, why = ?", p.URL, p.Note, typesOf(slices.Compact(p.Types)), said(p.Why))
}

// said is what somebody says who does something, as Endpoint.Why keeps it: who it was, and the
// reason. One that is long is cut.
func said(why string) string { return bounds.WebhookProblem.Cut(why) }

// Rotate makes a new secret; what was the secret before signs beside it for a day, and so does what signs beside that:
// a secret that nobody saw, because the answer was lost, never takes the place of the receiver's. seen is
// Endpoint.SecretVersion of the secret that is meant, "" for whichever it is. Errors: *RotatedError, ErrNotFound,
// ErrOff.
func (s *Service) Rotate(ctx context.Context, id, why, seen string) (e Endpoint, secret string, err error) {
	if s.box == nil {
		return e, "", ErrOff
	}
	raw, shown := newSecret()
	e, err = s.rotate(ctx, id, s.box.Seal(raw, id), said(why), seen)
	return e, shown, err
}

// Disable stops the sending; what waits stays, and nothing new is kept for it.
func (s *Service) Disable(ctx context.Context, id, why string) (Endpoint, error) {
	return s.update(ctx, id, "state = 'disabled', why = ?", said(why))
}

// Enable begins again, with what waits and what happens from now on; Redeliver has what
// happened in between. One that is on misses nothing by it.
func (s *Service) Enable(ctx context.Context, id, why string) (Endpoint, error) {
	from, err := s.feed.Begin(ctx, s.cfg.Now())
	if err != nil {
		return Endpoint{}, err
	}
	return s.update(ctx, id, // told_from first: MySQL would see the new state behind it
		"told_from = CASE state WHEN 'on' THEN told_from ELSE ? END, state = 'on', why = ?, failing_since = 0, "+
			"alarmed_at = 0", from, said(why))
}

// Remove ends an endpoint for good; its row stays, with why.
func (s *Service) Remove(ctx context.Context, id, why string) error {
	_, err := s.update(ctx, id, "state = 'removed', secret = '', old_secret = '', why = ?", said(why))
	return err
}

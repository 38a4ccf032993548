package storefront

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"orderd/migrations/bounds"
)

// Options shape the storefront. All but Console, PayFor and Log are required.
type Options struct {
	// API, Sim and Console are host:port of the customers' listener, of the simulator and of the console; Console
	// is "" where this process has none.
	API, Sim, Console string
	// Key is a shop's key for placing and for looking at goods.
	Key string
	// Token makes a token of a customer.
	Token func(customer string) (string, error)
	// Goods gives the ids of what is for sale.
	Goods func(ctx context.Context) ([]string, error)
	// PayFor is the time to pay that the shop gives its orders, in whole seconds; 0: the service's own.
	PayFor time.Duration
	Now    func() time.Time
	Log    *slog.Logger // nil: silent
	// Stopping ends the waits of open pages when it is closed.
	Stopping <-chan struct{}
}

const (
	// maxAtOnce bounds the requests under way, those that wait among them: a page that is open waits.
	maxAtOnce = 64
	// maxForm bounds the body of a form, in bytes.
	maxForm = 4 << 10
	// actsAtOnce and actEvery bound what visitors do, all together: each act may call WeChat Pay.
	actsAtOnce = 40
	actEvery   = 100 * time.Millisecond
	// waitFor is how long a page waits for news before it asks again.
	waitFor = 20 * time.Second
	// quietAfter is when an order in which nothing moves is looked at every second.
	quietAfter = time.Minute
)

// policy allows the pages' own files and forms, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// Shop serves the storefront. It is safe for concurrent use.
type Shop struct {
	o      Options
	client client
	slots  chan struct{}

	mu      sync.Mutex
	stories map[string]*story
	full    time.Time // when acts are at their most again

	hearing sync.Mutex // who reads the log of the simulator
	heard   time.Time
	seq     int
}

// New gives the handler of the storefront's listener.
func New(o Options) (http.Handler, error) {
	if o.API == "" || o.Sim == "" || o.Key == "" || o.Token == nil || o.Goods == nil || o.Now == nil ||
		o.Stopping == nil {
		return nil, errors.New("storefront: Options needs API, Sim, Key, Token, Goods, Now and Stopping")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Shop{o: o, slots: make(chan struct{}, maxAtOnce), stories: map[string]*story{},
		client: client{api: o.API, sim: o.Sim, key: o.Key, token: o.Token, http: &http.Client{Timeout: callTimeout,
			Transport: &http.Transport{MaxIdleConnsPerHost: maxAtOnce}}}}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request, visit){
		"GET /{$}":                s.home,
		"GET /live":               s.homeLive,
		"GET /orders/{no}":        s.order,
		"GET /orders/{no}/live":   s.orderLive,
		"GET /orders/{no}/qr.svg": s.qr,
		"POST /orders":            s.place,
		"POST /orders/{no}/{do}":  s.do,
		"POST /language":          s.language,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { handle(w, r, s.visitOf(w, r)) })
	}
	mux.HandleFunc("GET /static/{name}", static)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, s.visitOf(w, r), http.StatusNotFound, "error.none")
	})
	return s.guarded(mux), nil
}

// ofStrangers reports that another site's page makes a browser ask (Fetch metadata, or Origin): to change something, or
// to load something into that page. A person who follows a link from there asks for a page, and gets it.
func ofStrangers(p *http.CrossOriginProtection, r *http.Request) bool {
	h := r.Header
	page := h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Sec-Fetch-Dest") == "document"
	site := h.Get("Sec-Fetch-Site")
	return p.Check(r) != nil || !page && (site == "cross-site" || site == "same-site")
}

// guarded lets in whoever calls this machine by its own name, which the page of a stranger cannot: its name would
// be in Host. It bounds the requests under way, and says what a browser may load. Those of strangers' pages are refused
// before they are counted: they must not use up what the visitors have together.
func (s *Shop) guarded(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !Loopback(r.Host) {
			http.Error(w, "the storefront is called 127.0.0.1 or localhost", http.StatusForbidden)
			return
		}
		if ofStrangers(protection, r) {
			http.Error(w, "the request comes from a page of another site", http.StatusForbidden)
			return
		}
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			h.Set("Retry-After", "1")
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
			return
		}
		if r.Method == http.MethodPost {
			if wait := s.take(); wait > 0 {
				h.Set("Retry-After", "1")
				http.Error(w, "too many requests", http.StatusTooManyRequests)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		}
		next.ServeHTTP(w, r)
	})
}

// Loopback reports that host, with a port or without, is this machine's own name for itself.
func Loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// take takes one act from what visitors may do together; it gives how long to wait where there is none.
func (s *Shop) take() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	full := s.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(actEvery)
	if wait := full.Sub(now) - actsAtOnce*actEvery; wait > 0 {
		return wait
	}
	s.full = full
	return 0
}

// visit is who asks: a customer of the service, made of the cookie, and the language.
type visit struct {
	customer string
	lang     lang
}

// The cookies. That of the visitor is random, and nothing is remembered of it: a restart loses nobody.
const (
	cookieVisitor  = "orderd_shop"
	cookieLanguage = "orderd_shop_lang"
	cookieLife     = 30 * 24 * time.Hour
)

// maxCookie bounds what is taken for a visitor, in bytes; ours have 26.
const maxCookie = 64

// visitOf knows a visitor again, or gives a new one a cookie. Lax and not strict: a link from elsewhere leads to the
// same visitor, and forms from elsewhere are refused before.
func (s *Shop) visitOf(w http.ResponseWriter, r *http.Request) visit {
	v := visit{lang: languageOf(r)}
	secret := ""
	if c, err := r.Cookie(cookieVisitor); err == nil && len(c.Value) <= maxCookie {
		secret = c.Value
	}
	if secret == "" {
		secret = rand.Text()
		setCookie(w, cookieVisitor, secret)
	}
	sum := sha256.Sum256([]byte(secret))
	v.customer = "visitor-" + hex.EncodeToString(sum[:8])
	return v
}

// setCookie sets one for a month.
func setCookie(w http.ResponseWriter, name, value string) {
	//nolint:gosec // G124: it is not Secure, because on loopback there is no TLS, nor anybody between
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(cookieLife.Seconds())})
}

// validOrderNo reports that no can be an order's number, a ULID: it goes into addresses.
func validOrderNo(no string) bool { return bounds.OrderNo.Fits(no) && strings.ToUpper(no) == no }

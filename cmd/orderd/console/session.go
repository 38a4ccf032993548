package console

import (
	"context"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
	"orderd/payment/operators"
)

// The cookies of a browser: of the session by which it is signed in, and of having been let in before
// (operators.Logins.Know). Where there is TLS they have names that no other host and no page without TLS
// can set (RFC 6265bis, __Host-).
const (
	hostPrefix    = "__Host-"
	sessionCookie = "orderd_session"
	secureCookie  = hostPrefix + sessionCookie
	browserCookie = "orderd_browser"
	// sessionKey is where guard keeps the session in the echo.Context.
	sessionKey = "session"
	// provePassword is the field of a form by which the password is given again: see stepUp.
	provePassword = "prove_password"
)

// forBrowsers reports that a route is for whoever is signed in, and no token opens it: whatever a
// form of the console posts, and the pages of one's own account and of people's.
func forBrowsers(method, path string) bool {
	return method != http.MethodGet && !strings.HasPrefix(path, "/admin/") ||
		strings.HasPrefix(path, "/ui/me") || strings.HasPrefix(path, "/ui/people")
}

// caller says who asks, and by what: a token, or the session of a browser. A browser reads by its
// session, and changes something by the forms of the console alone. The API's own writes take
// tokens only: no page of another site can have a browser send one.
func (c *console) caller(ctx echo.Context) (*Token, error) {
	r := ctx.Request()
	header, browsers := r.Header.Get(echo.HeaderAuthorization), forBrowsers(r.Method, ctx.Path())
	if header != "" && !browsers {
		secret, ok := strings.CutPrefix(header, "Bearer ")
		who, err := c.who(r.Context(), secret)
		if err == nil && (!ok || who == nil) {
			err = c.unauthenticated(ctx, ok && secret != "")
		}
		return who, err
	}
	if browsers || r.Method == http.MethodGet {
		s, err := c.session(r)
		if err != nil {
			return nil, err
		}
		if s != nil {
			ctx.Set(sessionKey, *s)
			return &Token{Name: s.Person, Role: s.Role}, c.enrolled(ctx, *s)
		}
	}
	return nil, c.unauthenticated(ctx, false)
}

// liveHeader is on what the script asks for by itself: a page that is open on a desk keeps nobody signed in.
const liveHeader = "X-Orderd-Live"

// session gives what a browser is signed in as, nil for none.
func (c *console) session(r *http.Request) (*operators.Session, error) {
	secret := c.cookieOf(r, sessionCookie)
	if c.Logins == nil || secret == "" {
		return nil, nil
	}
	if r.URL.Path == uiEvents || r.Header.Get(liveHeader) != "" { // nobody has done anything
		return c.Logins.Still(r.Context(), secret)
	}
	return c.Logins.Who(r.Context(), secret)
}

// sessionOf gives the session that guard let in; the zero value where a token was.
func sessionOf(ctx echo.Context) operators.Session {
	s, _ := ctx.Get(sessionKey).(operators.Session)
	return s
}

// enrolled refuses everything but the way to one-time codes to whoever has to have them.
func (c *console) enrolled(ctx echo.Context, s operators.Session) error {
	needs := c.RequireTOTP && !s.TOTP && (s.Role == Finance || s.Role == Admin)
	if !needs || strings.HasPrefix(ctx.Path(), "/ui/me/totp") || ctx.Path() == "/logout" {
		return nil
	}
	if asksForPage(ctx.Request()) {
		return &elsewhere{"/ui/me/totp"}
	}
	return fail(orderhttp.CodeUnauthenticated, "This role needs one-time codes: switch them on at /ui/me/totp.")
}

// elsewhere is an error that sends a browser to another page.
type elsewhere struct{ to string }

func (e *elsewhere) Error() string { return "see " + e.to }

// asksForPage reports that whoever asks wants to read a page: a browser, and no program.
func asksForPage(r *http.Request) bool {
	return slices.ContainsFunc(strings.Split(r.Header.Get(echo.HeaderAccept), ","), func(one string) bool {
		kind, _, err := mime.ParseMediaType(one)
		return err == nil && kind == echo.MIMETextHTML
	})
}

// saysTLS reports that the browser's page came over TLS, as the connection, a proxy or the browser
// says, or a cookie that it can have by TLS alone. Whoever lies about it has a cookie that comes back to
// nobody.
func saysTLS(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get(echo.HeaderXForwardedProto) == "https" ||
		strings.HasPrefix(r.Header.Get(echo.HeaderOrigin), "https://") ||
		slices.ContainsFunc(r.Cookies(), func(k *http.Cookie) bool {
			return k.Name == secureCookie || k.Name == hostPrefix+browserCookie
		})
}

// atHome reports that a browser reached the listener by a name of its own machine: on it, or by a
// tunnel that ends there. Cookies of such a name are set by programs of that machine alone, and never
// cross a network.
func atHome(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// secure reports that the cookies of a request are those of TLS, and those without it are neither taken
// nor set. What the request says of itself is not enough to say otherwise: a proxy may say nothing.
func (c *console) secure(r *http.Request) bool { return c.BehindTLS || saysTLS(r) || !atHome(r) }

// inTheClear reports that a browser says of a form that its page came without TLS, where the cookies are
// those of TLS, which it would not keep.
func (c *console) inTheClear(r *http.Request) bool {
	return c.secure(r) && strings.HasPrefix(r.Header.Get(echo.HeaderOrigin), "http://")
}

// cookieName is the name that a cookie has for a request.
func (c *console) cookieName(r *http.Request, name string) string {
	if c.secure(r) {
		return hostPrefix + name
	}
	return name
}

// cookieOf gives what a cookie has, "" for none. Of two of a name, which two paths or hosts can have set,
// none counts.
func (c *console) cookieOf(r *http.Request, name string) string {
	if all := r.CookiesNamed(c.cookieName(r, name)); len(all) == 1 {
		return all[0].Value
	}
	return ""
}

// setCookie gives a browser a cookie, for a time or, with 0, until it ends; below 0 it takes it back.
func (c *console) setCookie(ctx echo.Context, name, value string, age time.Duration) {
	//nolint:gosec // G124: on its own machine there is no TLS
	ctx.SetCookie(&http.Cookie{Name: c.cookieName(ctx.Request(), name), Value: value, Path: "/", HttpOnly: true,
		MaxAge: int(age / time.Second), SameSite: http.SameSiteStrictMode, Secure: c.secure(ctx.Request())})
}

// signIn gives a browser the cookie of its session, which has no end of its own: the browser's, or the
// session's; and that of having been let in.
func (c *console) signIn(ctx echo.Context, person, secret string) {
	c.setCookie(ctx, sessionCookie, secret, 0)
	c.setCookie(ctx, browserCookie, c.Logins.Know(person), operators.BrowserFor)
}

// signOut takes the cookie of the session back. The browser stays known.
func (c *console) signOut(ctx echo.Context) { c.setCookie(ctx, sessionCookie, "", -time.Second) }

// sameOrigin refuses what another site's page makes a browser send (Fetch metadata, or Origin).
// Programs send neither and are not concerned.
func sameOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	return func(ctx echo.Context) error {
		if protection.Check(ctx.Request()) != nil {
			return fail(orderhttp.CodeForbidden, "The request comes from a page of another site.")
		}
		return next(ctx)
	}
}

// public is for what nobody need be signed in for; it is bounded as what guard lets in.
func (c *console) public(h echo.HandlerFunc) echo.HandlerFunc {
	return func(ctx echo.Context) error {
		if err := checkQuery(ctx); err != nil {
			return err
		}
		bounded, cancel := context.WithTimeout(ctx.Request().Context(), apiTimeout)
		defer cancel()
		ctx.SetRequest(ctx.Request().WithContext(bounded))
		return h(ctx)
	}
}

// readForm reads what a form has sent, at most maxBody; a field given twice is refused, as in the
// API: which of two counts is nobody's to guess. Another call gives the same again.
func readForm(ctx echo.Context) (url.Values, error) {
	r := ctx.Request()
	media, _, err := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType))
	if err != nil || media != echo.MIMEApplicationForm {
		return nil, &orderhttp.Failure{Code: orderhttp.CodeUnsupportedMedia}
	}
	if r.PostForm == nil {
		r.Body = http.MaxBytesReader(ctx.Response(), r.Body, maxBody)
	}
	if err := r.ParseForm(); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, &orderhttp.Failure{Code: orderhttp.CodeBodyTooLarge}
		}
		return nil, fail(orderhttp.CodeMalformed, "The form cannot be read.") // the error may quote a secret
	}
	for _, values := range r.PostForm {
		if len(values) > 1 {
			return nil, fail(orderhttp.CodeMalformed, "A field of the form is given twice.")
		}
	}
	return r.PostForm, nil
}

// fields is readForm for a form of these fields, each without white space around it unless it is
// a password; another one is refused.
func fields(ctx echo.Context, names ...string) (map[string]string, error) {
	form, err := readForm(ctx)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for name := range form {
		if !slices.Contains(names, name) && name != provePassword {
			return nil, fail(orderhttp.CodeMalformed, "The form has a field that is unknown.")
		}
		values[name] = form.Get(name)
		if name == "name" || name == "code" || name == "reason" {
			values[name] = strings.TrimSpace(values[name])
		}
	}
	return values, nil
}

// stepUp has the password given again for what moves much, unless it was within
// operators.ProvedFor: approvals above the limit of two people, write-offs, corrections of stock,
// endpoints of webhooks, other people's accounts. The page that asks for it posts the form once
// more, with what was in it. Only routes for browsers take it.
func (c *console) stepUp(h echo.HandlerFunc) echo.HandlerFunc {
	return func(ctx echo.Context) error {
		form, err := readForm(ctx)
		if err != nil {
			return err
		}
		s := sessionOf(ctx)
		if s.Proved(c.Now()) {
			return h(ctx)
		}
		answer, again := http.StatusForbidden, ""
		if password := form.Get(provePassword); password != "" {
			err := c.Logins.Prove(ctx.Request().Context(), s, password)
			if err == nil {
				return h(ctx)
			}
			if answer, again, err = c.refused(ctx, err); err != nil {
				return err
			}
		}
		hidden := map[string]lines{}
		for name := range form {
			if name != provePassword {
				hidden[name] = lines(strings.ReplaceAll(form.Get(name), "\r\n", "\n"))
			}
		}
		return c.showLogin(ctx, answer, "prove", map[string]any{"Said": again, "Hidden": hidden,
			"Action": ctx.Request().URL.Path, "Back": backOf(ctx.Request()), "Minutes": minutes(operators.ProvedFor)})
	}
}

// refused says what whoever was not let in is told, with its status: the same for every reason
// but for having tried too often. An error that is neither is given back.
func (c *console) refused(ctx echo.Context, err error) (status int, message string, other error) {
	var held *operators.ThrottledError
	switch {
	case errors.As(err, &held):
		c.Metrics.WrongToken("login", true)
		ctx.Response().Header().Set("Retry-After", seconds(held.Wait))
		return http.StatusTooManyRequests, say(ctx, "said.held", minutes(held.Wait)), nil
	case errors.Is(err, operators.ErrLogin):
		c.Metrics.WrongToken("login", false)
		return http.StatusForbidden, say(ctx, "said.wrong"), nil
	}
	return 0, "", err
}

// browserOf is what is known of a browser.
func (c *console) browserOf(r *http.Request) operators.Browser {
	return operators.Browser{Address: orderhttp.AddressOf(r, c.TrustedProxies), Agent: r.UserAgent()}
}

// say gives a text in the language of whoever asks.
func say(ctx echo.Context, word string, values ...any) string {
	return languageOf(ctx.Request()).word(word, values...)
}

// nextPage gives the page that a browser wanted, "/" for what is none of the console's: a link
// must not use the login to lead elsewhere.
func nextPage(next string) string {
	return ownPage(next, func(path string) bool { return strings.HasPrefix(path, "/ui/") })
}

// backPage is nextPage for whoever changes the language, who need not be signed in.
func backPage(back string) string {
	return ownPage(back, func(path string) bool {
		return strings.HasPrefix(path, "/ui/") || path == "/login" || path == "/setup"
	})
}

// ownPage gives a page of the console whose path fits, and "/" for everything else.
func ownPage(page string, fits func(path string) bool) string {
	u, err := url.Parse(page)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || strings.ContainsAny(page, "\\\r\n") ||
		u.Path != "/" && !fits(u.Path) || strings.HasPrefix(page, "//") {
		return "/"
	}
	return page
}

// backOf gives the page that is shown, or on which the form is that was sent.
func backOf(r *http.Request) string {
	if r.Method == http.MethodGet {
		return backPage(r.URL.RequestURI())
	}
	if u, err := url.Parse(r.Referer()); err == nil && u.Host == r.Host {
		return backPage(u.RequestURI())
	}
	return "/"
}

// minutes and seconds give a wait rounded up.
func minutes(d time.Duration) string { return roundUp(d, time.Minute) }
func seconds(d time.Duration) string { return roundUp(d, time.Second) }

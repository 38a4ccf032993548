package console

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"rsc.io/qr"

	"orderd/migrations/bounds"
	"orderd/order/orderhttp"
	"orderd/payment/operators"
)

// beijing is where the shop's people are.
var beijing = time.FixedZone("UTC+8", 8*60*60)

// loginRoutes are there when there are Logins. What nobody need be signed in for is public; the
// rest is for browsers (forBrowsers).
func (c *console) loginRoutes() []route {
	return []route{
		{http.MethodGet, "/login", "", c.public(c.loginPage)},
		{http.MethodPost, "/login", "", c.public(c.login)},
		{http.MethodGet, "/setup", "", c.public(c.setupPage)},
		{http.MethodPost, "/setup", "", c.public(c.setup)},
		{http.MethodPost, "/logout", Viewer, c.logout},
		{http.MethodGet, "/ui/me", Viewer, c.mePage},
		{http.MethodPost, "/ui/me/sessions/end", Viewer, c.endOwnSession},
		{http.MethodGet, "/ui/me/password", Viewer, c.passwordPage},
		{http.MethodPost, "/ui/me/password", Viewer, c.changePassword},
		{http.MethodGet, "/ui/me/totp", Viewer, c.totpPage},
		{http.MethodPost, "/ui/me/totp", Viewer, c.stepUp(c.beginTOTP)},
		{http.MethodPost, "/ui/me/totp/confirm", Viewer, c.confirmTOTP},
		{http.MethodPost, "/ui/me/totp/off", Viewer, c.stepUp(c.endTOTP)},
	}
}

// showLogin answers with a page about who somebody is. It may have a secret, so nobody keeps it.
func (c *console) showLogin(ctx echo.Context, status int, name string, data map[string]any) error {
	data["Session"], data["Least"], data["Most"] = sessionOf(ctx), bounds.Password.Least, bounds.Password.Most
	body, err := c.render(ctx, name, data)
	if err != nil {
		return err
	}
	ctx.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return ctx.HTMLBlob(status, body)
}

// see sends a browser to another page after a form.
func see(ctx echo.Context, page string) error { return ctx.Redirect(http.StatusSeeOther, page) }

// loginPage is GET /login; next is the page that was asked for.
func (c *console) loginPage(ctx echo.Context) error {
	next := nextPage(ctx.QueryParam("next"))
	s, err := c.session(ctx.Request())
	if err != nil {
		return err
	}
	if s != nil {
		return see(ctx, next)
	}
	return c.showLogin(ctx, http.StatusOK, "login", map[string]any{"Next": next})
}

// login is POST /login. What is wrong is not said, nor shown again: a password may stand where the
// name should.
func (c *console) login(ctx echo.Context) error {
	f, err := fields(ctx, "name", "password", "code", "next")
	if err != nil {
		return err
	}
	r := ctx.Request()
	next := nextPage(f["next"])
	if c.inTheClear(r) {
		return c.showLogin(ctx, http.StatusForbidden, "login", map[string]any{"Next": next,
			"Said": say(ctx, "said.tls")})
	}
	also, told := c.entered(ctx, actLogin)
	secret, err := c.Logins.Login(r.Context(), operators.Login{Name: f["name"], Password: f["password"],
		Code: f["code"], Browser: c.browserOf(r), Old: c.cookieOf(r, sessionCookie),
		Known: c.cookieOf(r, browserCookie), Also: also})
	if err != nil {
		status, message, other := c.refused(ctx, err)
		if other != nil {
			return other
		}
		if status != http.StatusTooManyRequests {
			c.turnedAway(ctx, f["name"])
		}
		why := "" // of the service, and not of whoever asks
		if errors.Is(err, operators.ErrSealed) {
			why = operators.ErrSealed.Error()
		}
		c.Log.Warn("login refused", "address", c.browserOf(r).Address, "held", status == http.StatusTooManyRequests,
			"why", why)
		return c.showLogin(ctx, status, "login", map[string]any{"Next": next, "Said": message})
	}
	told()
	c.signIn(ctx, f["name"], secret)
	c.Log.Info("login", "name", f["name"], "address", c.browserOf(r).Address)
	return see(ctx, next)
}

// setupPage is GET /setup?t=SECRET: where a link leads that sets a password.
func (c *console) setupPage(ctx echo.Context) error {
	k, err := c.findLink(ctx, ctx.QueryParam("t"))
	if err != nil || k == nil {
		return err
	}
	return c.showLogin(ctx, http.StatusOK, "setup", map[string]any{"Person": k.Person, "T": ctx.QueryParam("t")})
}

// findLink gives a link that is good; nil when the page that says otherwise was the answer, or the
// error. Links that never were count as wrong tokens.
func (c *console) findLink(ctx echo.Context, secret string) (*operators.Link, error) {
	k, err := c.Logins.FindLink(ctx.Request().Context(), secret)
	if !errors.Is(err, operators.ErrLink) {
		return &k, err
	}
	if err := c.WrongTokens.Refuse(ctx.Request(), nil); err != nil {
		return nil, err
	}
	return nil, c.showLogin(ctx, http.StatusNotFound, "link", map[string]any{"Dead": true})
}

// setup is POST /setup: the password of a link's person, or the first person of all.
func (c *console) setup(ctx echo.Context) error {
	f, err := fields(ctx, "t", "name", "password", "again")
	if err != nil {
		return err
	}
	k, err := c.findLink(ctx, f["t"])
	if err != nil || k == nil {
		return err
	}
	again := func(message string) error {
		return c.showLogin(ctx, http.StatusUnprocessableEntity, "setup", map[string]any{"Person": k.Person,
			"T": f["t"], "Name": f["name"], "Said": message})
	}
	r := ctx.Request()
	switch {
	case c.inTheClear(r):
		return again(say(ctx, "said.tls"))
	case f["password"] != f["again"]:
		return again(say(ctx, "said.notagain"))
	}
	also, told := c.entered(ctx, actLink)
	secret, err := c.Logins.UseLink(r.Context(), f["t"], f["name"], f["password"], c.cookieOf(r, sessionCookie),
		c.browserOf(r), also)
	switch {
	case errors.Is(err, operators.ErrPassword):
		return again(tooWeak(ctx))
	case errors.Is(err, operators.ErrName), errors.Is(err, operators.ErrExists):
		return again(say(ctx, "said.name"))
	case errors.Is(err, operators.ErrLink):
		return c.showLogin(ctx, http.StatusNotFound, "link", map[string]any{"Dead": true})
	case err != nil:
		return err
	}
	told()
	person := cmp.Or(k.Person, f["name"])
	c.signIn(ctx, person, secret)
	c.Log.Info("password set by a link", "name", person, "address", c.browserOf(r).Address)
	return see(ctx, "/")
}

// tooWeak says what a password has to be.
func tooWeak(ctx echo.Context) string {
	return say(ctx, "said.weak", bounds.Password.Least, bounds.Password.Most)
}

// logout is POST /logout.
func (c *console) logout(ctx echo.Context) error {
	s := sessionOf(ctx)
	if err := c.Logins.End(ctx.Request().Context(), s.Person, s.ID); err != nil {
		return err
	}
	c.signOut(ctx)
	return see(ctx, "/login")
}

// mePage is GET /ui/me: one's account and its sessions.
func (c *console) mePage(ctx echo.Context) error {
	all, err := c.Logins.Sessions(ctx.Request().Context(), sessionOf(ctx).Person)
	if err != nil {
		return err
	}
	return c.showLogin(ctx, http.StatusOK, "me", map[string]any{"Sessions": all,
		"IdleMinutes": minutes(operators.SessionIdle), "MostHours": roundUp(operators.SessionMost, time.Hour)})
}

// endOwnSession is POST /ui/me/sessions/end: the one with an id, or without one all others.
func (c *console) endOwnSession(ctx echo.Context) error {
	f, err := fields(ctx, "id")
	if err != nil {
		return err
	}
	s, rctx := sessionOf(ctx), ctx.Request().Context()
	if f["id"] == "" {
		err = c.Logins.EndAll(rctx, s.Person, s.ID)
	} else {
		err = c.Logins.End(rctx, s.Person, f["id"])
	}
	if err != nil {
		return err
	}
	return see(ctx, "/ui/me")
}

// passwordPage is GET /ui/me/password.
func (c *console) passwordPage(ctx echo.Context) error {
	return c.showLogin(ctx, http.StatusOK, "password", map[string]any{})
}

// changePassword is POST /ui/me/password: all sessions end, and the browser has a new one.
func (c *console) changePassword(ctx echo.Context) error {
	f, err := fields(ctx, "old", "password", "again")
	if err != nil {
		return err
	}
	again := func(status int, message string) error {
		return c.showLogin(ctx, status, "password", map[string]any{"Said": message})
	}
	if f["password"] != f["again"] {
		return again(http.StatusUnprocessableEntity, say(ctx, "said.notagain"))
	}
	r, s := ctx.Request(), sessionOf(ctx)
	secret, err := c.Logins.ChangePassword(r.Context(), s, f["old"], f["password"], c.browserOf(r))
	if errors.Is(err, operators.ErrPassword) {
		return again(http.StatusUnprocessableEntity, tooWeak(ctx))
	}
	if err != nil {
		status, message, err := c.refused(ctx, err)
		if err != nil {
			return err
		}
		return again(status, message)
	}
	c.signIn(ctx, s.Person, secret)
	c.Log.Info("password changed", "name", s.Person, "address", s.Address)
	return see(ctx, "/ui/me")
}

// totpPage is GET /ui/me/totp.
func (c *console) totpPage(ctx echo.Context) error {
	return c.showLogin(ctx, http.StatusOK, "totp", map[string]any{"Required": c.mustHaveTOTP(ctx),
		"Off": !c.Logins.CanSeal()})
}

// mustHaveTOTP reports that whoever is signed in may not be without one-time codes.
func (c *console) mustHaveTOTP(ctx echo.Context) bool {
	role := sessionOf(ctx).Role
	return c.RequireTOTP && (role == Finance || role == Admin)
}

// beginTOTP is POST /ui/me/totp: it shows a secret as a QR code and as text. Beside the answers to wrong codes, as
// long as the password was given a moment ago, no other page has it.
func (c *console) beginTOTP(ctx echo.Context) error {
	if _, err := fields(ctx); err != nil {
		return err
	}
	s := sessionOf(ctx)
	secret, err := c.Logins.BeginTOTP(ctx.Request().Context(), s)
	if errors.Is(err, operators.ErrNoKey) {
		return c.totpPage(ctx)
	}
	if err != nil {
		return err
	}
	return c.showSecret(ctx, http.StatusOK, secret, "")
}

// showSecret is the page of a secret that was begun, with its picture; said is what is wrong with what was sent.
func (c *console) showSecret(ctx echo.Context, status int, secret, said string) error {
	v := map[string]any{"Said": said, "Begun": true, "Required": c.mustHaveTOTP(ctx)}
	if secret != "" {
		address := operators.TOTPAddress(sessionOf(ctx).Person, secret)
		code, err := qr.Encode(address, qr.M)
		if err != nil {
			return errors.New("draw the QR code of a secret") // the error may quote it
		}
		v["Secret"], v["Address"] = secret, address
		v["Side"], v["Path"] = drawn(code)
	}
	return c.showLogin(ctx, status, "totp", v)
}

// drawn gives a QR code as the path of an SVG picture, a rectangle for each run of dark modules,
// and the side of the picture with the white margin of four that ISO/IEC 18004 demands.
func drawn(code *qr.Code) (side int, path string) {
	const margin = 4
	var b strings.Builder
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				b.WriteString("M" + strconv.Itoa(x+margin) + " " + strconv.Itoa(y+margin) + "h1v1h-1z")
			}
		}
	}
	return code.Size + 2*margin, b.String()
}

// confirmTOTP is POST /ui/me/totp/confirm: from now on logins take a code.
func (c *console) confirmTOTP(ctx echo.Context) error {
	f, err := fields(ctx, "code")
	if err != nil {
		return err
	}
	s := sessionOf(ctx)
	switch err := c.Logins.ConfirmTOTP(ctx.Request().Context(), s, f["code"]); {
	case errors.Is(err, operators.ErrNoTOTP):
		return see(ctx, "/ui/me/totp")
	case err != nil:
		status, message, err := c.refused(ctx, err)
		if err != nil {
			return err
		}
		secret, err := c.Logins.BegunTOTP(ctx.Request().Context(), s)
		if err != nil {
			return err
		}
		return c.showSecret(ctx, status, secret, message)
	}
	c.Log.Info("one-time codes on", "name", s.Person)
	return see(ctx, "/ui/me")
}

// endTOTP is POST /ui/me/totp/off.
func (c *console) endTOTP(ctx echo.Context) error {
	if _, err := fields(ctx); err != nil {
		return err
	}
	if c.mustHaveTOTP(ctx) {
		return fail(orderhttp.CodeForbidden, "This role needs one-time codes.")
	}
	s := sessionOf(ctx)
	if err := c.Logins.EndTOTP(ctx.Request().Context(), s); err != nil {
		return err
	}
	c.Log.Info("one-time codes off", "name", s.Person)
	return see(ctx, "/ui/me")
}

// roundUp gives how many units a wait has, at least one.
func roundUp(d, unit time.Duration) string {
	return strconv.FormatInt(int64(max((d+unit-1)/unit, 1)), 10)
}

package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order/orderhttp"
	"orderd/order/shops"
	"orderd/payment/operators"
)

// ShopKeys is what admins need of the keys of shops; *shops.Store has it, and documents its errors.
type ShopKeys interface {
	List(ctx context.Context) ([]shops.Key, error)
	Create(ctx context.Context, shop string, scopes []shops.Scope, by string) (shops.Key, string, error)
	Revoke(ctx context.Context, name string) error
}

// uiPeople is the page of people; uiShopKeys is where forms about keys of shops go.
const (
	uiPeople   = "/ui/people"
	uiShopKeys = "/ui/shop-keys"
)

// peopleRoutes are an admin's. Whatever they change takes the password again, and a reason.
func (c *console) peopleRoutes() []route {
	const one = uiPeople + "/:name"
	all := []route{
		{http.MethodGet, uiPeople, Admin, c.peoplePage},
		{http.MethodGet, one, Admin, c.personPage},
		{http.MethodPost, uiPeople, Admin, c.stepUp(c.addPerson)},
		{http.MethodPost, one + "/role", Admin, c.stepUp(c.setRoleOf)},
		{http.MethodPost, one + "/disable", Admin, c.stepUp(c.disablePerson)},
		{http.MethodPost, one + "/end-session", Admin, c.stepUp(c.endSessionOf)},
		{http.MethodPost, one + "/end-sessions", Admin, c.stepUp(c.endSessionsOf)},
		{http.MethodPost, one + "/link", Admin, c.stepUp(c.linkPerson)},
		{http.MethodPost, one + "/tokens", Admin, c.stepUp(c.addToken)},
		{http.MethodPost, one + "/tokens/revoke", Admin, c.stepUp(c.revokeTokenOf)},
	}
	if c.ShopKeys != nil {
		all = append(all, route{http.MethodPost, uiShopKeys, Admin, c.stepUp(c.addShopKey)},
			route{http.MethodPost, uiShopKeys + "/revoke", Admin, c.stepUp(c.revokeShopKey)})
	}
	return all
}

// pageOf is the page of a person.
func pageOf(name string) string { return uiPeople + "/" + url.PathEscape(name) }

// peoplePage is GET /ui/people.
func (c *console) peoplePage(ctx echo.Context) error {
	return c.showPeople(ctx, http.StatusOK, "")
}

// showPeople is the list, with why a form was not taken. What was in it is not shown again: a password
// may stand where a name should.
func (c *console) showPeople(ctx echo.Context, status int, said string) error {
	all, err := c.Logins.People(ctx.Request().Context())
	if err != nil {
		return err
	}
	data := map[string]any{"People": all, "Roles": operators.Roles(), "HasKeys": c.ShopKeys != nil,
		"Scopes": shops.Scopes(), "Said": said}
	if c.ShopKeys != nil {
		if data["Keys"], err = c.ShopKeys.List(ctx.Request().Context()); err != nil {
			return err
		}
	}
	return c.showLogin(ctx, status, "people", data)
}

// personPage is GET /ui/people/:name.
func (c *console) personPage(ctx echo.Context) error { return c.showPerson(ctx, http.StatusOK, "") }

// showPerson is the page of a person, with why a form was not taken.
func (c *console) showPerson(ctx echo.Context, status int, said string) error {
	name, rctx := ctx.Param("name"), ctx.Request().Context()
	p, err := c.Logins.Person(rctx, name)
	if err != nil {
		return accountError(err)
	}
	sessions, err := c.Logins.Sessions(rctx, name)
	if err != nil {
		return err
	}
	tokens, err := c.TokenStore.ListOf(rctx, name)
	if err != nil {
		return err
	}
	return c.showLogin(ctx, status, "person", map[string]any{"Person": p, "Sessions": sessions, "Tokens": tokens,
		"Roles": operators.Roles(), "Said": said})
}

// addPerson is POST /ui/people: an account, and the link by which its person sets a password.
func (c *console) addPerson(ctx echo.Context) error {
	f, err := fields(ctx, "name", "role", "reason")
	if err != nil {
		return err
	}
	again := func(said string) error {
		return c.showPeople(ctx, http.StatusUnprocessableEntity, said)
	}
	if needReason(f["reason"]) != nil {
		return again(badReason(ctx))
	}
	err = operators.Create(ctx.Request().Context(), c.TokenStore.db, f["name"], Role(f["role"]), operator(ctx), c.Now())
	switch {
	case errors.Is(err, operators.ErrName), errors.Is(err, operators.ErrExists):
		return again(say(ctx, "said.name"))
	case errors.Is(err, operators.ErrRole):
		return again(say(ctx, "said.role"))
	case err != nil:
		return err
	}
	c.Log.Info("account created", "name", f["name"], "role", f["role"], "by", operator(ctx), "reason", f["reason"])
	return c.showLink(ctx, f["name"], f["reason"])
}

// linkPerson is POST /ui/people/:name/link: for whoever has no password, or has lost it.
func (c *console) linkPerson(ctx echo.Context) error {
	f, err := c.reasoned(ctx)
	if f == nil || err != nil {
		return err
	}
	return c.showLink(ctx, ctx.Param("name"), f["reason"])
}

// showLink makes a link and shows it, once.
func (c *console) showLink(ctx echo.Context, person, reason string) error {
	secret, err := c.Logins.LinkOf(ctx.Request().Context(), person, operator(ctx))
	if err != nil {
		return accountError(err)
	}
	c.Log.Info("link made", "name", person, "by", operator(ctx), "reason", reason)
	u := url.URL{Scheme: "http", Host: ctx.Request().Host, Path: "/setup", RawQuery: "t=" + secret}
	if c.secure(ctx.Request()) {
		u.Scheme = "https"
	}
	return c.showLogin(ctx, http.StatusOK, "link", map[string]any{"Person": person, "Link": u.String(),
		"Minutes": minutes(operators.LinkFor)})
}

// setRoleOf is POST /ui/people/:name/role: as by the API. The sessions of the person end.
func (c *console) setRoleOf(ctx echo.Context) error {
	return c.aboutPerson(ctx, "role changed", func(rctx context.Context, name string, f map[string]string) error {
		effect(ctx, "", f["role"])
		if p, err := c.Logins.Person(rctx, name); err == nil {
			effect(ctx, string(p.Role), f["role"])
		}
		err := operators.SetRole(rctx, c.TokenStore.db, name, Role(f["role"]), c.Now())
		if err == nil {
			c.TokenStore.Forget()
		}
		return err
	}, "role")
}

// disablePerson is POST /ui/people/:name/disable: as by the API.
func (c *console) disablePerson(ctx echo.Context) error {
	return c.aboutPerson(ctx, "account disabled", func(rctx context.Context, name string, _ map[string]string) error {
		err := operators.Disable(rctx, c.TokenStore.db, name, operator(ctx), c.Now())
		if err == nil {
			c.TokenStore.Forget()
		}
		return err
	})
}

// endSessionOf is POST /ui/people/:name/end-session: one of them. Which is not logged: it is the hash of a secret.
func (c *console) endSessionOf(ctx echo.Context) error {
	return c.aboutPerson(ctx, "session ended", func(rctx context.Context, name string, f map[string]string) error {
		id := f["id"]
		delete(f, "id")
		return c.Logins.End(rctx, name, id)
	}, "id")
}

// endSessionsOf is POST /ui/people/:name/end-sessions: all of them.
func (c *console) endSessionsOf(ctx echo.Context) error {
	return c.aboutPerson(ctx, "sessions ended", func(rctx context.Context, name string, _ map[string]string) error {
		return c.Logins.EndAll(rctx, name, "")
	})
}

// aboutPerson does what a form about a person asks for, with its reason and the fields given, logs it with those
// fields, and goes back to the person's page.
func (c *console) aboutPerson(ctx echo.Context, said string, do func(ctx context.Context, name string,
	f map[string]string) error, names ...string) error {
	f, err := c.reasoned(ctx, names...)
	if f == nil || err != nil {
		return err
	}
	name := ctx.Param("name")
	switch err := do(ctx.Request().Context(), name, f); {
	case errors.Is(err, operators.ErrRole):
		return c.showPerson(ctx, http.StatusUnprocessableEntity, say(ctx, "said.role"))
	case err != nil:
		return accountError(err)
	}
	line := []any{"name", name, "by", operator(ctx), "reason", f["reason"]}
	for _, field := range names {
		if text, kept := f[field]; kept {
			line = append(line, field, text)
		}
	}
	c.Log.Info(said, line...)
	return see(ctx, pageOf(name))
}

// addToken is POST /ui/people/:name/tokens: its secret is shown once.
func (c *console) addToken(ctx echo.Context) error {
	f, err := c.reasoned(ctx, "label")
	if f == nil || err != nil {
		return err
	}
	person := ctx.Param("name")
	name, secret, err := c.TokenStore.CreateFor(ctx.Request().Context(), person, f["label"], operator(ctx))
	switch {
	case errors.Is(err, operators.ErrName), errors.Is(err, ErrTokenExists):
		return c.showPerson(ctx, http.StatusUnprocessableEntity, say(ctx, "said.label"))
	case err != nil:
		return accountError(err)
	}
	effect(ctx, "", name)
	c.Log.Info("token created", "name", name, "person", person, "by", operator(ctx), "reason", f["reason"])
	return c.showLogin(ctx, http.StatusOK, "secret", map[string]any{"Name": name, "Person": person, "Secret": secret,
		"Back": pageOf(person)})
}

// revokeTokenOf is POST /ui/people/:name/tokens/revoke. The token must be of the person.
func (c *console) revokeTokenOf(ctx echo.Context) error {
	return c.aboutPerson(ctx, "token revoked", func(rctx context.Context, name string, f map[string]string) error {
		tokens, err := c.TokenStore.ListOf(rctx, name)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(tokens, func(t OperatorToken) bool { return t.Name == f["token"] }) {
			return ErrNoToken
		}
		return c.TokenStore.Revoke(rctx, f["token"])
	}, "token")
}

// addShopKey is POST /ui/shop-keys: its secret is shown once.
func (c *console) addShopKey(ctx echo.Context) error {
	names := []string{"shop", "reason"}
	for _, s := range shops.Scopes() {
		names = append(names, "scope_"+string(s))
	}
	f, err := fields(ctx, names...)
	if err != nil {
		return err
	}
	again := func(said string) error {
		return c.showPeople(ctx, http.StatusUnprocessableEntity, said)
	}
	if needReason(f["reason"]) != nil {
		return again(badReason(ctx))
	}
	var scopes []shops.Scope
	for _, s := range shops.Scopes() {
		if f["scope_"+string(s)] != "" {
			scopes = append(scopes, s)
		}
	}
	k, secret, err := c.ShopKeys.Create(ctx.Request().Context(), f["shop"], scopes, operator(ctx))
	switch {
	case errors.Is(err, shops.ErrName), errors.Is(err, shops.ErrScope):
		return again(say(ctx, "said.shop"))
	case errors.Is(err, shops.ErrTwoKeys):
		return again(say(ctx, "said.twokeys"))
	case err != nil:
		return err
	}
	effect(ctx, "", k.Name)
	c.Log.Info("shop key created", "name", k.Name, "by", operator(ctx), "reason", f["reason"])
	return c.showLogin(ctx, http.StatusOK, "secret", map[string]any{"Name": k.Name, "Secret": secret, "Back": uiPeople})
}

// revokeShopKey is POST /ui/shop-keys/revoke.
func (c *console) revokeShopKey(ctx echo.Context) error {
	f, err := fields(ctx, "key", "reason")
	if err != nil {
		return err
	}
	if needReason(f["reason"]) != nil {
		return c.showPeople(ctx, http.StatusUnprocessableEntity, badReason(ctx))
	}
	err = c.ShopKeys.Revoke(ctx.Request().Context(), f["key"])
	if errors.Is(err, shops.ErrNotFound) {
		return &orderhttp.Failure{Code: orderhttp.CodeNotFound}
	}
	if err != nil {
		return err
	}
	c.Log.Info("shop key revoked", "name", f["key"], "by", operator(ctx), "reason", f["reason"])
	return see(ctx, uiPeople)
}

// reasoned reads a form about a person, which has a reason and the fields given; nil when the page
// that asks for the reason was the answer.
func (c *console) reasoned(ctx echo.Context, names ...string) (map[string]string, error) {
	f, err := fields(ctx, append(names, "reason")...)
	if err != nil {
		return nil, err
	}
	if needReason(f["reason"]) != nil {
		return nil, c.showPerson(ctx, http.StatusUnprocessableEntity, badReason(ctx))
	}
	return f, nil
}

// badReason says what a reason has to be.
func badReason(ctx echo.Context) string { return say(ctx, "said.reason", bounds.Reason.Most) }

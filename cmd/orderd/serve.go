package main

import (
	"context"
	"errors"
	"time"

	"orderd/cmd/screen"
	"orderd/payment/operators"
	"orderd/stock"
)

// serveCmd is `orderd serve`: the service until a signal. Migrations are not applied
// unless asked for: with several processes the schema is changed once, before any new one
// starts.
type serveCmd struct {
	// Role is repeatable, or a list with commas; processes of one service may differ in
	// it.
	Role        []string `help:"What to run: api, notify, worker, admin (default: all)." placeholder:"ROLE"`
	AutoMigrate bool     `help:"Bring the schema up first (always so on embedded parts)."`
	// AllowUnsafe is no setting, so that nobody leaves it in a file.
	AllowUnsafe bool `help:"Start on database or Redis settings that can lose orders or wake-ups."`
	SimNasty    bool `help:"Let the embedded simulator lose answers and repeat callbacks."`
}

// Run serves until a signal or until a listener fails, then drains. It prints what runs
// on embedded parts and where each listener is; an unknown role is errUsage.
func (c *serveCmd) Run(ctx context.Context, s *settings, io *terminal) error {
	roles := c.Role
	if len(roles) == 0 {
		roles = allRoles
	}
	if err := s.usable(roles); err != nil {
		return err
	}
	log := s.logger(io)
	if err := s.errVariables(); err != nil {
		log.Warn("variables of the environment that nobody reads", "err", err)
	}
	a, err := start(ctx, s, options{roles: roles, migrate: c.AutoMigrate, allowUnsafe: c.AllowUnsafe,
		simNasty: c.SimNasty,
		simSeed:  uint64(time.Now().UnixNano()), simSpeed: 1}, log)
	if err != nil {
		return err
	}
	// First what is not real, then where everything is.
	for _, line := range a.Announced {
		screen.Printf(io.Err, "  %s\n", line)
	}
	if s.DSN == "" {
		if err := sampleSKU(ctx, a.stock); err != nil {
			return err
		}
	}
	for _, l := range []struct{ name, addr, what string }{
		{"shop", a.Shop, "begin here, in a browser: buy something, and see what becomes of it"},
		{"api", a.API, "customers"},
		{"notify", a.Notify, "WeChat Pay's callbacks"},
		{"admin", a.Admin, "operators: the console in a browser, /admin/v1, /metrics, /readyz"},
		{"ops", a.Ops, "monitoring: /metrics, /healthz, /readyz"},
	} {
		if l.addr != "" {
			screen.Printf(io.Err, "%-8s http://%s  %s\n", l.name, dialable(l.addr), l.what)
		}
	}
	a.firstLink(ctx, io)
	select {
	case <-ctx.Done():
		wait := s.DrainDelay
		if io.TTY && s.origins["ORDERD_DRAIN_DELAY"] == "default" {
			wait = 0 // a person waits, and no load balancer
		}
		screen.Printf(io.Err, "stopping: /readyz says so for %s, then requests and callbacks under way finish\n", wait)
		a.lameDuck(wait)
	case err = <-a.failed:
	}
	if stop := a.Close(); err == nil {
		err = stop
	}
	return err
}

// firstLink prints, while nobody has an account, where the first person of the console sets one. It
// is no line of the log, and good for half an hour. Without it the service serves all the same.
func (a *app) firstLink(ctx context.Context, io *terminal) {
	if a.Admin == "" {
		return
	}
	secret, err := a.logins.FirstLink(ctx, byWhom())
	switch {
	case errors.Is(err, operators.ErrBegun):
	case err != nil:
		a.log.Warn("no link for the first person of the console: start again, or 'orderd operator link NAME'",
			"err", err)
	default:
		screen.Printf(io.Err, "nobody has an account yet: the first admin makes one within %.0f "+
			"minutes at\n  http://%s/setup?t=%s\n", operators.LinkFor.Minutes(), dialable(a.Admin), secret)
	}
}

// sampleSKU puts something for sale into an embedded shop that has no SKU, so that the
// first order of the README can be placed: plenty of one, and so few of the other that somebody
// who tries it out sees the last one go.
func sampleSKU(ctx context.Context, admin *stock.Admin) error {
	some, err := admin.List(ctx, "", 1)
	if err != nil || len(some) > 0 {
		return err
	}
	plenty, few := int64(1000), int64(3)
	for _, k := range []stock.Put{
		{SkuID: "1001", Title: "Blue mug", PriceFen: 14900, Quantity: &plenty, Actor: "sample"},
		{SkuID: "1002", Title: "Concert ticket", PriceFen: 68000, Quantity: &few, Actor: "sample"},
	} {
		if _, _, err = admin.Put(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

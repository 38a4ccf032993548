package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/order"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
)

// operatorCmd is `orderd operator …`: the accounts of the people who work at the shop.
type operatorCmd struct {
	Create  operatorCreate  `cmd:"" help:"Make a person's account; 'token create --person' makes its token."`
	List    operatorList    `cmd:"" help:"List everybody who works here or did."`
	Role    operatorRole    `cmd:"" help:"Give a person another role."`
	Disable operatorDisable `cmd:"" help:"End a person's account and tokens, for good."`
	Link    operatorLink    `cmd:"" help:"Make a link by which a person sets a password for the console, once."`
}

// operatorCreate is `orderd operator create`.
type operatorCreate struct {
	Name string       `arg:"" help:"Used once and for ever in audits."`
	Role console.Role `enum:"viewer,operator,finance,admin" default:"viewer" help:"viewer, operator, finance or admin."`
}

// Run makes an account, made by the shell: it is no second person beside the shell.
func (c *operatorCreate) Run(ctx context.Context, s *settings) error {
	return withCore(ctx, s, func(co *core) error {
		return operators.Create(ctx, co.db, c.Name, c.Role, byWhom(), time.Now())
	})
}

// operatorList is `orderd operator list`.
type operatorList struct{ output }

// Run lists accounts.
func (c *operatorList) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		all, err := operators.List(ctx, co.db)
		if err != nil {
			return err
		}
		return c.show(t, all, func(w io.Writer) {
			screen.Printf(w, "NAME\tROLE\tCREATED\tBY\tDISABLED\n")
			for _, a := range all {
				ended := ""
				if a.DisabledAt != nil {
					ended = stamp(*a.DisabledAt) + " by " + a.DisabledBy
				}
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\n", a.Name, a.Role, stamp(a.CreatedAt), a.CreatedBy, ended)
			}
		})
	})
}

// operatorRole is `orderd operator role`.
type operatorRole struct {
	confirm
	Name string       `arg:"" help:"Of the person."`
	Role console.Role `required:"" enum:"viewer,operator,finance,admin" help:"viewer, operator, finance or admin."`
}

// Run changes the role of the account and of its tokens.
func (c *operatorRole) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, fmt.Sprintf("Make %s a %s?", c.Name, c.Role)); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		return operators.SetRole(ctx, co.db, c.Name, c.Role, time.Now())
	})
}

// operatorDisable is `orderd operator disable`.
type operatorDisable struct {
	confirm
	Name string `arg:"" help:"Of the person."`
}

// Run disables.
func (c *operatorDisable) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "End the account of "+c.Name+" for good?"); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		return operators.Disable(ctx, co.db, c.Name, byWhom(), time.Now())
	})
}

// operatorLink is `orderd operator link`.
type operatorLink struct {
	person
	Name string `arg:"" help:"Of the person."`
	URL  string `name:"url" placeholder:"URL" help:"${operator_link_url}"`
}

// Run prints a link on standard output, and nothing else there. Whoever makes one could use it:
// they are no second person beside its person. With a token it takes an admin's.
func (c *operatorLink) Run(ctx context.Context, s *settings, t *terminal) error {
	at, err := url.Parse(cmp.Or(c.URL, "http://"+dialable(s.AdminAddr)))
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return fmt.Errorf("%w: --url is like https://console.example.com", errUsage)
	}
	return withCore(ctx, s, func(co *core) error {
		by, err := c.who(ctx, co, operators.Admin)
		if err != nil {
			return err
		}
		secret, err := co.logins.LinkOf(ctx, c.Name, by)
		if err != nil {
			return err
		}
		screen.Printf(t.Err, "good once, for %.0f minutes:\n", operators.LinkFor.Minutes())
		screen.Printf(t.Out, "%s\n", at.JoinPath("setup").String()+"?t="+secret)
		return nil
	})
}

// person is for verbs that can be done in a person's name; they embed it. Without a token it
// is the shell of this machine that acts, which is nobody's second person.
type person struct {
	TokenFile string `type:"existingfile" env:"ORDERD_OPERATOR_TOKEN_FILE" help:"${token_file}"`
}

// errToken: the token is nobody's, or its person may not do this.
var errToken = errors.New("the token is nobody's, was revoked, or has expired: 'orderd token create " +
	"--person NAME --label …' makes another")

// who gives the name to act in: that of the token's person, who must have the role, as on
// the admin listener, or the shell's.
func (p person) who(ctx context.Context, co *core, need operators.Role) (string, error) {
	if p.TokenFile == "" {
		return byWhom(), nil
	}
	secret, err := os.ReadFile(p.TokenFile)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	token, err := co.tokens.Who(ctx, strings.TrimSpace(string(secret)))
	switch {
	case err != nil:
		return "", err
	case token == nil:
		return "", errToken
	case !token.Role.May(need):
		return "", fmt.Errorf("%s is a %s, and this takes %s", token.Name, token.Role, need)
	}
	if co.act != nil {
		co.act.actor = token.Name
	}
	return token.Name, nil
}

// cause says in the timeline who did it at this machine.
func (p person) cause(ctx context.Context, co *core, need operators.Role) (order.Cause, error) {
	name, err := p.who(ctx, co, need)
	return order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: name}, Type: "cli"}, err
}

// reconcileCause is cause for what is done about a bill.
func (p person) reconcileCause(ctx context.Context, co *core) (reconcile.Cause, error) {
	name, err := p.who(ctx, co, operators.Finance)
	return reconcile.ByOperator(name, "cli", ""), err
}

// aboutBills is withCore for what a person of finance does about a bill.
func (p person) aboutBills(ctx context.Context, s *settings, do func(co *core, cause reconcile.Cause) error) error {
	return withCore(ctx, s, func(co *core) error {
		cause, err := p.reconcileCause(ctx, co)
		if err != nil {
			return err
		}
		return do(co, cause)
	})
}

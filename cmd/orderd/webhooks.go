package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"orderd/cmd/screen"
	"orderd/order/webhooks"
	"orderd/payment"
	"orderd/payment/feed"
)

// webhookKey gives the key that secrets of webhooks are kept under, "" for none: webhooks are
// off. On the simulator whoever serves makes one.
func (s *settings) webhookKey(mayMake bool) (string, error) {
	if s.WebhookKey != "" || !s.simulated() {
		return s.WebhookKey, nil
	}
	const name = "webhook.key"
	if mayMake {
		key, _, err := s.secretInDataDir(name)
		return key, err
	}
	key, _ := readSecretFile(s.DataDir + "/" + name) // where there is none, webhooks are off
	return key, nil
}

// startWebhooks makes the webhooks of the core.
func (c *core) startWebhooks(s *settings, sh shape, log *slog.Logger) error {
	key, err := s.webhookKey(sh.observe != nil) // by a service, not by a verb
	if err != nil {
		return err
	}
	allow, err := webhooks.ParseAllow(s.WebhookAllow)
	if err != nil {
		return misconfigured(fmt.Errorf("ORDERD_WEBHOOK_ALLOW: %w", err))
	}
	wc := webhooks.Config{DB: c.db, Now: c.clock.Now, Log: log, Key: key, Allow: allow, Keep: s.EventsKeep,
		LookEvery: sh.webhookLook,
		Traces: func(ctx context.Context, events []feed.Event) ([]payment.Trace, error) {
			return c.orders.Traces(ctx, events) // which are made after this
		}}
	if o, ok := sh.observe.(webhooks.Observer); ok {
		wc.Observe = o
	}
	if sh.rings != nil {
		wc.Ring, wc.Rings = sh.rings.Ring, sh.rings.Rings
	}
	if c.webhooks, err = webhooks.New(wc); err != nil {
		return misconfigured(err)
	}
	c.close = append(c.close, c.webhooks.Close)
	return nil
}

// webhookCmd is `orderd webhook …`.
type webhookCmd struct {
	Add        webhookAdd        `cmd:"" help:"Send what happens to an address from now on; shows its secret once."`
	List       webhookList       `cmd:"" help:"List webhooks, and what is wrong with them."`
	Deliveries webhookDeliveries `cmd:"" help:"List what was sent to a webhook, the newest event first."`
	Test       webhookTest       `cmd:"" help:"Send a test message now, and show the answer."`
	Redeliver  webhookRedeliver  `cmd:"" help:"Send one event again, or all since a time."`
	Rotate     webhookRotate     `cmd:"" help:"Make a new secret; the old one signs beside it for a day."`
	Enable     webhookEnable     `cmd:"" help:"Send again to a webhook that was disabled."`
	Disable    webhookDisable    `cmd:"" help:"Send nothing until 'webhook enable'; nothing new is kept for it."`
	Remove     webhookRemove     `cmd:"" help:"End a webhook for good."`
}

// webhookAdd is `orderd webhook add`.
type webhookAdd struct {
	URL   string   `arg:"" help:"https://…; http:// only into ORDERD_WEBHOOK_ALLOW."`
	Types []string `help:"Of events, such as order.paid,order.closed; all without."`
	Note  string   `help:"What it is, for people."`
	because
}

// because is why a person changes what a shop is told; the verbs that do embed it. A webhook
// keeps who did something about it last, and why.
type because struct {
	Reason reason `required:"" help:"Why, for the others who look at it: 'webhook list' shows it."`
}

// why is what the webhook keeps.
func (b *because) why() string { return byWhom() + ": " + string(b.Reason) }

// Run adds one. The secret alone goes to standard output.
func (c *webhookAdd) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		e, secret, err := co.webhooks.Add(ctx, webhooks.Put{URL: c.URL, Note: c.Note, Types: typesOf(c.Types),
			By: byWhom(), Why: c.why()})
		if err != nil {
			return err
		}
		screen.Printf(t.Err, "%s\nthis is the only time that the secret is shown:\n", e.ID)
		screen.Printf(t.Out, "%s\n", secret)
		return nil
	})
}

// typesOf gives types of events by their names.
func typesOf(names []string) []feed.Type {
	types := make([]feed.Type, len(names))
	for i, n := range names {
		types[i] = feed.Type(n)
	}
	return types
}

// webhookList is `orderd webhook list`.
type webhookList struct{ output }

// Run lists them.
func (c *webhookList) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		all, err := co.webhooks.List(ctx)
		if err != nil {
			return err
		}
		shown := make([]map[string]any, len(all))
		for i := range all {
			e := &all[i]
			shown[i] = map[string]any{"id": e.ID, "url": e.URL, "note": e.Note,
				"types": append([]feed.Type{}, e.Types...),
				"state": e.State, "why": e.Why, "failing_since": stamp(e.FailingSince), "created_by": e.CreatedBy,
				"created_at": stamp(e.CreatedAt)}
		}
		return c.show(t, shown, func(w io.Writer) {
			screen.Printf(w, "ID\tSTATE\tFAILING SINCE\tURL\tTYPES\tNOTE\n")
			for i := range all {
				e := &all[i]
				types := "all"
				if len(e.Types) > 0 {
					types = strings.Trim(fmt.Sprint(e.Types), "[]")
				}
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, strings.TrimSpace(string(e.State)+" "+e.Why),
					stamp(e.FailingSince), e.URL, types, e.Note)
			}
		})
	})
}

// webhookDeliveries is `orderd webhook deliveries`.
type webhookDeliveries struct {
	output
	ID     string   `arg:"" help:"Of the webhook."`
	Limit  pageRows `default:"50" help:"1 to 200."`
	Cursor int64    `help:"Go on after this event."`
}

// Run lists a page.
func (c *webhookDeliveries) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		rows, err := co.webhooks.Deliveries(ctx, c.ID, c.Cursor, int(c.Limit))
		if err != nil {
			return err
		}
		if len(rows) == int(c.Limit) {
			defer screen.Printf(t.Err, "more: --cursor %d\n", rows[len(rows)-1].Event.ID)
		}
		shown := make([]map[string]any, len(rows))
		for i := range rows {
			d := &rows[i]
			shown[i] = map[string]any{"event_id": d.Event.ID, "type": d.Event.Type, "order_no": d.Event.OrderNo,
				"version": d.Event.Version, "at": stamp(d.Event.At), "tries": d.Tries,
				"delivered_at": stamp(d.Delivered),
				"due_at":       stamp(d.DueAt), "status": d.Status, "problem": d.Problem,
				"took_ms": d.Took.Milliseconds(), "answer": d.Answer}
		}
		return c.show(t, shown, func(w io.Writer) {
			screen.Printf(w, "EVENT\tTYPE\tORDER\tAT\tTRIES\tDELIVERED\tNEXT\tANSWER\n")
			for i := range rows {
				d := &rows[i]
				screen.Printf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", d.Event.ID, d.Event.Type, d.Event.OrderNo,
					stamp(d.Event.At), d.Tries, stamp(d.Delivered), stamp(d.DueAt), d.Problem)
			}
		})
	})
}

// webhookTest is `orderd webhook test`.
type webhookTest struct {
	ID string `arg:"" help:"Of the webhook."`
}

// Run sends a test from this machine.
func (c *webhookTest) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		tried, err := co.webhooks.Test(ctx, c.ID)
		if err != nil {
			return err
		}
		if !tried.Taken {
			return fmt.Errorf("%s did not take it: %s", c.ID, tried.Problem)
		}
		screen.Printf(t.Err, "taken: %d\n", tried.Status)
		return nil
	})
}

// webhookRedeliver is `orderd webhook redeliver`.
type webhookRedeliver struct {
	confirm
	because
	ID    string    `arg:"" help:"Of the webhook."`
	Event int64     `xor:"which" required:"" help:"One event, by its number in 'webhook deliveries'."`
	Since time.Time `xor:"which" required:"" help:"All since this time, such as 2026-11-20T13:42:05Z."`
}

// Run has a worker send again.
func (c *webhookRedeliver) Run(ctx context.Context, s *settings, t *terminal) error {
	what := fmt.Sprintf("event %d", c.Event)
	if c.Event == 0 {
		what = "all events since " + stamp(c.Since)
	}
	if err := c.ask(t, "Send "+what+" to "+c.ID+" again?"); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) (err error) {
		n := int64(1)
		if c.Event != 0 {
			err = co.webhooks.Redeliver(ctx, c.ID, c.Event, c.why())
		} else {
			n, err = co.webhooks.RedeliverSince(ctx, c.ID, c.Since, c.why())
		}
		if err == nil {
			screen.Printf(t.Err, "%d events are sent again by a running service\n", n)
		}
		return err
	})
}

// webhookRotate is `orderd webhook rotate`.
type webhookRotate struct {
	confirm
	because
	ID string `arg:"" help:"Of the webhook."`
}

// Run makes a new secret.
func (c *webhookRotate) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "Make a new secret of "+c.ID+"? The old one ends in a day."); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		_, secret, err := co.webhooks.Rotate(ctx, c.ID, c.why(), "")
		if err != nil {
			return err
		}
		screen.Printf(t.Err, "this is the only time that the secret is shown:\n")
		screen.Printf(t.Out, "%s\n", secret)
		return nil
	})
}

// webhookEnable is `orderd webhook enable`.
type webhookEnable struct {
	because
	ID string `arg:"" help:"Of the webhook."`
}

// Run enables.
func (c *webhookEnable) Run(ctx context.Context, s *settings) error {
	return withCore(ctx, s, func(co *core) error {
		_, err := co.webhooks.Enable(ctx, c.ID, c.why())
		return err
	})
}

// webhookDisable is `orderd webhook disable`.
type webhookDisable struct {
	confirm
	because
	ID string `arg:"" help:"Of the webhook."`
}

// Run disables.
func (c *webhookDisable) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "Send nothing more to "+c.ID+"?"); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		_, err := co.webhooks.Disable(ctx, c.ID, c.why())
		return err
	})
}

// webhookRemove is `orderd webhook remove`.
type webhookRemove struct {
	confirm
	because
	ID string `arg:"" help:"Of the webhook."`
}

// Run removes.
func (c *webhookRemove) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "End "+c.ID+" for good, with what waits for it?"); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error { return co.webhooks.Remove(ctx, c.ID, c.why()) })
}

// listenCmd is `orderd listen`: a webhook for who writes a shop's back end, without one.
type listenCmd struct {
	ForwardTo string   `required:"" placeholder:"URL" help:"Where to send what happens, from this machine."`
	Types     []string `help:"Of events, such as order.paid,order.closed; all without."`
}

// Run sends what happens from now on, once each and in order, until it is interrupted. What
// is not taken is said, and not sent again.
func (c *listenCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		l, secret, err := co.webhooks.Listen(ctx, webhooks.Put{URL: c.ForwardTo, Types: typesOf(c.Types)})
		if err != nil {
			return err
		}
		screen.Printf(t.Err, "secret %s\nsending what happens to %s; end with Ctrl-C\n", secret, c.ForwardTo)
		err = l.Run(ctx, func(e *feed.Event, tried webhooks.Tried) {
			what := fmt.Sprintf("taken: %d", tried.Status)
			if !tried.Taken {
				what = "not taken: " + tried.Problem
			}
			screen.Printf(t.Out, "%s  %s  %s  %s\n", feed.MessageID(e.ID), e.Type, e.OrderNo, what)
		})
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // it was to end
		}
		return err
	})
}

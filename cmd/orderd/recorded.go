package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/order"
	"orderd/order/shops"
	"orderd/payment/operators"
	"orderd/payment/trail"
)

// change is what the audit trail has of a verb that changes something.
type change struct {
	action string
	// needs is the flag without which the verb only shows; "" for a verb that always changes something.
	needs string
	// asksLate: the verb reads what it asks the person about, so that it says itself when it begins (core.begin).
	asksLate bool
}

// changes are all verbs that change something in the database or have WeChat Pay do something, and those that show
// whole what pages mask (openids). Their names are those
// of the routes that do the same. A test walks over all verbs: each is here or in a list of those that change nothing.
var changes = map[string]change{
	"stock import":              {action: "sku.import"},
	"stock replenish":           {action: "stock.replenish"},
	"stock adjust":              {action: "stock.adjust"},
	"stock low":                 {action: "sku.put"},
	"stock gate":                {action: "gate.set", needs: "mode", asksLate: true},
	"stock buckets":             {action: "gate.buckets", needs: "count", asksLate: true},
	"stock rebuild":             {action: "gate.rebuild", asksLate: true},
	"order close":               {action: "order.close"},
	"order sync":                {action: "order.ask"},
	"order vouch":               {action: "order.vouch"},
	"held resolve":              {action: "held.resolve"},
	"held adopt":                {action: "held.adopt"},
	"payments held judge-again": {action: "held.judge"},
	"refund ask":                {action: "refund.ask"},
	"refund approve":            {action: "refund.approve"},
	"refund reject":             {action: "refund.reject"},
	"refund retry":              {action: "refund.retry"},
	"refund cancel":             {action: "refund.cancel"},
	"refund by-hand":            {action: "refund.byhand"},
	"refund to-card":            {action: "refund.tocard"},
	"shipment send":             {action: "shipment.put"},
	"bulk ask":                  {action: "bulk.ask", asksLate: true},
	"bulk close":                {action: "bulk.close", asksLate: true},
	"bulk approve":              {action: "bulk.approve", asksLate: true},
	"bulk stop":                 {action: "bulk.stop"},
	"bulk resume":               {action: "bulk.resume"},
	"tasks dead run":            {action: "tasks.run", asksLate: true},
	"tasks dead discard":        {action: "tasks.discard", asksLate: true},
	"reconcile run":             {action: "day.run"},
	"reconcile confirm":         {action: "day.confirm"},
	"reconcile resolve":         {action: "difference.resolve"},
	"reconcile assign":          {action: "difference.assign"},
	"reconcile comment":         {action: "difference.comment"},
	"reconcile import":          {action: "differences.import", needs: "yes"},
	"reconcile close":           {action: "day.close"},
	"reconcile bill":            {action: "bill.read"},
	"reconcile pack":            {action: "proof.read"},
	"token create":              {action: "token.create"}, // a customer's is signed here, and no core is opened
	"token revoke":              {action: "token.revoke"},
	"operator create":           {action: "person.create"},
	"operator role":             {action: "person.role"},
	"operator disable":          {action: "person.disable"},
	"operator link":             {action: "person.link"},
	"webhook add":               {action: "webhook.add"},
	"webhook test":              {action: "webhook.test"},
	"webhook redeliver":         {action: "webhook.redeliver"},
	"webhook rotate":            {action: "webhook.rotate"},
	"webhook enable":            {action: "webhook.enable"},
	"webhook disable":           {action: "webhook.disable"},
	"webhook remove":            {action: "webhook.remove"},
	"verify":                    {action: "books.repair", needs: "apply"},
}

// shellOnly are actions that no route has, for who looks through the trail.
var shellOnly = []string{"books.repair", "held.adopt"}

// dryRun is the flag with which a verb changes nothing.
const dryRun = "dry-run"

// keptFlags are the flags and arguments that may stand in the audit trail. What is not named does not: files with
// tokens, cards.
var keptFlags = []string{"action", "after", "all", "amount", "apply", "at", "before", "bill", "buckets",
	"cause", "closes-at", "count", "customer", "date", "delta", "error", "event", "expected", "expires",
	"id", "item", "key", "label", "mode", "note", "of", "opens-at", "operator", "order", "parcel", "partial",
	"per-customer", "person", "placed-from", "placed-to", "quantity", "quiescent", "rate", "refund", "repair",
	"restock", "role", "sale", "scopes", "seq", "sha1", "shop", "since", "sku", "state", "stuck", "text", "to", "type",
	"types", "way", "wechat"}

// targetFlags say what a verb acts on that has no argument of that meaning.
var targetFlags = []string{"operator", "person", "shop", "date"}

// shellAct is what the audit trail says of the verb that was called; nil for one that changes nothing.
type shellAct struct {
	what     trail.What
	asksLate bool
	actor    string // the person whose token the verb was given, "" for the shell
	begun    *trail.Act
	io       *terminal
	log      *slog.Logger // for a machine that collects lines; a person reads what the verb says itself
}

// actOf is what the command line asks for; nil when it changes nothing.
func actOf(k *kong.Context, s *settings, io *terminal) *shellAct {
	node := k.Selected()
	if node == nil {
		return nil
	}
	row, changes := changes[verbName(node)]
	if !changes {
		return nil
	}
	a := &shellAct{what: trail.What{Action: row.action}, asksLate: row.asksLate, io: io, log: quietLogger()}
	if s.LogFormat == "json" {
		a.log = s.logger(io)
	}
	given := map[string]any{}
	for _, p := range k.Path {
		if p.Flag != nil && slices.Contains(node.Flags, p.Flag) {
			given[p.Flag.Name] = valueOf(p.Flag.Target)
		}
	}
	if given[dryRun] == true || row.needs != "" && given[row.needs] == nil {
		return nil
	}
	for i, arg := range node.Positional {
		text := console.Open(fmt.Sprint(valueOf(arg.Target)))
		switch {
		case i == 0:
			a.what.Target = text
		case text != "":
			given[arg.Name] = text
		}
	}
	for _, f := range node.Flags {
		if text, is := valueOf(f.Target).(string); is && slices.Contains(targetFlags, f.Name) {
			a.what.Target = cmp.Or(a.what.Target, console.Open(text))
		}
	}
	if why, is := given["reason"].(reason); is {
		a.what.Reason = string(why)
	}
	a.what.Asked = keptJSON(given)
	// Two verbs are of people's tokens and of the keys of shops.
	switch {
	case a.what.Action == "token.create" && given["shop"] != nil:
		a.what.Action = "shopkey.create"
	case a.what.Action == "token.revoke" && strings.Contains(a.what.Target, "/"): // no operator's name has one
		a.what.Action = "shopkey.revoke"
	}
	return a
}

// verbName is a verb as people type it: order close.
func verbName(n *kong.Node) string {
	var words []string
	for ; n != nil && n.Type != kong.ApplicationNode; n = n.Parent {
		if n.Type == kong.CommandNode {
			words = append(words, n.Name)
		}
	}
	slices.Reverse(words)
	return strings.Join(words, " ")
}

// valueOf is what a flag or an argument was given.
func valueOf(v reflect.Value) any {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	return v.Interface()
}

// keptJSON is the JSON of what may stand in the trail, "" for nothing.
func keptJSON(given map[string]any) string {
	some := map[string]any{}
	for name, v := range given {
		if slices.Contains(keptFlags, name) {
			some[name] = v
		}
	}
	if len(some) == 0 {
		return ""
	}
	b, err := json.Marshal(some)
	if err != nil {
		return ""
	}
	return string(b)
}

// begin writes down that the verb is about to change something, once. Who has an error changes nothing.
func (c *core) begin(ctx context.Context) (err error) {
	a := c.act
	if a == nil || a.begun != nil {
		return nil
	}
	act, err := c.trail.Begin(ctx, trail.Who{Actor: byWhom()}, a.what)
	if err == nil {
		a.begun = act
	}
	return err
}

// recorded does what a verb does, in the audit trail before it is done and after it.
func (c *core) recorded(ctx context.Context, do func(c *core) error) error {
	if c.act != nil && !c.act.asksLate {
		if err := c.begin(ctx); err != nil {
			return err
		}
	}
	err := do(c)
	if c.act == nil || c.act.begun == nil {
		return err
	}
	// Whoever interrupts a verb ends its context: the end is written down all the same.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	outcome, what := outcomeOf(err), &c.act.what
	c.act.log.Info("act", "action", what.Action, "target", inLog(what), "by", cmp.Or(c.act.actor, byWhom()), "reason",
		what.Reason, "outcome", outcome)
	if lost := c.act.begun.End(end, c.act.actor, outcome, "", ""); lost != nil {
		screen.Printf(c.act.io.Err, "orderd: the audit trail has no end of this: %v\n", lost)
	}
	return err
}

// inLog is a target as a log may have it: like the column of the trail, and of an address where it leads alone, since
// its path and query may let in who has them.
func inLog(what *trail.What) string {
	text := what.Target
	if what.Action == "webhook.add" || strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return "(address)"
		}
		text = u.Scheme + "://" + u.Host
	}
	return trail.Target(text)
}

// endTimeout bounds the writing of how a verb ended.
const endTimeout = 5 * time.Second

// rules are errors by which nothing was done, beside those of exit code 2.
var rules = []error{operators.ErrNoAccount, operators.ErrRole, operators.ErrName, operators.ErrExists,
	console.ErrNoToken, console.ErrTokenExists, shops.ErrTwoKeys, shops.ErrNotFound, order.ErrNotFound,
	order.ErrRefundNotFound, order.ErrVersion, order.ErrSelfApproval}

// outcomeOf says how a verb ended: differences that are open are a run that was done.
func outcomeOf(err error) string {
	code := exitCode(err)
	switch {
	case err == nil || errors.Is(err, errOpen):
		return trail.Done
	case code == exitUsage || slices.ContainsFunc(rules, func(rule error) bool { return errors.Is(err, rule) }):
		return fmt.Sprintf("%s:EXIT_%d", trail.Refused, code)
	}
	return fmt.Sprintf("%s:EXIT_%d", trail.Failed, code)
}

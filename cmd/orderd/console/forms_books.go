package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// bookActs are finance's: about a day, and about a difference.
func (c *console) bookActs() []act {
	text := func(name string) field { return field{name: name, kind: asHidden, need: true} }
	return []act{
		{name: "day.run", path: uiBooks + "/:id/run", route: "POST /admin/v1/reconciliations",
			waits: true, fields: []field{text("bill_date"), text("bill_type"), withReason},
			show: c.dayToRun, body: func(s *subject, form map[string]string) (map[string]any, error) {
				return map[string]any{"bill_date": s.values["bill_date"], "bill_type": s.values["bill_type"],
					"reason": form["reason"]}, nil // of the page's day, whatever was posted
			}},
		{name: "day.confirm", path: uiBooks + "/:id/confirm", route: "POST /admin/v1/reconciliations/:id/confirm",
			fields: []field{text("sha1"), withReason},
			show: c.daySubject(func(s *reconcile.Stored, sha1 string) string {
				if sha1 == "" || s.Source == reconcile.SourceWeChat {
					return "off.nofile"
				}
				return ""
			})},
		{name: "day.close", path: uiBooks + "/:id/close", route: "POST /admin/v1/reconciliations/:id/close",
			fields: []field{withReason}, show: c.dayToClose},
		{name: "diff.assign", path: uiDiffs + "/:id/assign", route: "POST /admin/v1/differences/:id/assign",
			fields: []field{{name: "assignee", kind: asText, most: 64}, {name: "from", kind: asHidden}},
			show:   c.differenceSubject, body: func(_ *subject, form map[string]string) (map[string]any, error) {
				return map[string]any{"assignee": strings.TrimSpace(form["assignee"]), "from": form["from"]}, nil
			}},
		{name: "diff.comment", path: uiDiffs + "/:id/comment", route: "POST /admin/v1/differences/:id/comments",
			fields: []field{{name: "text", kind: asReason, need: true, most: 500}, withKey}, show: c.differenceSubject},
		{name: "diff.resolve", path: uiDiffs + "/:id/resolve", route: "POST /admin/v1/differences/:id/resolve",
			danger: true, stepUp: movesMoneyOf, limit: limitPayment,
			fields: []field{{name: "action", kind: asChoice, need: true}, withReason, text("seen")},
			said:   howItEnded, outcomes: []string{"ended", "proposed", "later"},
			show: c.differenceSubject, body: func(_ *subject, form map[string]string) (map[string]any, error) {
				return map[string]any{"action": form["action"], "reason": form["reason"], "version": form["seen"]}, nil
			}},
	}
}

// movesMoney reports that an action writes a difference off or sends its money back: the password is then asked for
// once more, by whatever form it is done.
func movesMoney(a reconcile.Action) bool {
	return a == reconcile.WriteOff || a == reconcile.RefundPayment
}

// movesMoneyOf reports that what is posted about one difference moves money.
func movesMoneyOf(ctx echo.Context) (bool, error) {
	form, err := readForm(ctx)
	return movesMoney(reconcile.Action(form.Get("action"))), err
}

// closable says why a day cannot be closed, in the language of whoever asks, "" when it can: by the rule that closes
// it.
func (c *console) closable(ctx echo.Context, date string) (why string, err error) {
	err = c.Reconciler.Closable(ctx.Request().Context(), date)
	if !errors.Is(err, reconcile.ErrNotClosable) {
		return "", err
	}
	if languageOf(ctx.Request()) == en {
		return err.Error(), nil
	}
	return orderhttp.InChinese(err.Error()), nil
}

// daySubject is a day as what an act is about: it need not have been reconciled. off says why the act
// cannot be done, by the day and by the file that waits for a second person; nil: it always can.
func (c *console) daySubject(off func(s *reconcile.Stored, sha1 string) string) func(echo.Context) (subject, error) {
	return func(ctx echo.Context) (subject, error) {
		id := ctx.Param("id")
		date, kind := id, string(payment.BillAll)
		if len(id) > len("2006-01-02-") {
			date, kind = id[:10], id[11:]
		}
		all, err := c.Reconciler.Files(ctx.Request().Context(), id)
		if err != nil {
			return subject{}, reconcileError(err)
		}
		s, err := c.Reconciler.Show(ctx.Request().Context(), id)
		if err != nil && off != nil {
			return subject{}, reconcileError(err)
		}
		sha1, given := "", ""
		for _, f := range all {
			if f.Source == reconcile.SourceFile && f.ConfirmedBy == "" && len(f.GivenBy) > 0 {
				sha1, given = f.SHA1, strings.Join(f.GivenBy, ", ")
			}
		}
		l := languageOf(ctx.Request())
		v := subject{back: uiBooks + "/" + id,
			values: map[string]string{"bill_date": date, "bill_type": kind, "sha1": sha1},
			facts:  []fact{{"c.day", date, false}, {"c.bill", kind, false}}}
		if err == nil {
			v.facts = append(v.facts, fact{"c.state", l.look("day", s.State).Word, false})
		} else {
			v.back = uiBooks
		}
		if s.Result != nil {
			v.facts = append(v.facts, fact{"c.open", strconv.FormatInt(s.Result.Open, 10), false},
				fact{"c.waiting", strconv.FormatInt(s.Result.Pending, 10), false})
		}
		if sha1 != "" && off != nil {
			v.facts = append(v.facts, fact{"day.given", given + " " + sha1, true})
		}
		if off != nil {
			v.off = off(&s, sha1)
		}
		return v, nil
	}
}

// dayToRun is a day that is to be reconciled, with what it already has and the run replaces.
func (c *console) dayToRun(ctx echo.Context) (subject, error) {
	s, err := c.daySubject(nil)(ctx)
	if err != nil {
		return s, err
	}
	was, err := c.Reconciler.Replaced(ctx.Request().Context(), ctx.Param("id"))
	if err != nil || was == nil {
		return s, reconcileError(err)
	}
	l := languageOf(ctx.Request())
	s.facts = append(s.facts,
		fact{"run.replaces", l.word("run.result", clock(was.FinishedAt), was.Result.Payments.BillCount,
			was.Result.Refunds.BillCount, cmp.Or(was.SHA1, "–")), false},
		fact{"run.people", l.word("run.did", was.Ended, was.Proposed, was.Marked), false},
		fact{"run.keeps", l.word("run.kept"), false})
	if k := was.Closing; k != nil {
		s.facts = append(s.facts, fact{"run.closed", l.word("run.reopens", k.Seq, k.Who, clock(k.At)), false})
	}
	return s, nil
}

// dayToClose is a day that is to be closed, with why it cannot be.
func (c *console) dayToClose(ctx echo.Context) (subject, error) {
	s, err := c.daySubject(func(*reconcile.Stored, string) string { return "" })(ctx)
	if err != nil || s.values["bill_type"] != string(payment.BillAll) {
		return s, err
	}
	if s.why, err = c.closable(ctx, s.values["bill_date"]); s.why != "" {
		s.off = "off.notready"
	}
	return s, reconcileError(err)
}

// dayLinks are the acts that a day allows; of a day that cannot be closed it notes why.
func (c *console) dayLinks(ctx echo.Context, v *dayView) ([]link, error) {
	names := []string{"day.run"}
	for _, f := range v.Files {
		if f.Source == reconcile.SourceFile && f.ConfirmedBy == "" && v.Day.Source != reconcile.SourceWeChat &&
			!slices.Contains(f.GivenBy, operator(ctx)) {
			names = append(names, "day.confirm")
			break
		}
	}
	if v.Day.Type == payment.BillAll && (v.Closing == nil || v.Closing.Reopened) {
		var err error
		if v.NotClosable, err = c.closable(ctx, v.Day.Date); err != nil {
			return nil, err
		}
		if v.NotClosable == "" {
			names = append(names, "day.close")
		}
	}
	return c.links(ctx, []string{v.Day.ID()}, names...), nil
}

// differenceSubject is a difference as what an act is about, with what will happen by each action.
func (c *console) differenceSubject(ctx echo.Context) (subject, error) {
	d, err := c.Reconciler.Difference(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return subject{}, reconcileError(err)
	}
	l := languageOf(ctx.Request())
	s := subject{back: uiDiffs + "/" + d.ID, choices: map[string][]choice{},
		values: map[string]string{"seen": d.Version(), "from": d.Assignee, "assignee": d.Assignee},
		facts: []fact{{"c.kind", l.word("kind." + string(d.Kind)), false}, {"c.day", d.Date, false},
			{"c.state", l.look("diff", d.Status).Word, false}, {"c.ref", d.Ref, true}, {"c.order", d.OrderNo, true},
			{"c.diff", yuan(d.Diff()), false}, {"c.assignee", cmp.Or(d.Assignee, l.word("diff.nobody")), false}}}
	if d.ProposedBy != "" {
		s.facts = append(s.facts,
			fact{"c.writeoff", l.word("diff.proposed", d.ProposedBy) + " " + d.ProposedWhy, false})
	}
	if !strings.HasSuffix(ctx.Path(), "/resolve") {
		return s, nil
	}
	for _, a := range d.Allowed() {
		if a == reconcile.WriteOff && d.ProposedBy == operator(ctx) {
			continue // somebody else confirms it
		}
		s.choices["action"] = append(s.choices["action"], choice{string(a), "does." + string(a)})
		what := l.word("doeswhat." + string(a))
		if a == reconcile.WriteOff && d.ProposedBy != "" {
			what = l.word("doeswhat.second", d.ProposedBy)
		}
		s.facts = append(s.facts, fact{"does." + string(a), what, false})
	}
	switch {
	case len(s.choices["action"]) > 0:
	case len(d.Allowed()) > 0:
		s.off = "off.proposed"
	default:
		s.off = "off.ended"
	}
	return s, nil
}

// howItEnded tells who has acted on a difference whether it has ended by that.
func howItEnded(body []byte) string {
	var d struct {
		Status     reconcile.Status `json:"status"`
		ProposedBy string           `json:"proposed_by"`
	}
	switch err := json.Unmarshal(body, &d); {
	case err != nil:
		return ""
	case d.Status == reconcile.StatusPending:
		return "later"
	case d.Status != reconcile.StatusOpen:
		return "ended"
	case d.ProposedBy != "":
		return "proposed"
	}
	return ""
}

// differenceLinks are the acts that a difference allows.
func (c *console) differenceLinks(ctx echo.Context, d *reconcile.Difference) []link {
	names := []string{"diff.comment"}
	if len(d.Allowed()) > 0 {
		names = []string{"diff.resolve", "diff.assign", "diff.comment"}
	}
	return c.links(ctx, []string{d.ID}, names...)
}

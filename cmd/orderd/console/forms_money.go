package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/payment"
)

// refundActs decide about a refund.
func (c *console) refundActs() []act {
	const page, route = "/ui/refunds/:no/", "POST /admin/v1/refunds/:no/"
	decide := func(name, path string, danger bool, more ...field) act {
		return act{name: "refund." + name, path: page + path, route: route + path, danger: danger,
			fields: append([]field{withReason, withVersion}, more...), show: c.refundSubject}
	}
	restock := field{name: "restock", kind: asYesNo}
	approve := decide("approve", "approve", false, restock)
	approve.stepUp, approve.key, approve.limit = c.needsTwo, "a", limitPayment
	byHand := decide("byhand", "by-hand", true, restock)
	byHand.limit = limitPayment
	return []act{approve, decide("reject", "reject", true), decide("retry", "retry", false),
		decide("cancel", "cancel", true), byHand,
		{name: "refund.tocard", path: page + "to-card", route: route + "to-card", danger: true, stepUp: always,
			fields: []field{{name: "type", kind: asChoice, need: true}, {name: "bank_type", kind: asText, most: 32},
				{name: "bank_account", kind: asSecret, most: 19}, {name: "real_name", kind: asSecret, most: 64},
				withReason},
			show: c.cardSubject}}
}

// needsTwo reports that a refund takes two people, by what was said when it was asked for or by the limit of today:
// the password is then asked for once more. Of money that was held, whoever sent it back was the first.
func (c *console) needsTwo(ctx echo.Context) (bool, error) {
	r, err := c.Refunds.FindRefund(ctx.Request().Context(), ctx.Param("no"))
	return r.MayTakeTwo(c.Refunds.ApprovalsFor), err
}

// heldNeedsTwo is needsTwo of money that is held.
func (c *console) heldNeedsTwo(ctx echo.Context) (bool, error) {
	h, err := c.Orders.FindHeld(ctx.Request().Context(), ctx.Param("id"))
	return c.Refunds.ApprovalsFor(h.Total) > 1, err
}

// refundSubject is a refund as what an act is about.
func (c *console) refundSubject(ctx echo.Context) (subject, error) {
	r, err := c.Refunds.FindRefund(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return subject{}, err
	}
	l := languageOf(ctx.Request())
	s := subject{back: "/ui/refunds", values: map[string]string{fieldVersion: strconv.FormatInt(r.Version, 10)},
		facts: []fact{{"c.refund", r.OutRefundNo, true}, {"c.order", r.OrderNo, true},
			{"c.state", l.look("refund", r.State).Word, false}, {"c.amount", yuan(r.Amount), false},
			{"c.of", total(r.PaymentTotal), false},
			{"c.askedby", l.actor(r.AskedBy().Type) + " " + r.AskedBy().ID, false}, {"c.reason", r.Note, false},
			{"c.goods", l.goods(&r), false},
			{"c.approved", strconv.Itoa(len(r.Approvals)) + "/" + strconv.Itoa(r.ApprovalsNeeded), false}}}
	switch path := lastOf(ctx.Path()); {
	case !slices.Contains(c.refundMay(&r), path):
		s.off = "off.refund"
	case path == "approve" && saidBefore(&r, operator(ctx)):
		s.off = "off.self"
	}
	return s, nil
}

// goods says which goods a refund is for, and where they go.
func (l lang) goods(r *order.Refund) string {
	if len(r.Items) == 0 {
		return l.word("goods.none")
	}
	var text []string
	for _, item := range r.Items {
		text = append(text, fmt.Sprintf("%s ×%d", item.SkuID, item.Quantity))
	}
	goes := "goods.away"
	if r.Restock {
		goes = "goods.back"
	}
	return strings.Join(text, ", ") + " · " + l.word(goes)
}

// lastOf is the last part of the path of a page: which of the acts about a thing it is.
func lastOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// cardSubject is a refund whose money goes to a card.
func (c *console) cardSubject(ctx echo.Context) (subject, error) {
	s, err := c.refundSubject(ctx)
	s.choices = map[string][]choice{"type": {{string(payment.CardOfUser), "card.user"},
		{string(payment.CardOfMerchant), "card.merchant"}}}
	return s, err
}

// decisions are the acts about a refund by the event that they mean: which of them there are now the refund's
// own machine says.
var decisions = []struct {
	event      order.RefundEvent
	name, path string
}{
	{order.RefundEventApprove, "approve", "approve"}, {order.RefundEventRetry, "retry", "retry"},
	{order.RefundEventReject, "reject", "reject"}, {order.RefundEventCancel, "cancel", "cancel"},
	{order.RefundEventByHand, "byhand", "by-hand"},
}

// refundMay are the paths of the acts that a refund's state allows.
func (c *console) refundMay(r *order.Refund) (paths []string) {
	for _, d := range decisions {
		if r.CanDecide(d.event, c.Now()).Verdict == order.VerdictMove {
			paths = append(paths, d.path)
		}
	}
	if r.CanGoToCard(c.Now()) {
		paths = append(paths, "to-card")
	}
	return paths
}

// saidBefore reports that somebody cannot approve a refund: who asked for it, or has approved it.
func saidBefore(r *order.Refund, who string) bool {
	return r.AskedBy() == order.Actor{Type: order.ActorOperator, ID: who} ||
		slices.ContainsFunc(r.Approvals, func(a order.Approval) bool { return a.Approver == who })
}

// refundLinks are the acts that a refund's state allows to whoever reads.
func (c *console) refundLinks(ctx echo.Context, r *order.Refund) []link {
	var names []string
	may := c.refundMay(r)
	for _, a := range c.refundActs() {
		if path := lastOf(a.path); slices.Contains(may, path) && (path != "approve" || !saidBefore(r, operator(ctx))) {
			names = append(names, a.name)
		}
	}
	return c.links(ctx, []string{r.OutRefundNo}, names...)
}

// heldActs decide about money that fits no order. All of them ask one route.
func (c *console) heldActs() []act {
	all := make([]act, len(heldWords))
	for i, w := range heldWords {
		all[i] = act{name: "held." + w.path, path: "/ui/held/:id/" + w.path, route: "POST /admin/v1/held/:id",
			fixed: map[string]any{"action": w.action}, fields: []field{withReason}, show: c.heldSubject(w.action),
			danger: w.action != order.HeldApply, waits: w.action != order.HeldApply}
		switch w.action {
		case order.HeldWriteOff:
			all[i].stepUp = always
		case order.HeldRefund:
			all[i].stepUp, all[i].limit = c.heldNeedsTwo, limitPayment
		case order.HeldApply:
		}
	}
	return all
}

// heldWords are the actions as paths have them.
var heldWords = []struct {
	action order.HeldAction
	path   string
}{{order.HeldApply, "apply"}, {order.HeldRefund, "refund"}, {order.HeldWriteOff, "writeoff"}}

// heldSubject is a held payment as what an action is about.
func (c *console) heldSubject(a order.HeldAction) func(ctx echo.Context) (subject, error) {
	return func(ctx echo.Context) (subject, error) {
		h, err := c.Orders.FindHeld(ctx.Request().Context(), ctx.Param("id"))
		if err != nil {
			return subject{}, err
		}
		l := languageOf(ctx.Request())
		s := subject{back: "/ui/held", facts: []fact{{"c.transaction", h.TransactionID, true},
			{"c.amount", yuan(h.Total), false}, {"c.why", l.word("heldwhy." + h.Reason), false},
			{"c.order", h.OrderNo, true}, {"c.outtrade", h.OutTradeNo, true},
			{"c.mchid", h.MchID + " " + h.AppID, false}}}
		if w := &h.WriteOff; w.ProposedBy != "" {
			s.facts = append(s.facts, fact{"c.writeoff", l.word("diff.proposed", w.ProposedBy) + " " + w.ProposedWhy,
				false})
		}
		if !slices.Contains(h.Actions(), a) {
			s.off = "off.held"
		}
		return s, nil
	}
}

// heldLinks are the acts that a held payment allows.
func (c *console) heldLinks(ctx echo.Context, h *order.HeldPayment) []link {
	var names []string
	may := h.Actions()
	for _, w := range heldWords {
		if slices.Contains(may, w.action) {
			names = append(names, "held."+w.path)
		}
	}
	return c.links(ctx, []string{h.TransactionID}, names...)
}

package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/orderhttp"
	"orderd/payment"
)

// Refunds is what operators need of refunds; *order.Service implements it, and documents
// its errors.
type Refunds interface {
	// AskRefund records a wish: no money moves before it is approved.
	AskRefund(ctx context.Context, r order.AskRefund) (order.AskedRefund, error)
	// DecideRefund refuses the one who asked with ErrSelfApproval.
	DecideRefund(ctx context.Context, d order.RefundDecision) (order.Refund, error)
	// SendToCard sends an abnormal refund to a bank card, which is kept nowhere.
	SendToCard(ctx context.Context, c order.RefundToCard) (order.Refund, error)
	FindRefund(ctx context.Context, outRefundNo string) (order.Refund, error)
	ListRefunds(ctx context.Context, f order.RefundFilter) ([]order.Refund, string, error)
	// ApprovalsFor is how many people a refund of such a sum takes.
	ApprovalsFor(sum payment.Fen) int
	// RefundLimits are the limits by which it says so.
	RefundLimits() order.RefundLimits
	// RefundsByAge counts the open ones by state and age.
	RefundsByAge(ctx context.Context) ([]order.RefundAge, error)
	// RefundBacklog counts and sums refunds by state, for gauges and the first page.
	RefundBacklog(ctx context.Context) (order.RefundBacklog, error)
}

// RefundView is a refund as operators see it: what its customer sees, and more.
type RefundView struct {
	orderhttp.RefundView
	// TransactionID and OutTradeNo are the numbers, WeChat Pay's and ours, of the
	// payment.
	TransactionID string `json:"transaction_id"`
	OutTradeNo    string `json:"out_trade_no"`
	// Requester is who may not approve it. ApprovalsNeeded is 0 when it was approved by
	// itself, 2 above ORDERD_REFUND_TWO_PERSONS.
	Requester       actorView      `json:"requester"`
	ApprovalsNeeded int            `json:"approvals_needed"`
	Approvals       []approvalView `json:"approvals"`
	DecidedBy       string         `json:"decided_by,omitempty"`
	DecidedWhy      string         `json:"decided_why,omitempty"` // of every decision, not only a rejection
	// SaidByHand is the first of the two people who settle it by hand, while the second is
	// waited for: the same call by somebody else.
	SaidByHand string `json:"said_by_hand,omitempty"`
	// SaidUnknown is the same of a HELD one that did not happen: WeChat Pay does not know it.
	SaidUnknown string `json:"said_unknown,omitempty"`
	// RefundedElsewhere is what of the same payment went back by refunds that are HELD, in
	// fen, or that had ended here; who approves should know. Told is WeChat Pay's last word on such a one.
	RefundedElsewhere payment.Fen          `json:"refunded_elsewhere,omitempty"`
	Told              payment.RefundStatus `json:"wechat_status,omitempty"`
	// Problem is why the last call brought nothing, in WeChat Pay's words.
	Problem string `json:"problem,omitempty"`
	// Replaces is the number that WeChat Pay closed and that this refund takes the place
	// of; Generation counts from 1. Tries are calls about it, sends and queries, since it
	// was sent, or sent anew after WeChat Pay's no.
	Replaces   string `json:"replaces,omitempty"`
	Generation int    `json:"generation"`
	Tries      int64  `json:"tries"`
	// SentAt is the first call, AcceptedAt WeChat Pay's own time of it (the day of the
	// bill that has it), DueAt when it is looked at next; null when they are not.
	SentAt     *time.Time `json:"sent_at"`
	AcceptedAt *time.Time `json:"accepted_at"`
	DueAt      *time.Time `json:"due_at"`
	Version    int64      `json:"version"`
}

// approvalView is one approval of a refund.
type approvalView struct {
	Approver string    `json:"approver"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
	// Fresh: the approver's account, or a token of it, was younger than a day.
	Fresh bool `json:"fresh,omitempty"`
}

// optional gives nil, null in JSON, for a time that has not come: the zero time would be
// shown as the year 1.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// ViewRefund shows a refund to operators.
func ViewRefund(r *order.Refund) RefundView {
	v := RefundView{
		RefundView:      orderhttp.RefundViewOf(r),
		TransactionID:   r.TransactionID,
		OutTradeNo:      r.OutTradeNo,
		Requester:       actorView{r.AskedBy().Type, r.AskedBy().ID},
		ApprovalsNeeded: r.ApprovalsNeeded,
		Approvals:       []approvalView{},
		DecidedBy:       r.DecidedBy,
		DecidedWhy:      r.DecidedWhy,
		SaidByHand:      r.SaidByHand(),
		SaidUnknown:     r.SaidUnknown(),

		RefundedElsewhere: r.Elsewhere,
		Told:              r.Told,

		Problem:    r.Problem,
		Replaces:   r.Replaces,
		Generation: r.Generation,
		Tries:      r.Tries,
		SentAt:     optional(r.SentAt),
		AcceptedAt: optional(r.AcceptedAt),
		DueAt:      optional(r.DueAt),
		Version:    r.Version,
	}
	for _, a := range r.Approvals {
		v.Approvals = append(v.Approvals, approvalView(a))
	}
	return v
}

// refundRoutes: whoever asks is an operator, whoever decides is finance, so that one
// stolen token cannot send money out.
func (c *console) refundRoutes() []route {
	decide := func(e order.RefundEvent) echo.HandlerFunc {
		return func(ctx echo.Context) error { return c.decideRefund(ctx, e) }
	}
	return []route{
		{http.MethodGet, "/admin/v1/refunds", Viewer, c.listRefunds},
		{http.MethodGet, "/admin/v1/refunds/:no", Viewer, c.getRefund},
		{http.MethodPost, "/admin/v1/refunds/:no/approve", Finance, decide(order.RefundEventApprove)},
		{http.MethodPost, "/admin/v1/refunds/:no/reject", Finance, decide(order.RefundEventReject)},
		{http.MethodPost, "/admin/v1/refunds/:no/cancel", Finance, decide(order.RefundEventCancel)},
		{http.MethodPost, "/admin/v1/refunds/:no/by-hand", Finance, decide(order.RefundEventByHand)},
		{http.MethodPost, "/admin/v1/refunds/:no/to-card", Finance, c.refundToCard},
		{http.MethodPost, "/admin/v1/refunds/:no/retry", operatorOrFinance, decide(order.RefundEventRetry)},
		{http.MethodPost, "/admin/v1/orders/:no/refunds", Operator, c.askRefund},
		{http.MethodGet, "/ui/refunds", Viewer, c.refundsPage},
	}
}

// listRefunds is GET /admin/v1/refunds: a page of the refunds that all of the filters
// mean, newest first. state may be in upper case, as the answers have it.
func (c *console) listRefunds(ctx echo.Context) error {
	q := query{Context: ctx}
	f := order.RefundFilter{
		State:         order.RefundState(strings.ToLower(q.QueryParam("state"))),
		OrderNo:       q.QueryParam("order_no"),
		TransactionID: q.QueryParam("transaction_id"),
		Reason:        q.refundReason(),
		Cursor:        q.QueryParam("cursor"),
	}
	if f.State != "" && !slices.Contains(order.RefundStates(), f.State) {
		q.wrong("state", "ENUM", "there is no such refund state")
	}
	f.Limit = q.limit()
	if err := q.err(); err != nil {
		return err
	}
	rows, next, err := c.Refunds.ListRefunds(ctx.Request().Context(), f)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(rows, next, ViewRefund))
}

// refundReason reads why refunds are there.
func (q *query) refundReason() string {
	text := q.QueryParam("reason")
	reasons := []string{order.ReasonAftersale, order.ReasonLate, order.ReasonDuplicate, order.ReasonHeld}
	if text != "" && !slices.Contains(reasons, text) {
		q.wrong("reason", "ENUM", "a refund's reason is aftersale, late, duplicate or held")
	}
	return text
}

// getRefund is GET /admin/v1/refunds/:no. A number that cannot be one is not found
// without asking the database.
func (c *console) getRefund(ctx echo.Context) error {
	if !payment.ValidOutRefundNo(ctx.Param("no")) {
		return order.ErrRefundNotFound
	}
	r, err := c.Refunds.FindRefund(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return err
	}
	return showRefund(ctx, &r)
}

// showRefund answers with a refund and its version as ETag.
func showRefund(ctx echo.Context, r *order.Refund) error {
	ctx.Response().Header().Set("ETag", etag(r.Version))
	return ctx.JSON(http.StatusOK, ViewRefund(r))
}

// decideRefund applies an operator's decision. It needs no If-Match: amount and lines of
// a refund never change, and the state that the decision is about is checked where it is
// written. An If-Match that is sent must be the refund's version all the same.
func (c *console) decideRefund(ctx echo.Context, e order.RefundEvent) error {
	if !payment.ValidOutRefundNo(ctx.Param("no")) {
		return order.ErrRefundNotFound
	}
	var body struct {
		Reason string `json:"reason"`
		// Restock says whether the goods go back to the shelf: of approve and by-hand alone.
		Restock *bool `json:"restock"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	d := order.RefundDecision{OutRefundNo: ctx.Param("no"), Event: e, Reason: body.Reason, Restock: body.Restock,
		Cause: cause(ctx)}
	if ctx.Request().Header.Get("If-Match") != "" {
		var err error
		if d.IfVersion, err = version(ctx); err != nil {
			return err
		}
	}
	_, err := c.Refunds.DecideRefund(ctx.Request().Context(), d)
	if errors.Is(err, order.ErrVersion) {
		return &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch,
			Text: orderhttp.Text{En: "The refund has changed since it was read.", Zh: "退款单已发生变化。"}}
	}
	if err != nil {
		return err
	}
	r, err := c.Refunds.FindRefund(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return err
	}
	effect(ctx, "", string(r.State)+" v"+strconv.FormatInt(r.Version, 10))
	return showRefund(ctx, &r)
}

// refundToCard is POST /admin/v1/refunds/:no/to-card: the money of an abnormal refund goes
// to the merchant's bank account, or to a debit card of the buyer's that the body names.
// Where two people are needed, the first's word leaves the refund ABNORMAL.
func (c *console) refundToCard(ctx echo.Context) error {
	if !payment.ValidOutRefundNo(ctx.Param("no")) {
		return order.ErrRefundNotFound
	}
	var body struct {
		Reason   string            `json:"reason"`
		Type     payment.CardOwner `json:"type"`
		BankType string            `json:"bank_type"`
		Account  string            `json:"bank_account"`
		RealName string            `json:"real_name"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	r, err := c.Refunds.SendToCard(ctx.Request().Context(), order.RefundToCard{OutRefundNo: ctx.Param("no"),
		To: body.Type, Reason: body.Reason, Cause: cause(ctx),
		Card: payment.BankCard{BankType: body.BankType, Account: body.Account, RealName: body.RealName}})
	if err != nil {
		return err
	}
	return showRefund(ctx, &r)
}

// askRefund is POST /admin/v1/orders/:no/refunds: a refund of any customer's order;
// somebody else approves it. Key and answer are those of the customers' API, and the body
// too, but for restock, which only the shop may say.
func (c *console) askRefund(ctx echo.Context) error {
	ask, err := orderhttp.ReadRefund(ctx)
	if err != nil {
		return err
	}
	ask.OrderNo, ask.Cause = ctx.Param("no"), cause(ctx)
	asked, err := c.Refunds.AskRefund(ctx.Request().Context(), ask)
	if err != nil {
		return err
	}
	return orderhttp.ShowAsked(ctx, asked, "/admin/v1/refunds/")
}

// refundRow is a refund in a list, and what the person who reads may decide.
type refundRow struct {
	*order.Refund
	Acts []link
}

// uiRefunds is the page of refunds.
const uiRefunds = "/ui/refunds"

// refundPart is a state whose refunds the page has, of those that are at an end too.
type refundPart struct {
	State   order.RefundState
	Path    string
	Current bool
}

// openRefunds are the states that the page has of its own, those that wait for a person first.
var openRefunds = []order.RefundState{order.RefundStatePending, order.RefundStateRefused, order.RefundStateAbnormal,
	order.RefundStateHeld, order.RefundStateOwed, order.RefundStateProcessing}

// refundsPage is GET /ui/refunds: the refunds that are not at an end, up to defaultRows of each state; or with ?state=
// those of one state, page by page, newest first.
func (c *console) refundsPage(ctx echo.Context) error {
	q := query{Context: ctx}
	state, cursor := oneOf(&q, "state", order.RefundStates()), ctx.QueryParam("cursor")
	if state == "" && cursor != "" {
		q.wrong("cursor", "REQUIRED", "it goes with a state")
	}
	if err := q.err(); err != nil {
		return err
	}
	states := openRefunds
	if state != "" {
		states = []order.RefundState{state}
	}
	var rows []refundRow
	next := ""
	for _, s := range states {
		all, after, err := c.Refunds.ListRefunds(ctx.Request().Context(), order.RefundFilter{State: s,
			Limit: defaultRows, Cursor: cursor})
		if err != nil {
			return err
		}
		for i := range all {
			rows = append(rows, refundRow{&all[i], c.refundLinks(ctx, &all[i])})
		}
		next = after
	}
	v := map[string]any{"Rows": rows, "Limit": c.limitText(languageOf(ctx.Request()), limitPayment),
		"HasBulk": c.Bulk != nil, "Bulk": c.bulkLinks(ctx, nil, bulk.KindApprove), "State": state,
		"Parts": refundParts(state)}
	if state != "" {
		v["Next"] = pageAfter(uiRefunds+"?state="+string(state), next)
		if cursor != "" {
			v["First"] = uiRefunds + "?state=" + string(state)
		}
	}
	var err error
	if v["Ages"], v["Amounts"], err = c.refundAges(ctx); err != nil {
		return err
	}
	return c.show(ctx, "refunds", v)
}

// refundParts are the lists of all states; at is the one that is shown.
func refundParts(at order.RefundState) (parts []refundPart) {
	for _, s := range order.RefundStates() {
		parts = append(parts, refundPart{s, uiRefunds + "?state=" + string(s), s == at})
	}
	return parts
}

// refundGroups are the states of open refunds as they are drawn: who or what they wait for.
var refundGroups = []struct {
	word, class string
	states      []order.RefundState
}{{"ages.approval", colourWarn, []order.RefundState{order.RefundStatePending}},
	{"ages.wechat", colourInfo, []order.RefundState{order.RefundStateOwed, order.RefundStateProcessing}},
	{"ages.person", colourBad, []order.RefundState{order.RefundStateRefused, order.RefundStateAbnormal,
		order.RefundStateHeld}}}

// refundAges draws how long the open refunds have been open, and sums them by age.
func (c *console) refundAges(ctx echo.Context) (chart, []payment.Fen, error) {
	all, err := c.Refunds.RefundsByAge(ctx.Request().Context())
	if err != nil {
		return chart{}, nil, err
	}
	l, n := languageOf(ctx.Request()), len(order.RefundAges)+1
	drawn, amounts := chart{Label: l.word("ages.chart"), Unit: countText}, make([]payment.Fen, n)
	for i := range n {
		drawn.Places = append(drawn.Places, l.word("ages."+strconv.Itoa(i)))
	}
	for _, g := range refundGroups {
		s := series{Word: l.word(g.word), Class: g.class, Values: zeros(n)}
		for _, a := range all {
			if slices.Contains(g.states, a.State) {
				s.add(a.Age, a.Count)
				amounts[a.Age] += a.Amount
			}
		}
		drawn.Series = append(drawn.Series, s)
	}
	return drawn, amounts, nil
}

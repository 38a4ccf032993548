package orderhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/stock"
)

// Failure is an error with its answer: a problem that arises in HTTP itself, or that a
// handler wants answered in a certain way. Errors of the domain need none; failureOf has
// a row for each.
type Failure struct {
	Code Code
	// Text is shown instead of the code's own detail; empty: the code's.
	Text
	// RetryAfter is said instead of the code's own, rounded up to seconds, also of a code
	// that has none: this very case passes by itself. 0: the code's.
	RetryAfter time.Duration
	// Fields are the places of the request that are wrong, each shown in errors.
	Fields []order.FieldError
	// Order is shown with the problem, so that a client need not ask for it.
	Order *OrderView
	// Err is the cause. It goes to the log and never to the client.
	Err error
}

// Error is for the log.
func (f *Failure) Error() string {
	if f.Err != nil {
		return string(f.Code) + ": " + f.Err.Error()
	}
	return string(f.Code) + ": " + f.En
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Problem is the body of every error (RFC 9457). Programs go by Code and Retryable; Title
// and Detail are for people.
type Problem struct {
	// Type is the path of a page that explains the code. A path and no address: RFC 9457
	// allows a relative reference, and a service does not know its own public name.
	Type string `json:"type"`
	// Title is in English and the same for every problem of a code (RFC 9457, 3.1.3).
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Code is an extension member (RFC 9457, 3.2), shorter to compare than Type.
	Code Code `json:"code"`
	// Detail is about this case, in the language of Content-Language.
	Detail string `json:"detail"`
	// Instance is the path that was asked for, cut at maxInstance; RequestID finds the
	// request in our log and in the timeline.
	Instance  string `json:"instance"`
	RequestID string `json:"request_id"`
	// Retryable says that the same request, with the same key, may succeed after
	// Retry-After. False: it fails again until something is changed.
	Retryable bool `json:"retryable"`
	// Errors is what is wrong with the request, each with its place.
	Errors []FieldProblem `json:"errors,omitempty"`
	// Items are the lines that cannot be had, or SKUs of which not so much can go back.
	Items []ItemProblem `json:"items,omitempty"`
	// Order is the order as it is, when its state is the problem.
	Order *OrderView `json:"order,omitempty"`
	// Expected and Actual are of PRICE_CHANGED: the client's total and ours.
	Expected *Amount `json:"expected_total,omitempty"`
	Actual   *Amount `json:"actual_total,omitempty"`
	// OpensAt is of SALE_NOT_STARTED: the begin of the sale to the millisecond, which
	// Retry-After cannot say.
	OpensAt string `json:"opens_at,omitempty"`
	// Held, Limit and Requested are of CUSTOMER_LIMIT, in units: what the customer has, may
	// have and asks for.
	Held      *int64 `json:"held,omitempty"`
	Limit     *int64 `json:"limit,omitempty"`
	Requested *int64 `json:"requested,omitempty"`
	// WeChat is what WeChat Pay answered. Customers see it for a definite no alone.
	WeChat *WeChatProblem `json:"wechat,omitempty"`
}

// FieldProblem is one thing that is wrong with a request. The pointer is a JSON pointer
// into the body as a URI fragment, #/items/0/quantity (RFC 6901, 6), or ?name for a query
// parameter. Its code is one of those in decode.go or of package order, a contract like
// Code.
type FieldProblem struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

// ItemProblem is one line of an order that cannot be had, or one SKU of which not so much
// can go back. Available is a pointer because 0 left is a number that a client shows, and
// an unknown SKU has none.
type ItemProblem struct {
	Pointer   string `json:"pointer"`
	SkuID     string `json:"sku_id"`
	Requested int64  `json:"requested,omitempty"`
	Available *int64 `json:"available,omitempty"`
}

// WeChatProblem is what WeChat Pay answered: its HTTP status, its error code and its
// Request-ID, by which its support finds the call.
type WeChatProblem struct {
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Message   string `json:"message,omitempty"` // operators only
	RequestID string `json:"request_id"`
}

// maxInstance bounds the path that a problem repeats, in bytes: our own have less than
// 100.
const maxInstance = 256

// WriteProblem answers a customer for an error: the one table from error to status and
// code. An error that the table does not know is a 500 without a reason, because its text
// may hold anything. It writes nothing when an answer has begun.
func WriteProblem(c echo.Context, err error) { writeProblem(c, err, false) }

// WriteOperatorProblem is WriteProblem for operators, who also see what WeChat Pay wrote,
// for every kind of its errors.
func WriteOperatorProblem(c echo.Context, err error) { writeProblem(c, err, true) }

// WriteOperatorPage is WriteOperatorProblem for a browser: page makes the body of the problem and of what
// can be done about it, in English or in Chinese. When it fails the answer is the problem itself.
func WriteOperatorPage(c echo.Context, err error, inEnglish bool, page func(p *Problem, todo string) ([]byte, error)) {
	if c.Response().Committed {
		return
	}
	lang := chinese
	if inEnglish {
		lang = english
	}
	p, todo := answerProblem(c, err, lang, true)
	body, failed := page(&p, todo)
	if failed != nil {
		sendProblem(c, &p)
		return
	}
	_ = c.HTMLBlob(p.Status, body) // the client hung up; nobody is left to tell
}

// writeProblem answers in the language of the request. operator adds what only operators
// may see.
func writeProblem(c echo.Context, err error, operator bool) {
	if c.Response().Committed {
		return // the beginning of another answer is on its way
	}
	p, _ := answerProblem(c, err, languageOf(c.Request().Header), operator)
	sendProblem(c, &p)
}

// answerProblem makes the problem of an error and sets the headers of its answer; todo is what can be done
// about it.
func answerProblem(c echo.Context, err error, lang language, operator bool) (p Problem, todo string) {
	f := failureOf(err)
	k := kindOf(f.Code)
	p = Problem{
		Type: problemPath + k.slug(), Title: k.title, Status: k.status, Code: k.code, Detail: k.detail.in(lang),
		Instance: c.Request().URL.Path, RequestID: RequestID(c), Order: f.Order,
		Retryable: k.retry > 0 || f.RetryAfter > 0,
	}
	p.Instance = p.Instance[:min(len(p.Instance), maxInstance)]
	if f.En != "" {
		p.Detail = f.in(lang)
	}
	for _, e := range f.Fields {
		p.Errors = append(p.Errors, FieldProblem{e.Pointer, e.Code, fieldText(e, lang)})
	}
	p.addFacts(err, operator)

	h := c.Response().Header()
	h.Set("Content-Language", string(lang))
	h.Set("Cache-Control", "no-store")
	h.Del("ETag")
	if p.Retryable {
		h.Set("Retry-After", strconv.Itoa(seconds(max(f.RetryAfter, 0), k.retry)))
	}
	if k.code == CodeUnauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="`+audience+`"`)
	}
	return p, k.todo.in(lang)
}

// sendProblem sends a problem as RFC 9457 has it.
func sendProblem(c echo.Context, p *Problem) {
	body, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Errorf("encode a problem: %w", err)) // our own type with our own values
	}
	_ = c.Blob(p.Status, "application/problem+json", append(body, '\n')) // the client hung up; nobody is left to tell
}

// seconds gives a wait in whole seconds, which is all that Retry-After can say (RFC 9110,
// 10.2.3), rounded up: a client that comes at the time given must not come too early.
func seconds(wait, otherwise time.Duration) int {
	if wait == 0 {
		wait = otherwise
	}
	return int((wait + time.Second - 1) / time.Second)
}

// failureOf gives the answer to an error. Every error of the domain that a request can
// meet has its line here or in one of the functions that are called here, and nowhere
// else. An error without one is INTERNAL.
func failureOf(err error) Failure {
	var failure *Failure
	var gateway *payment.GatewayError
	var router *echo.HTTPError
	if errors.As(err, &failure) {
		return *failure
	}
	if f := orderFailure(err); f.Code != "" {
		return f
	}
	if f := saleFailure(err); f.Code != "" {
		return f
	}
	if f := queueFailure(err); f.Code != "" {
		return f
	}
	if f := refundFailure(err); f.Code != "" {
		return f
	}
	if f := stockFailure(err); f.Code != "" {
		return f
	}
	switch {
	case errors.As(err, &gateway):
		return gatewayFailure(gateway)
	case errors.Is(err, sqldb.ErrUnavailable), errors.Is(err, sqldb.ErrGroupClosed):
		return Failure{Code: CodeMaintenance}
	case errors.Is(err, sqldb.ErrOverloaded), errors.Is(err, context.DeadlineExceeded):
		return Failure{Code: CodeOverloaded}
	case errors.As(err, &router):
		return Failure{Code: routerCode(router.Code)}
	}
	return Failure{Code: CodeInternal}
}

// orderFailure has the errors of placing, paying and closing; a Failure without a code
// means that it is none of them.
func orderFailure(err error) Failure {
	var (
		invalid *order.ValidationError
		short   *order.InsufficientError
		sku     *order.UnknownSKUError
		price   *order.PriceChangedError
		taken   *order.ReferenceTakenError
		payable *order.NotPayableError
		refused *order.RefusedError
		open    *order.TooManyOpenError
		units   *order.TooManyUnitsError
		judged  *order.JudgedError
		held    *order.HeldError
	)
	switch {
	case errors.As(err, &open):
		return Failure{Code: CodeRateLimited, RetryAfter: open.Wait, Text: Text{
			fmt.Sprintf("You have %d unpaid orders, as many as one may have. Pay or cancel one of them, then send "+
				"this request again with the same key.", open.Open),
			fmt.Sprintf("您已有 %d 笔待支付订单,已达上限。请先支付或取消其中一笔,再使用相同的键重试。", open.Open)}}
	case errors.As(err, &units):
		return Failure{Code: CodeCustomerLimit, Text: Text{
			fmt.Sprintf("Your unpaid orders hold %d of SKU %s, and may hold %d; %d asked.", units.Held, units.SkuID,
				units.Limit, units.Asked),
			fmt.Sprintf("您的待支付订单已占用商品 %s 共 %d 件,上限 %d 件,本次需要 %d 件。", units.SkuID, units.Held, units.Limit,
				units.Asked)}}
	case errors.As(err, &invalid):
		return Failure{Code: CodeValidation, Fields: invalid.Fields}
	case errors.As(err, &short):
		s := short.Items[0]
		return Failure{Code: CodeStockInsufficient, Text: Text{
			fmt.Sprintf("SKU %s has %d left, %d asked", s.SkuID, s.Available, s.Requested),
			fmt.Sprintf("商品 %s 剩余 %d 件,需要 %d 件", s.SkuID, s.Available, s.Requested)}}
	case errors.As(err, &sku):
		return Failure{Code: CodeSKUNotFound, Text: Text{"SKU " + sku.SkuID + " does not exist",
			"商品 " + sku.SkuID + " 不存在"}}
	case errors.As(err, &price):
		return Failure{Code: CodePriceChanged, Text: Text{
			fmt.Sprintf("The total is %s yuan now, %s were expected", price.Actual, price.Expected),
			fmt.Sprintf("现在的总价为 %s 元,页面显示为 %s 元", price.Actual, price.Expected)}}
	case errors.As(err, &taken):
		return Failure{Code: CodeReferenceTaken, Text: Text{
			"Order " + taken.OrderNo + " has this reference already. Nothing was placed.",
			"订单 " + taken.OrderNo + " 已使用此 reference,未下单。"}}
	case errors.As(err, &payable):
		return Failure{Code: CodeOrderNotPayable, Text: notPayable(payable)}
	case errors.As(err, &refused):
		return refusal(refused)
	case errors.As(err, &judged):
		return Failure{Code: CodeOrderNotPayable, Text: Text{"Not applied: " + judged.Why,
			"该付款未入账（" + InChinese(judged.Why) + "）"}}
	case errors.As(err, &held):
		return Failure{Code: CodeOrderNotPayable, Text: Text{"Not written off: " + held.Why,
			"该付款未核销（" + InChinese(held.Why) + "）"}}
	case errors.Is(err, order.ErrNotFound):
		return Failure{Code: CodeOrderNotFound}
	case errors.Is(err, order.ErrRequestReused):
		return Failure{Code: CodeKeyReused}
	case errors.Is(err, order.ErrVersion):
		return Failure{Code: CodeVersionMismatch}
	}
	return Failure{}
}

// saleFailure has the errors of a flash sale; a Failure without a code means that it is none
// of them.
func saleFailure(err error) Failure {
	var early *order.NotStartedError
	var limit *order.CustomerLimitError
	switch {
	case errors.As(err, &early):
		at := rfc3339(early.OpensAt)
		return Failure{Code: CodeSaleNotStarted, RetryAfter: early.Wait, Text: Text{
			fmt.Sprintf("The sale of SKU %s begins at %s.", early.SkuID, at),
			fmt.Sprintf("商品 %s 将于 %s 开售。", early.SkuID, at)}}
	case errors.As(err, &limit):
		return Failure{Code: CodeCustomerLimit, Text: Text{
			fmt.Sprintf("You have %d units of this sale, and may have %d; %d asked.", limit.Held, limit.Limit,
				limit.Asked),
			fmt.Sprintf("本次活动每人限购 %d 件,您已有 %d 件,本次需要 %d 件。", limit.Limit, limit.Held, limit.Asked)}}
	}
	return Failure{}
}

// refundFailure has the errors of asking for and deciding refunds; a Failure without a
// code means that it is none of them.
func refundFailure(err error) Failure {
	var (
		exceeds *order.RefundExceedsError
		returns *order.ReturnExceedsError
		refused *order.RefundRefusedError
	)
	switch {
	case errors.As(err, &exceeds):
		f := Failure{Code: CodeRefundExceeds, Text: Text{exceeds.Error(),
			fmt.Sprintf("申请退款 %s 元,可退 %s 元", exceeds.Asked, exceeds.Left)}}
		if exceeds.InProgress {
			f.Code = CodeRefundInProgress
		}
		return f
	case errors.As(err, &returns):
		return Failure{Code: CodeReturnExceeds, Text: Text{returns.Error(),
			fmt.Sprintf("商品 %s 申请退 %d 件,可退 %d 件", returns.SkuID, returns.Asked, returns.Left)}}
	case errors.As(err, &refused):
		return Failure{Code: CodeRefundNotPossible, Text: Text{En: refused.Why,
			Zh: kindOf(CodeRefundNotPossible).detail.Zh}}
	case errors.Is(err, order.ErrRefundTooOld):
		return Failure{Code: CodeRefundNotPossible, Text: Text{order.ErrRefundTooOld.Error(), "支付已超过一年,微信支付不再支持退款"}}
	case errors.Is(err, order.ErrTooManyRefunds):
		return Failure{Code: CodeRefundNotPossible, Text: Text{order.ErrTooManyRefunds.Error(), "同一笔支付最多退款 50 次"}}
	case errors.Is(err, order.ErrRefundNotFound):
		return Failure{Code: CodeRefundNotFound}
	case errors.Is(err, order.ErrRefundWaits):
		return Failure{Code: CodeRefundInProgress, Text: Text{order.ErrRefundWaits.Error(), "退款须由第二人审批"}}
	case errors.Is(err, order.ErrSelfApproval):
		return Failure{Code: CodeForbidden, Text: Text{order.ErrSelfApproval.Error(), "退款须由申请人以外的人员审批"}}
	}
	if f := peopleFailure(err); f.Code != "" {
		return f
	}
	return Failure{}
}

// peopleFailure has the errors of what takes two people; a Failure without a code means
// that it is none of them.
func peopleFailure(err error) Failure {
	var same *operators.SameError
	switch {
	case errors.As(err, &same):
		return Failure{Code: CodeForbidden, Text: Text{same.Error(), "此操作须由两个人完成：" + same.Acting + " 与 " +
			same.Other + " 不能算作两个人(同一个人,或账号、令牌由对方创建)"}}
	case errors.Is(err, operators.ErrShell):
		return Failure{Code: CodeForbidden, Text: Text{operators.ErrShell.Error(), "此操作须由两个人完成,命令行本身和初始令牌不算其中一人"}}
	case errors.Is(err, operators.ErrNoLonger):
		return Failure{Code: CodeForbidden, Text: Text{operators.ErrNoLonger.Error(), "该账号已停用,或不再具有所需角色"}}
	}
	return Failure{}
}

// problemsInChinese says sentences in Chinese, one after the other.
func problemsInChinese(problems []string) string {
	all := make([]string, len(problems))
	for i, p := range problems {
		if zh, known := inChinese(p); known {
			p = zh
		}
		all[i] = p
	}
	return strings.Join(all, "；")
}

// stockFailure has the errors of operators who change SKUs and shelves; a Failure without
// a code means that it is none of them.
func stockFailure(err error) Failure {
	var (
		invalid   *stock.InvalidError
		changed   *stock.ChangedError
		below     *stock.BelowZeroError
		elsewhere *stock.ElsewhereError
	)
	switch {
	case errors.As(err, &invalid):
		return Failure{Code: CodeValidation, Text: Text{invalid.Error(), problemsInChinese(invalid.Problems)}}
	case errors.As(err, &changed):
		return Failure{Code: CodeStockChanged, Text: Text{changed.Error(),
			fmt.Sprintf("库存现为 %d,预期为 %d", changed.Available, changed.Expected)}}
	case errors.As(err, &below):
		return Failure{Code: CodeValidation, Text: Text{below.Error(),
			fmt.Sprintf("库存现为 %d,不能再变动 %d", below.Available, below.Delta)}}
	case errors.As(err, &elsewhere):
		return Failure{Code: CodeStockChanged, Text: Text{elsewhere.Error(),
			fmt.Sprintf("库存中有 %d 件在排队抢购的桶中,余下 %d 件,不能变动 %d:请先结束抢购", elsewhere.Elsewhere,
				elsewhere.Pool, elsewhere.Delta)}}
	case errors.Is(err, stock.ErrSKUNotFound):
		return Failure{Code: CodeSKUNotFound}
	case errors.Is(err, stock.ErrKeyReused):
		return Failure{Code: CodeKeyReused}
	case errors.Is(err, stock.ErrSKUVersion):
		return Failure{Code: CodeVersionMismatch, Text: Text{stock.ErrSKUVersion.Error(), "商品已发生变化"}}
	case errors.Is(err, stock.ErrUnlimited):
		return Failure{Code: CodeValidation, Text: Text{stock.ErrUnlimited.Error(), "该商品库存不限,无可修改的数量"}}
	}
	return Failure{}
}

// gatewayFailure tells a client two things apart: WeChat Pay said a definite no (502), or
// it gave no usable answer (503), for which the client cannot be blamed and may come
// again. That our keys are wrong is among the latter: it is for operators and not for
// buyers.
func gatewayFailure(g *payment.GatewayError) Failure {
	switch g.Kind {
	case payment.KindRejected:
		return Failure{Code: CodeWeChatRejected}
	// Named and not left to a default: a kind that is added must be decided on, and the
	// linter exhaustive sees that it was.
	case payment.KindUnknown, payment.KindRateLimited, payment.KindUserPaying, payment.KindMisconfigured:
	}
	return Failure{Code: CodeWeChatUnavailable}
}

// refusal answers what the state machine refused. For an order that is paid the code is
// ORDER_ALREADY_PAID, and not only that it cannot be paid or cancelled: the client can
// offer a refund. ORDER_NOT_PAYABLE says that there is no money of the buyer here.
func refusal(r *order.RefusedError) Failure {
	if r.Event == order.EventRefund {
		return Failure{Code: CodeRefundNotPossible, Text: Text{En: r.Why, Zh: notRefundable(r.Order.State)}}
	}
	f := Failure{Code: CodeOrderNotPayable, Text: Text{En: r.Why}}
	switch r.Order.State {
	case order.StatePaid, order.StateRefunding, order.StateRefunded:
		f.Code = CodeOrderAlreadyPaid
		f.Zh = kindOf(CodeOrderAlreadyPaid).detail.Zh
	case order.StatePending, order.StateClosing, order.StateClosed, order.StateLate:
		f.Zh = kindOf(CodeOrderNotPayable).detail.Zh
	}
	return f
}

// notRefundable says in Chinese why an order in a state has nothing that could be asked
// back; in English order.RefusedError.Why says it.
func notRefundable(s order.State) string {
	switch s {
	case order.StatePending, order.StateClosing, order.StateClosed:
		return "订单未支付,没有可退的款项"
	case order.StateLate:
		return "订单已关闭,其付款将自动原路退回"
	case order.StateRefunded:
		return "该订单的款项已全部退回"
	case order.StatePaid, order.StateRefunding:
	}
	return kindOf(CodeRefundNotPossible).detail.Zh
}

// notPayable says in both languages why an order cannot be paid now.
func notPayable(e *order.NotPayableError) Text {
	zh := "订单不可支付"
	switch e.State {
	case order.StatePending:
		if e.Expired {
			zh = "订单已超过支付时间"
		} else if e.Held {
			zh = "该订单有一笔付款正在核实,请稍后再试"
		}
	case order.StateClosing:
		zh = "订单正在关闭,不可支付"
	case order.StateClosed:
		zh = "订单已关闭,不可支付"
	case order.StatePaid, order.StateRefunding, order.StateRefunded, order.StateLate:
	}
	return Text{En: e.Error(), Zh: zh}
}

// routerCode gives the code of an error of echo's router, by its status: no such path, no
// such method. Any other is INTERNAL, because our handlers give no echo.HTTPError of
// their own.
func routerCode(status int) Code {
	switch status {
	case http.StatusNotFound:
		return CodeNotFound
	case http.StatusMethodNotAllowed:
		return CodeMethodNotAllowed
	case http.StatusRequestEntityTooLarge:
		return CodeBodyTooLarge
	}
	return CodeInternal
}

// addFacts adds the members that only some problems have. They are taken from the error
// itself and not from a Failure, so that no handler has to remember them.
func (p *Problem) addFacts(err error, operator bool) {
	var short *order.InsufficientError
	var units *order.TooManyUnitsError
	var sku *order.UnknownSKUError
	var price *order.PriceChangedError
	var gateway *payment.GatewayError
	var returns *order.ReturnExceedsError
	var early *order.NotStartedError
	var limit *order.CustomerLimitError
	switch {
	case errors.As(err, &early):
		p.OpensAt = rfc3339(early.OpensAt)
		p.Items = []ItemProblem{{Pointer: "#/items/" + strconv.Itoa(early.Index) + "/sku_id", SkuID: early.SkuID}}
	case errors.As(err, &limit):
		p.Held, p.Limit, p.Requested = &limit.Held, &limit.Limit, &limit.Asked
	case errors.As(err, &returns):
		p.Items = []ItemProblem{{Pointer: "#/items", SkuID: returns.SkuID, Requested: returns.Asked,
			Available: &returns.Left}}
	case errors.As(err, &short):
		for _, s := range short.Items {
			p.Items = append(p.Items, ItemProblem{
				Pointer: "#/items/" + strconv.Itoa(s.Index) + "/quantity",
				SkuID:   s.SkuID, Requested: s.Requested, Available: &s.Available,
			})
		}
	case errors.As(err, &units):
		left := max(units.Limit-units.Held, 0)
		p.Held, p.Limit, p.Requested = &units.Held, &units.Limit, &units.Asked
		p.Items = []ItemProblem{{Pointer: "#/items/" + strconv.Itoa(units.Index) + "/quantity", SkuID: units.SkuID,
			Requested: units.Asked, Available: &left}}
	case errors.As(err, &sku):
		p.Items = []ItemProblem{{Pointer: "#/items/" + strconv.Itoa(sku.Index) + "/sku_id", SkuID: sku.SkuID}}
	case errors.As(err, &price):
		p.Expected, p.Actual = amountOf(price.Expected), amountOf(price.Actual)
	case errors.As(err, &gateway) && (operator || gateway.Kind == payment.KindRejected):
		// Other kinds tell of our keys and our outages: operators only.
		p.WeChat = &WeChatProblem{Status: gateway.Status, Code: gateway.Code, RequestID: gateway.RequestID}
		if operator {
			p.WeChat.Message = gateway.Message
		}
	}
}

// fieldText is the detail of one field in a language. A sentence of the domain that has no
// Chinese yet is shown after what its code means.
func fieldText(e order.FieldError, l language) string {
	if l != chinese {
		return e.Detail
	}
	if zh, known := inChinese(e.Detail); known {
		return zh
	}
	if means, ok := codesInChinese[e.Code]; ok {
		return means + "：" + e.Detail
	}
	return e.Detail
}

// codesInChinese is what the codes of fields mean.
var codesInChinese = map[string]string{
	"LENGTH": "长度不符合要求", "RANGE": "数值超出范围", "REQUIRED": "必填", "ENUM": "不是允许的值",
	order.CodeShopOnly: "仅限店铺密钥", "AMOUNT": "金额超出上限", "TOO_MUCH": "金额超过所退商品的价格", "TOO_MANY": "数量过多",
	codeUnknownField: "未知字段", codeType: "类型不正确", codeDuplicate: "字段重复", codeFormat: "格式不正确",
	"INVALID": "不符合要求", "LIMIT": "超出上限", "UNKNOWN": "没有找到",
}

// What stands before the words that are allowed, in the details that name them.
const (
	// WantOneOf is of values, theseAre of the names of parameters.
	WantOneOf = "want one of "
	theseAre  = "is not a parameter here; these are: "
)

// ProblemPage is GET /problems/:slug, on every listener whose problems name it: it explains a
// problem to whoever follows its type, in the language of the request. It has no script and no
// style, and its policy allows none.
func ProblemPage(c echo.Context) error {
	if err := CheckQuery(c); err != nil {
		return err
	}
	lang := languageOf(c.Request().Header)
	for _, k := range kinds {
		if k.slug() != c.Param("slug") {
			continue
		}
		c.Response().Header().Set("Content-Security-Policy", "default-src 'none'")
		c.Response().Header().Set("Content-Language", string(lang))
		return c.HTML(http.StatusOK, fmt.Sprintf(`<!doctype html>
<html lang="%s"><meta charset="utf-8"><title>%s</title>
<h1>%s</h1><p><code>%s</code> · %d</p><p>%s</p><p>%s</p></html>
`, lang, html.EscapeString(k.title), html.EscapeString(k.title), k.code, k.status,
			html.EscapeString(k.detail.in(lang)), html.EscapeString(k.todo.in(lang))))
	}
	return echo.ErrNotFound
}

// ProblemOf gives the status and the code that an error is answered with.
func ProblemOf(err error) (status int, code Code) {
	k := kindOf(failureOf(err).Code)
	return k.status, k.code
}

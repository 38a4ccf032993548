package orderhttp

import (
	"net/http"
	"strings"
	"time"
)

// Code names a problem for programs. Codes are a contract with clients: one that was
// released is never renamed, and its status never changes.
type Code string

// The codes of both APIs. kinds has the status, the text and the advice of each. Those
// about roles, versions, stock corrections and reconciliations are met by operators only.
const (
	// The request itself: nothing was looked up and nothing was done.
	CodeMalformed   Code = "MALFORMED_REQUEST"
	CodeKeyRequired Code = "IDEMPOTENCY_KEY_REQUIRED"
	// Who asks.
	CodeUnauthenticated Code = "UNAUTHENTICATED"
	CodeForbidden       Code = "FORBIDDEN"
	// What is asked about. Somebody else's order or refund is answered like one that does
	// not exist, so that numbers cannot be tried out.
	CodeNotFound         Code = "NOT_FOUND"
	CodeOrderNotFound    Code = "ORDER_NOT_FOUND"
	CodeSKUNotFound      Code = "SKU_NOT_FOUND"
	CodeMethodNotAllowed Code = "METHOD_NOT_ALLOWED"
	// The state of things refuses the request: placing, paying and closing.
	CodeStockInsufficient Code = "STOCK_INSUFFICIENT"
	CodeCustomerLimit     Code = "CUSTOMER_LIMIT"
	CodeSaleNotStarted    Code = "SALE_NOT_STARTED"
	CodeStockNotReady     Code = "STOCK_NOT_READY"
	CodePriceChanged      Code = "PRICE_CHANGED"
	CodeReferenceTaken    Code = "REFERENCE_TAKEN"
	CodeOrderNotPayable   Code = "ORDER_NOT_PAYABLE"
	CodeOrderAlreadyPaid  Code = "ORDER_ALREADY_PAID"
	// Refunds and reconciliation.
	CodeRefundNotFound    Code = "REFUND_NOT_FOUND"
	CodeRefundExceeds     Code = "REFUND_EXCEEDS_PAID"
	CodeReturnExceeds     Code = "RETURN_EXCEEDS_DEDUCTED"
	CodeRefundInProgress  Code = "REFUND_IN_PROGRESS"
	CodeRefundNotPossible Code = "REFUND_NOT_POSSIBLE"
	CodeDifferenceUnknown Code = "DIFFERENCE_NOT_FOUND"
	CodeRunInProgress     Code = "RUN_IN_PROGRESS"
	// CodeShipmentNotPossible is of a mini program's shop.
	CodeShipmentNotPossible Code = "SHIPMENT_NOT_POSSIBLE"
	// Somebody else was first: read again, then repeat with what is there now.
	CodeStockChanged    Code = "STOCK_CHANGED"
	CodeWebhookChanged  Code = "WEBHOOK_CHANGED"
	CodeVersionMismatch Code = "VERSION_MISMATCH"
	// The form of the request, and its values.
	CodeBodyTooLarge     Code = "BODY_TOO_LARGE"
	CodeUnsupportedMedia Code = "UNSUPPORTED_MEDIA_TYPE"
	CodeIfMatchRequired  Code = "IF_MATCH_REQUIRED"
	CodeValidation       Code = "VALIDATION_FAILED"
	CodeKeyReused        Code = "IDEMPOTENCY_KEY_REUSED"
	// The same request may succeed later, except after WECHAT_PAY_REJECTED and INTERNAL.
	CodeRateLimited       Code = "RATE_LIMITED"
	CodeWeChatRejected    Code = "WECHAT_PAY_REJECTED"
	CodeWeChatUnavailable Code = "WECHAT_PAY_UNAVAILABLE"
	CodeOverloaded        Code = "OVERLOADED"
	CodeMaintenance       Code = "MAINTENANCE"
	CodeInternal          Code = "INTERNAL"
)

// problemPath is below what the type of a problem stands, a page that explains it:
// /problems/stock-insufficient.
const problemPath = "/problems/"

// What Retry-After says. The header has whole seconds.
const (
	// shortRetry is for what passes by itself: a queue that empties, a lock that ends.
	shortRetry = time.Second
	// outageRetry is for a database or a WeChat Pay that is away: a failover takes
	// seconds, and every client coming back each second would delay it.
	outageRetry = 5 * time.Second
	// defaultRateRetry is for a limit that does not say when there is room again.
	defaultRateRetry = time.Second
)

// Text is a sentence for a person, in both languages of the API. Zh may be empty; then
// English is shown to everybody.
type Text struct{ En, Zh string }

// in gives the text in a language; where there is no Chinese, English.
func (t Text) in(l language) string {
	if l == chinese && t.Zh != "" {
		return t.Zh
	}
	return t.En
}

// kind is a row of the table of problems.
type kind struct {
	// code is the key of the row. What a code was released with, its status above all,
	// never changes.
	code   Code
	status int
	// title is in English for everybody and the same in every case (RFC 9457, 3.1.3): it
	// names the type of problem.
	title string
	// retry is what Retry-After says; zero means that the same request fails
	// again, and retryable is false.
	retry  time.Duration
	detail Text // shown when the error itself has nothing more exact to say
	todo   Text // what to do about it, on the page of the problem
}

// slug is the last part of the problem's type: /problems/stock-insufficient.
func (k kind) slug() string { return strings.ToLower(strings.ReplaceAll(string(k.code), "_", "-")) }

// kinds is the table code → status, title, retry, texts. Its order is that of the
// statuses. kindOf panics for a code without a row; a test walks the table.
var kinds = []kind{
	{CodeMalformed, http.StatusBadRequest, "Malformed request", 0,
		Text{"The request cannot be read.", "请求无法解析。"},
		Text{"Correct the request. errors names each place.", "请更正请求;errors 列出了每一处问题。"}},
	{CodeKeyRequired, http.StatusBadRequest, "Idempotency key required", 0,
		Text{"The header Idempotency-Key is missing, or is not 1 to 64 of 0-9 A-Z a-z _ -.",
			"缺少 Idempotency-Key 请求头,或其不是 1 至 64 位的 0-9 A-Z a-z _ -。"},
		Text{"Send a new key per order and the same key when you repeat the request.", "每个新订单使用新的键;重试同一请求时使用相同的键。"}},
	{CodeUnauthenticated, http.StatusUnauthorized, "Unauthenticated", 0,
		Text{"A valid customer token is needed.", "需要有效的用户令牌。"},
		Text{"Sign in again and send Authorization: Bearer with the new token.", "请重新登录,并使用新令牌。"}},
	{CodeForbidden, http.StatusForbidden, "Forbidden", 0,
		Text{"Your role does not allow this.", "您的角色无此权限。"},
		Text{"Ask somebody whose role allows it.", "请联系有权限的人员。"}},
	{CodeNotFound, http.StatusNotFound, "Not found", 0,
		Text{"There is nothing at this address.", "该地址不存在。"},
		Text{"Check the address against /openapi.yaml.", "请对照 /openapi.yaml 检查地址。"}},
	{CodeOrderNotFound, http.StatusNotFound, "Order not found", 0,
		Text{"You have no such order.", "订单不存在。"},
		Text{"Check the order number.", "请检查订单号。"}},
	{CodeSKUNotFound, http.StatusNotFound, "SKU not found", 0,
		Text{"There is no such SKU.", "商品不存在。"},
		Text{"Load the page of the goods again.", "请刷新商品页面。"}},
	{CodeRefundNotFound, http.StatusNotFound, "Refund not found", 0,
		Text{"You have no such refund.", "退款单不存在。"},
		Text{"Check the refund number.", "请检查退款单号。"}},
	{CodeDifferenceUnknown, http.StatusNotFound, "Difference not found", 0,
		Text{"There is no such reconciliation or difference.", "对账或差异不存在。"},
		Text{"List them: GET /admin/v1/reconciliations.", "请查询 GET /admin/v1/reconciliations。"}},
	{CodeMethodNotAllowed, http.StatusMethodNotAllowed, "Method not allowed", 0,
		Text{"This address does not have this method.", "该地址不支持此方法。"},
		Text{"Check the method against /openapi.yaml.", "请对照 /openapi.yaml 检查方法。"}},
	{CodeStockInsufficient, http.StatusConflict, "Stock insufficient", 0,
		Text{"There is not enough stock. Nothing was taken.", "库存不足,未扣减任何库存。"},
		Text{"Offer the buyer what is left: items says how much.", "请按 items 中的剩余数量提示买家。"}},
	{CodeCustomerLimit, http.StatusConflict, "Limit per customer", 0,
		Text{"One customer's unpaid orders may hold only so much of this.", "单个顾客的待支付订单可占用的数量已达上限。"},
		Text{"Take fewer, or pay or cancel an order that holds some: items says how many are left.",
			"请减少数量,或先支付、取消占用该商品的订单;items 中为剩余可购数量。"}},
	{CodePriceChanged, http.StatusConflict, "Price changed", 0,
		Text{"The price has changed.", "价格已变动。"},
		Text{"Show the buyer the new price and ask again.", "请向买家展示新价格并重新确认。"}},
	{CodeReferenceTaken, http.StatusConflict, "Reference taken", 0,
		Text{"Another order of the shop has this reference. Nothing was placed.", "该店铺的另一订单已使用此 reference，未下单。"},
		Text{"Read that order: detail has its number. Give a new order another reference.",
			"请查询 detail 中的订单;新订单请使用其他 reference。"}},
	{CodeOrderNotPayable, http.StatusConflict, "Order not payable", 0,
		Text{"The order cannot be paid.", "订单不可支付。"},
		Text{"Read the order; place a new one if it is closed.", "请查询订单;如已关闭请重新下单。"}},
	{CodeOrderAlreadyPaid, http.StatusConflict, "Order already paid", 0,
		Text{"The order is paid.", "订单已支付。"},
		Text{"Offer a refund instead.", "如需取消请申请退款。"}},
	{CodeRefundExceeds, http.StatusConflict, "Refund exceeds what was paid", 0,
		Text{"More is asked back than is left of the payment.", "退款金额超过可退金额。"},
		Text{"Ask for what is left: detail says how much.", "请按可退金额重新申请。"}},
	{CodeReturnExceeds, http.StatusConflict, "More goods than the order has", 0,
		Text{"More of a SKU is asked back than the order has.", "退货数量超过可退数量。"},
		Text{"Ask for what is left: items says how many.", "请按 items 中的可退数量重新申请。"}},
	{CodeRefundInProgress, http.StatusConflict, "A refund is in progress", 0,
		Text{"What is left of the payment is taken by refunds that are under way.", "剩余金额已在退款处理中。"},
		Text{"Wait for their end; ask again if they fail.", "请等待处理中的退款完成。"}},
	{CodeRefundNotPossible, http.StatusConflict, "Refund not possible", 0,
		Text{"This cannot be refunded, or not so.", "无法退款。"},
		Text{"detail says why.", "原因见 detail。"}},
	{CodeShipmentNotPossible, http.StatusConflict, "Shipment not possible", 0,
		Text{"There is no shipment to report for this order, or not this one.", "无法为该订单录入发货信息。"},
		Text{"detail says why.", "原因见 detail。"}},
	{CodeRunInProgress, http.StatusConflict, "A reconciliation is running", 0,
		Text{"This bill is being reconciled now.", "该账单正在对账。"},
		Text{"Wait for its end and read its result.", "请等待其完成后查看结果。"}},
	{CodeStockChanged, http.StatusConflict, "Stock changed", 0,
		Text{"The stock was changed by somebody else meanwhile.", "库存已被他人修改。"},
		Text{"Read the SKU again and repeat with its present number.", "请重新读取库存后再试。"}},
	{CodeWebhookChanged, http.StatusConflict, "Webhook changed", 0,
		Text{"The webhook was changed by somebody else meanwhile, or is there already.", "webhook 已被他人修改，或已存在。"},
		Text{"Read the webhooks again: detail says which one and what to do.", "请重新查看 webhook，具体见 detail。"}},
	{CodeVersionMismatch, http.StatusPreconditionFailed, "Version mismatch", 0,
		Text{"The order has changed since it was read.", "订单已发生变化。"},
		Text{"Read it again and repeat with its present ETag.", "请重新读取订单并使用新的 ETag。"}},
	{CodeBodyTooLarge, http.StatusRequestEntityTooLarge, "Body too large", 0,
		Text{"The body of a request has at most 64 KiB.", "请求体不得超过 64 KiB。"},
		Text{"Send less.", "请减小请求体。"}},
	{CodeUnsupportedMedia, http.StatusUnsupportedMediaType, "Unsupported media type", 0,
		Text{"The body must be JSON, not compressed.", "请求体必须是未压缩的 JSON。"},
		Text{"Send Content-Type: application/json.", "请使用 Content-Type: application/json。"}},
	{CodeValidation, http.StatusUnprocessableEntity, "Validation failed", 0,
		Text{"The request has values that are not allowed.", "请求中有不合法的值。"},
		Text{"Correct every place that errors names.", "请更正 errors 列出的每一处。"}},
	{CodeKeyReused, http.StatusUnprocessableEntity, "Idempotency key reused", 0,
		Text{"This idempotency key was used for another request.", "该幂等键已用于另一个请求。"},
		Text{"Use a new key for a new request.", "新请求请使用新的键。"}},
	{CodeIfMatchRequired, http.StatusPreconditionRequired, "If-Match required", 0,
		Text{"The header If-Match is missing.", "缺少 If-Match 请求头。"},
		Text{"Send the ETag of what you read.", "请携带读取时的 ETag。"}},
	{CodeRateLimited, http.StatusTooManyRequests, "Rate limited", defaultRateRetry,
		Text{"Too many requests.", "请求过于频繁。"},
		Text{"Wait as long as Retry-After says.", "请按 Retry-After 等待后重试。"}},
	{CodeInternal, http.StatusInternalServerError, "Internal error", 0,
		Text{"Something went wrong on our side.", "服务内部错误。"},
		Text{"Tell support the request id.", "请将 request_id 告知客服。"}},
	{CodeWeChatRejected, http.StatusBadGateway, "WeChat Pay rejected the request", 0,
		Text{"WeChat Pay does not accept this payment.", "微信支付拒绝了该请求。"},
		Text{"Tell support the request id.", "请将 request_id 告知客服。"}},
	{CodeWeChatUnavailable, http.StatusServiceUnavailable, "WeChat Pay unavailable", outageRetry,
		Text{"WeChat Pay gives no usable answer at the moment.", "微信支付暂时不可用。"},
		Text{"Repeat the same request later.", "请稍后重试相同的请求。"}},
	{CodeSaleNotStarted, http.StatusServiceUnavailable, "Sale not started", shortRetry,
		Text{"The sale has not begun.", "活动尚未开始。"},
		Text{"Repeat the same request, with the same key, at opens_at.", "请在 opens_at 所示时间使用相同的键重试。"}},
	{CodeStockNotReady, http.StatusServiceUnavailable, "Stock not ready", shortRetry,
		Text{"The queue of the sale is full, or its stock cannot be asked now. Nothing was taken.",
			"排队人数已满,或库存暂时无法查询,未扣减任何库存。"},
		Text{"Repeat the same request, with the same key, when Retry-After says.",
			"请按 Retry-After 使用相同的键重试。"}},
	{CodeOverloaded, http.StatusServiceUnavailable, "Overloaded", shortRetry,
		Text{"Too many requests are waiting.", "系统繁忙。"},
		Text{"Repeat the same request, with the same key, later.", "请稍后使用相同的键重试。"}},
	{CodeMaintenance, http.StatusServiceUnavailable, "Temporarily unavailable", outageRetry,
		Text{"The service cannot work at the moment.", "服务暂时不可用。"},
		Text{"Repeat the same request, with the same key, later.", "请稍后使用相同的键重试。"}},
}

// kindOf gives the row of a code. A code without a row is a programmer's mistake.
func kindOf(c Code) kind {
	for _, k := range kinds {
		if k.code == c {
			return k
		}
	}
	panic("orderhttp: no row for the code " + string(c))
}

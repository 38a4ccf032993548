package shipping

import (
	"maps"
	"slices"
)

// Verdict is what an answer of WeChat to a report means.
type Verdict struct {
	Code    int64 // errcode, 0 for ok
	Message string
	Means   Meaning
}

// Meaning is what is done about an answer.
type Meaning int

// The meanings.
const (
	// Refused: as it is WeChat never takes it; a person mends it.
	Refused Meaning = iota
	// Taken: WeChat has this content.
	Taken
	// Look: WeChat has something already, or nothing may be sent any more; its Status says.
	Look
	// Later: nothing is wrong with it.
	Later
	// Setting: the account, the secret or a right of it is wrong; no report will be taken
	// until a person mends it.
	Setting
	// Stale: the access token has ended, or another one has replaced it.
	Stale
)

// answers says what the codes of upload_shipping_info mean. Codes and texts are of the
// document "小程序发货信息管理服务", section 发货信息录入接口; those below 60000 of the
// document of global error codes. A code that is not here is Refused.
var answers = map[int64]Meaning{
	0:        Taken,
	10060023: Taken, // 发货信息未更新: it has just this
	10060002: Look,  // 支付单已完成发货，无法继续发货
	10060003: Look,  // 支付单已使用重新发货机会
	10060004: Look,  // 支付单处于不可发货的状态: refunded, or received (staff, 2025-07-03)
	10060001: Later, // 支付单不存在: known only a minute after the payment (staff, 2024-05-09)
	-1:       Later, // 系统繁忙
	10060012: Later, // 系统错误
	10060019: Later, // 系统错误
	45009:    Later, // the day's quota of calls
	45011:    Later, // too often
	40001:    Stale, // access_token 无效
	40014:    Stale,
	42001:    Stale, // access_token 超时
	40013:    Setting,
	40125:    Setting, // wrong AppSecret
	40164:    Setting, // our address is not on the account's list
	41001:    Setting,
	48001:    Setting, // the account has no right to call this
	50002:    Setting, // the account is limited
	89503:    Setting, // an administrator has to allow this call
	89506:    Setting,
	89507:    Setting,
}

// outcomes are the words by which calls are counted.
var outcomes = map[Meaning]string{
	Taken: "taken", Look: "look", Later: "later", Setting: "setting", Stale: "stale", Refused: "refused",
}

// outcomeUnknown counts a call without an answer.
const outcomeUnknown = "unknown"

// Outcomes are all words that Observer.Shipping is given.
func Outcomes() []string {
	return append(slices.Sorted(maps.Values(outcomes)), outcomeUnknown)
}

// Status is what WeChat has of a payment (order_state of get_order).
type Status int

// The states of WeChat's document, section 查询订单发货状态.
const (
	StatusUnknown  Status = 0
	StatusWaiting  Status = 1 // 待发货
	StatusSent     Status = 2 // 已发货
	StatusReceived Status = 3 // 确认收货
	StatusDone     Status = 4 // 交易完成
	StatusRefunded Status = 5 // 已退款
	StatusSettling Status = 6 // 资金待结算
)

// sent reports that WeChat has a shipment of it.
func (s Status) sent() bool {
	return s == StatusSent || s == StatusReceived || s == StatusDone || s == StatusSettling
}

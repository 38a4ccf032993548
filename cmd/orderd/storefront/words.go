package storefront

import (
	"fmt"
	"net/http"
	"strings"
)

// lang is a language of the pages.
type lang int

const (
	zh lang = iota // whoever says nothing reads it
	en
)

// String is the language as its cookie has it.
func (l lang) String() string { return [...]string{"zh", "en"}[l] }

// Tag is the language as HTML has it (BCP 47).
func (l lang) Tag() string { return [...]string{"zh-CN", "en"}[l] }

// languageOf is what the visitor chose, else English where the browser names it before Chinese.
func languageOf(r *http.Request) lang {
	if c, err := r.Cookie(cookieLanguage); err == nil {
		if c.Value == en.String() {
			return en
		}
		return zh
	}
	for tag := range strings.SplitSeq(strings.ToLower(r.Header.Get("Accept-Language")), ",") {
		switch tag = strings.TrimSpace(tag); {
		case strings.HasPrefix(tag, "zh"):
			return zh
		case strings.HasPrefix(tag, "en"):
			return en
		}
	}
	return zh
}

// word is a text of the pages with its values. Values that a text does not show are left out.
func (l lang) word(key string, values ...any) string {
	w, known := words[key]
	if !known {
		return key // a state that has come since
	}
	text := w[l]
	if n := strings.Count(text, "%"); n < len(values) {
		values = values[:n]
	}
	if len(values) == 0 {
		return text
	}
	return fmt.Sprintf(text, values...)
}

// words are all texts of the pages: Chinese, English.
var words = map[string][2]string{
	"title":      {"orderd 示例小店", "orderd demo shop"},
	"brand":      {"示例小店", "demo shop"},
	"sim":        {"模拟，没有真钱", "no real money"},
	"console":    {"运营后台", "Console"},
	"lang.other": {"English", "中文"},
	"skip":       {"跳到内容", "Skip to content"},
	"home":       {"回到小店", "Back to the shop"},
	"again":      {"再买一件", "Buy another"},
	"footer": {"这家小店和您自己的商城一样，只调用 orderd 的公开接口；微信支付是本机的模拟器。",
		"This shop calls orderd's public API, as your own shop would; WeChat Pay is a simulator on this machine."},
	"away": {"连不上小店服务，正在重试。订单在数据库里，不会丢。",
		"The shop does not answer; trying again. Orders are in the database and are not lost."},

	"hero": {"最难的一瞬间：买家正在付款，系统正在关单。", "The hardest instant: the buyer pays while the shop closes the order."},
	"hero.2": {"很多商城这时会把已付款的库存又卖给别人。orderd 不会，用一分钟自己看看：",
		"Many shops then sell the paid unit once more. orderd does not. See for yourself, in a minute:"},
	"hero.3":  {"点“购买”，库存立刻少一件。", "Press “Buy”: the stock goes down by one at once."},
	"hero.4":  {"在旁边的手机上点“★ 在关单的瞬间付款”。", "On the phone beside it press “★ Pay in the instant of the close”."},
	"hero.5":  {"看下面三方说了什么，库存怎么动。", "See below who said what, and what became of the stock."},
	"shelf":   {"库存", "in stock"},
	"buy":     {"购买", "Buy"},
	"out":     {"已售罄", "Sold out"},
	"nothing": {"还没有商品。", "There is nothing for sale yet."},
	"mine":    {"我的订单", "My orders"},

	"goods.Blue mug":                {"蓝色马克杯", "Blue mug"},
	"goods.Concert ticket":          {"演唱会门票（限量）", "Concert ticket (limited)"},
	"goods.Concert ticket (scarce)": {"演唱会门票（限量）", "Concert ticket (scarce)"},
	"goods.White tee":               {"白色 T 恤", "White tee"},

	"order.no": {"订单号", "Order"},
	"qr.alt":   {"微信支付二维码", "WeChat Pay QR code"},
	"qr": {"这是模拟的码，真手机扫不了：请用“买家的手机”上的按钮。",
		"A simulated code that no real phone can pay: use the buttons of the buyer's phone."},
	"phone": {"买家的手机", "The buyer's phone"},

	"phone.app":       {"微信支付（模拟）", "WeChat Pay (simulated)"},
	"phone.pending":   {"待付款", "To be paid"},
	"phone.left":      {"手机放在一边，没有付款", "Put away, not paid"},
	"phone.sent":      {"✓ 支付成功，等商家确认", "✓ Paid, waiting for the shop"},
	"phone.over":      {"付款时间已过", "The time to pay is over"},
	"phone.closing":   {"正在关单…", "Being closed…"},
	"phone.closed":    {"订单已关闭，没有扣款", "Closed, nothing was charged"},
	"phone.paid":      {"✓ 支付成功", "✓ Paid"},
	"phone.late":      {"已付款，商家会退回", "Paid, the shop sends it back"},
	"phone.refunding": {"✓ 支付成功，退款中", "✓ Paid, being refunded"},
	"phone.refunded":  {"钱已原路退回", "The money is back"},
	"until":           {"剩余付款时间", "Time left to pay"},

	"do.code":    {"获取付款码", "Get the code"},
	"do.pay":     {"付款", "Pay"},
	"do.instant": {"★ 在关单的瞬间付款", "★ Pay in the instant of the close"},
	"do.lose":    {"付款，但通知丢失", "Pay, and lose the callback"},
	"do.twice":   {"付两次款", "Pay twice"},
	"do.cancel":  {"取消订单", "Cancel"},
	"do.leave":   {"不付款，等超时", "Let it time out"},
	"do.ask":     {"我付过了，查一下", "I have paid: look again"},
	"do.refund":  {"申请退款", "Ask for a refund"},
	"do.late":    {"★ 关单后硬要付款", "★ Pay after the close"},
	"approve":    {"退款要由运营人员批准，买家自己不能批。退款单号", "A person of the shop has to approve a refund; the buyer cannot. Refund"},
	"approve.go": {"去运营后台批准", "Approve it in the console"},

	"state.pending":   {"待支付", "to be paid"},
	"state.closing":   {"关单中", "closing"},
	"state.closed":    {"已关闭", "closed"},
	"state.paid":      {"已支付", "paid"},
	"state.late":      {"迟到付款", "paid late"},
	"state.refunding": {"退款中", "refunding"},
	"state.refunded":  {"已退款", "refunded"},

	"lane.wechat": {"微信", "WeChat"},

	"who.you":    {"手机", "phone"},
	"who.orderd": {"orderd", "orderd"},
	"who.wechat": {"微信支付", "WeChat Pay"},
	"story":      {"三方说了什么", "Who said what"},
	"story.part": {"这里只有本次启动之后的部分，完整的时间线在运营后台。",
		"Only what happened since this start is here; the whole timeline is in the console."},

	// The one sentence. %s is the stock now.
	"verdict.nocode": {"已占住一件，付款码还没拿到：微信支付没有回音。库存 %s，别人买不到这一件。",
		"One unit is yours for now, but WeChat Pay has not given a code yet. %s in stock; nobody else can " +
			"buy this one."},
	"verdict.pending": {"这一件已为您占住，库存 %s。请在手机上选一种付法。",
		"One unit is held for you, %s in stock. Choose on the phone what happens now."},
	"verdict.left": {"到时间后，orderd 先请微信支付关单，证实再也付不了，才把这一件放回库存。",
		"When time is up, orderd first has WeChat Pay close it, and gives the unit back only when that is proven."},
	"verdict.paying": {"微信支付已收款，签名通知正在路上。这一件仍为您占着。",
		"WeChat Pay has the money, its signed callback is on the way. The unit is still held for you."},
	"verdict.lost": {"微信支付已收款，通知却丢了。这一件仍占着：orderd 会自己去问，关单前也一定先问，所以不会卖给别人。",
		"WeChat Pay has the money, and its callback is lost. The unit stays held: orderd asks by itself, and always " +
			"before it closes, so it is sold to nobody else."},
	"verdict.forgotten": {"模拟的微信支付重启过，忘了这笔交易（真的不会）。请再买一件。",
		"The simulated WeChat Pay was restarted and has forgotten this trade (the real one does not). Buy another."},
	"verdict.closing": {"正请微信支付关单。没有得到证实之前，库存一件也不动。",
		"WeChat Pay is being asked to close it. Until that is proven, no stock moves."},
	"verdict.cancelled": {"微信支付先关了单，证实再也付不了，这一件才回到库存（现有 %s）：不会有人为它再付钱。",
		"WeChat Pay closed it first; only when nothing could be paid any more the unit went back (%s in stock)."},
	"verdict.timeout": {"没人付款。先由微信支付关单、证实付不了，这一件才回到库存（现有 %s）。",
		"Nobody paid. WeChat Pay closed it first; only then the unit went back on the shelf (%s in stock)."},
	"verdict.paid": {"已支付：凭微信支付的签名通知，这一件卖给了您，只卖了一次。库存 %s。",
		"Paid: by WeChat Pay's signed word this unit is yours, sold once. %s in stock."},
	"verdict.found": {"通知丢了，订单照样已支付：orderd 主动向微信支付查到了这笔款。库存没有退回，仍是 %s。",
		"The callback was lost, and the order is paid all the same: orderd asked WeChat Pay. No stock went back: %s."},
	"verdict.instant": {"先去微信支付关单，而钱正好在那一瞬间付了：以付款为准。库存没有退回（仍是 %s），所以没有卖给第二个人。",
		"Closed at WeChat Pay first, paid in that instant: the payment won. No stock went back (still %s), so " +
			"nobody else was sold this unit."},
	"verdict.twice": {"付了两次：一笔归这个订单，多出的一笔已自动安排退回，只退一次。库存只少一件（%s）。",
		"Paid twice: one payment is the order's, the other is going back by itself, once. One unit is sold " +
			"(%s in stock)."},
	"verdict.twice.back": {"付了两次：一笔归这个订单，多付的那笔已原路退回，只退了一次。库存只少一件（%s）。",
		"Paid twice: one payment is the order's, the other has gone back by itself, once. One unit is sold " +
			"(%s in stock)."},
	"verdict.late": {"单已关，钱却来了：orderd 记下这笔钱，自动原路退回。库存不动（%s），已经放回去的那件仍可卖给别人。",
		"It was closed, and money came all the same: recorded, and sent back by itself. Stock does not move (%s)."},
	"verdict.late.back": {"关单后才到的钱已原路退回，只退了一次。库存没有动过（%s）。",
		"The money that came after the close has gone back, once. No stock was touched (%s)."},
	"verdict.asked": {"退款已申请，等人批准：钱和库存现在都不动。", "The refund waits for a person: neither money nor stock moves yet."},
	"verdict.refunding": {"已批准，正在退款。钱确实退回之后，这一件才回到库存。",
		"Approved, and on its way. The unit goes back on the shelf when the money is back, not before."},
	"verdict.refunded": {"钱已退回，这一件也回到了库存（现有 %s）。",
		"The money is back, and the unit is on the shelf again (%s in stock)."},

	// What would have happened elsewhere, beneath the sentence.
	"else.instant": {"如果先退库存、再去关单，这一件现在已经卖给了别人：一件货，两个主人。",
		"A shop that gives stock back before it asks has sold this unit again by now: one unit, two owners."},
	"else.lost": {"只等通知的商城，超时后会把这件已付款的货卖给别人。",
		"A shop that waits for the callback alone runs out of time here, and sells a paid unit again."},
	"else.found": {"只等通知的商城，超时后会把这件已付款的货卖给别人。",
		"A shop that waits for the callback alone runs out of time here, and sells a paid unit again."},
	"else.twice": {"只看订单状态的商城，不会发现多收了一笔钱。",
		"A shop that looks at the order alone never notices the second payment."},
	"else.cancelled": {"如果不先关单，这张付款码过后还能付钱。", "Without the close first, the code could still be paid afterwards."},
	"else.timeout":   {"如果不先关单，这张付款码过后还能付钱。", "Without the close first, the code could still be paid afterwards."},

	"step.place":        {"下单一件", "buys one"},
	"step.cancel":       {"取消订单", "cancels"},
	"step.cancel.waits": {"%d：微信支付没有回音，先不退库存", "%d: WeChat Pay has not answered, no stock moves"},
	"step.ask":          {"“我付过了，查一下”", "“I have paid: look again”"},
	"step.askrefund":    {"申请退款", "asks for a refund"},
	"step.leave":        {"放下手机，不付款", "puts the phone away"},
	"step.pays":         {"付款 %s，钱已到微信支付", "pays %s: the money is at WeChat Pay"},
	"step.pays.late":    {"关单之后又付了 %s（真的微信支付不允许）", "pays %s after the close (the real one does not allow it)"},
	"step.paying":       {"正在输入密码", "is entering the password"},
	"step.back":         {"%s 已退到买家账户", "%s is back in the buyer's account"},
	"step.told.pay":     {"签名通知：已付款（应答 %d）", "signed callback: paid (answered %d)"},
	"step.told.refund":  {"签名通知：退款（应答 %d）", "signed callback: refund (answered %d)"},
	"step.lost":         {"通知丢失，没有送到", "the callback is lost on its way"},

	"step.refused.refused":    {"通知被拒（%d），稍后重发", "callback refused (%d), it comes again"},
	"step.refused.unanswered": {"通知没有应答，稍后重发", "callback without an answer, it comes again"},

	"step.prepay":          {"申请付款码", "asks for a code to pay"},
	"step.noanswer.prepay": {"申请付款码，没有回音", "asks for a code, no answer"},
	"step.error.prepay":    {"申请付款码，被拒（%d）", "asks for a code, refused (%d)"},
	"step.close":           {"“请关单”→ 已受理（%d），再查一次才算数", "“close it” → accepted (%d), believed only after a query"},
	"step.close.paid":      {"“请关单”→ 该订单已支付（%d）", "“close it” → it is paid already (%d)"},
	"step.noanswer.close":  {"“请关单”→ 没有回音，什么都不动", "“close it” → no answer, nothing moves"},
	"step.error.close":     {"“请关单”→ 现在不行（%d），稍后再问", "“close it” → not now (%d), it is asked again"},
	"step.query.NOTPAY":    {"查询 → 未支付", "query → not paid"},
	"step.query.SUCCESS":   {"查询 → 已支付", "query → paid"},
	"step.query.CLOSED":    {"查询 → 已关闭，再也付不了", "query → closed, it can never be paid"},
	"step.query.REFUND":    {"查询 → 有退款", "query → refunded"},
	"step.noanswer.query":  {"查询，没有回音", "query, no answer"},
	"step.error.query":     {"查询，被拒（%d）", "query, refused (%d)"},
	"step.owed":            {"退款 %s：%s", "refund of %s: %s"},
	"step.refund":          {"申请退款，用一个固定单号", "asks for the refund, under one number for ever"},
	"step.error.refund":    {"退款，暂时不行（%d）", "refund, not now (%d)"},
	"step.noanswer.refund": {"退款，没有回音，用同一单号再发", "refund, no answer: sent again under the same number"},
	"step.state.pending":   {"占住一件，库存剩 %s", "holds one unit, %s in stock"},
	"step.state.closing":   {"关单中：库存先不动，仍是 %s", "closing: stock does not move, %s"},
	"step.state.closed":    {"已关闭：一件回到库存，现有 %s", "closed: the unit is back, %s in stock"},
	"step.state.paid":      {"已支付：库存不退，仍是 %s", "paid: no stock goes back, %s"},
	"step.state.late":      {"关单后到款：库存不动，仍是 %s", "money after the close: no stock moves, %s"},
	"step.state.refunding": {"退款中：库存先不动，仍是 %s", "refunding: stock does not move yet, %s"},
	"step.state.refunded":  {"已退款，库存 %s", "refunded, %s in stock"},
	"step.owed.OWED":       {"该退 %s，自动安排", "%s is owed back, by itself"},
	"step.owed.SUCCESS":    {"退款 %s 完成", "refund of %s is done"},
	"step.owed.REJECTED":   {"退款 %s 被驳回", "refund of %s was rejected"},
	"step.owed.CANCELLED":  {"退款 %s 已撤回", "refund of %s was withdrawn"},

	"step.owed.PENDING_APPROVAL": {"退款 %s：等人批准", "refund of %s: waits for a person"},
	"step.owed.PROCESSING":       {"退款 %s：微信支付处理中", "refund of %s: under way at WeChat Pay"},

	"no.code":                {"付款码暂时拿不到（%d %s）", "no code just now (%d %s)"},
	"no.other":               {"不行（%d %s）", "refused (%d %s)"},
	"no.ORDER_ALREADY_PAID":  {"%d：不能取消，订单已支付", "%d: it cannot be cancelled, it is paid"},
	"no.ORDER_NOT_PAYABLE":   {"%d：这个订单已不能付款", "%d: this order cannot be paid any more"},
	"no.RATE_LIMITED":        {"%d：问得太勤，三秒后再查", "%d: asked too often, try again in three seconds"},
	"no.REFUND_IN_PROGRESS":  {"%d：已有一笔退款在进行", "%d: a refund is under way already"},
	"no.pay":                 {"现在不能付款", "this cannot be paid now"},
	"no.pay.unknown":         {"没有这笔交易：模拟器重启过", "no such trade: the simulator was restarted"},
	"no.pay.paid":            {"这笔交易已经付过了", "this trade is paid already"},
	"no.pay.closed":          {"交易已关闭，付不了", "the trade is closed and cannot be paid"},
	"no.pay.over":            {"付款时间已过", "the time to pay is over"},
	"no.WECHAT_PAY_REJECTED": {"微信支付拒绝（%d）", "WeChat Pay refuses (%d)"},
	"no.REFUND_NOT_POSSIBLE": {"%d：这个订单现在不能退款", "%d: this order cannot be refunded now"},
	"no.REFUND_EXCEEDS_PAID": {"%d：已没有可退的钱", "%d: there is nothing left to send back"},
	"no.buy":                 {"现在买不了，什么也没有扣。", "It cannot be bought just now. Nothing was taken."},
	"no.buy.CUSTOMER_LIMIT":  {"您有太多没付款的订单：先付或取消一个。", "You have too many unpaid orders: pay or cancel one first."},
	"no.buy.RATE_LIMITED": {"没付款的订单太多，或者点得太快：先付一个、取消一个，或稍等。",
		"Too many unpaid orders, or too fast: pay or cancel one, or wait a moment."},
	"no.buy.SKU_NOT_FOUND":    {"没有这件商品。", "There are no such goods."},
	"no.buy.OVERLOADED":       {"现在太忙，稍等再试。", "Too busy just now: try again in a moment."},
	"no.buy.SALE_NOT_STARTED": {"还没有开售。", "The sale has not begun."},

	"no.buy.STOCK_INSUFFICIENT": {"最后一件刚被别人占住，什么也没有扣。对方若不付款，关单后会回到库存。",
		"Somebody else has the last unit. Nothing was taken. It comes back if they do not pay."},
	"no.buy.IDEMPOTENCY_KEY_REUSED": {"这一页已经买过别的商品，请刷新后再试。", "This page has bought something else: load it again."},

	"no.WECHAT_PAY_UNAVAILABLE": {"微信支付没有回音（%d），稍后再试", "WeChat Pay does not answer (%d), try again"},

	"error.none":  {"没有这个页面。", "There is no such page."},
	"error.order": {"没有这个订单，或者它不是您的。", "There is no such order, or it is not yours."},
	"error.away":  {"orderd 暂时没有应答，请稍后再试。", "orderd does not answer just now. Try again in a moment."},
	"error.form":  {"表单不完整，请回到小店再试。", "The form is not complete. Go back and try again."},
}

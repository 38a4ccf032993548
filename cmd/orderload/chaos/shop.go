package chaos

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/order/ordertest/canary"
	"orderd/order/ordertest/model"
	"orderd/payment/wechatsim"
)

// shop is everybody who buys, in a closed loop: so many at once, each does one
// thing after another.
type shop struct {
	stage   *stage
	o       Options
	history *history
	http    *http.Client
	started atomic.Int64 // visits
	wg      sync.WaitGroup

	// Every visit of the run, for the judge; what the report counts; promises that were
	// seen to be broken.
	mu         sync.Mutex
	visits     []*visit
	counts     map[string]int
	violations []string
}

// visit is one order, or the attempt at one, as its buyer saw it. It is kept for the
// judge after the buyer has gone.
type visit struct {
	customer, key string
	orderNo       string // of the first answer
	// refused is the code of a refusal that was final, "" without: there must never be an
	// order then (V2). unanswered is when the last try was sent that had no answer.
	refused    orderhttp.Code
	unanswered time.Time
	// trade is the out_trade_no of the prepay, "" without.
	trade string
	// doing is the name of the card that was dealt.
	doing string

	mu sync.Mutex
	// line is what it was told of its place in the queue of a sale.
	line inLine
	// model is what the order may be, given what was asked and answered; expireAt is from
	// the placement's answer: before it no timeout may have come.
	model    *model.Order
	expireAt time.Time
}

// began tells the model that a request is under way; ended must follow.
func (v *visit) began(e order.Event) model.Op {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.model.Began(e)
}

// ended tells the model of the answer to op; shown is the state in it. No answer and a
// 5xx may have happened or not, and may still happen; a refusal did not. What the model
// does not allow is V4.
func (b *buyer) ended(op model.Op, a answer, shown order.State) {
	b.visit.mu.Lock()
	defer b.visit.mu.Unlock()
	var err error
	switch {
	case a.status == 0 || a.status >= 500 || a.waits():
		b.model.Unknown(op)
	case a.refused:
		err = b.model.Failed(op)
	default:
		if !b.expireAt.IsZero() && !time.Now().Before(b.expireAt.Add(grace)) {
			b.model.May(order.EventExpire) // not before: nobody's time may be up early
		}
		err = b.model.Answered(op, shown)
	}
	if err != nil {
		b.violated("V4: order %s (%s): %v", b.orderNo, b.doing, err)
	}
}

// may tells the model that an event can happen from now on, or can not: a payment, of
// which orderd learns by itself.
func (v *visit) may(e order.Event, can bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if can {
		v.model.May(e)
	} else {
		v.model.Cannot(e)
	}
}

// buyerTimeout is how long a buyer waits for an answer, less than the API's longest:
// buyers give up before a cancel of 15 seconds does.
const buyerTimeout = 8 * time.Second

// newShop has no buyers yet: open lets them in.
func newShop(s *stage, o Options, h *history) *shop {
	return &shop{stage: s, o: o, history: h, counts: map[string]int{}, http: &http.Client{Timeout: buyerTimeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}}}
}

// count counts something that the report shows.
func (s *shop) count(what string) {
	s.mu.Lock()
	s.counts[what]++
	s.mu.Unlock()
}

// counted is how often it was counted so far.
func (s *shop) counted(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[what]
}

// violated notes a broken promise; the judge puts it into the report.
func (s *shop) violated(format string, args ...any) {
	s.mu.Lock()
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
	s.mu.Unlock()
}

// tooMuch is how many violations of buyers end a run: more only says the same again.
const tooMuch = 20

// broken says that so much is broken that the run may end.
func (s *shop) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.violations) >= tooMuch
}

// visitsEach is how many orders a customer places, one after the other: fewer than
// maxOpen, so that no limit is met, however many of them stay open.
const visitsEach = 3

// open lets the buyers in; they come until enough reports true. Each has a stream of
// random numbers of its own, so that what one does follows from the seed whatever the
// others do.
func (s *shop) open(ctx context.Context, enough func() bool) {
	for b := range s.o.Buyers {
		s.wg.Go(func() {
			rnd := rand.New(rand.NewPCG(s.o.Seed, b))
			for n := 0; ctx.Err() == nil && !enough(); n++ {
				if s.o.gated() && rnd.IntN(rivalsOf) == 0 {
					s.rivals(ctx, rnd, fmt.Sprintf("r%d-%d", b, n))
				}
				v := s.newVisit(fmt.Sprintf("c%d-%d", b, n/visitsEach))
				s.buy(ctx, &buyer{shop: s, ctx: ctx, rnd: rnd, visit: v})
			}
		})
	}
}

// newVisit is a visit of a customer, with a key that no other has.
func (s *shop) newVisit(customer string) *visit {
	return &visit{model: model.New(), key: fmt.Sprintf("v%d", s.started.Add(1)), customer: customer}
}

// buyer is one visit while it lasts.
type buyer struct {
	*shop
	*visit
	ctx   context.Context
	rnd   *rand.Rand
	token string
	via   *process // which api process is asked; nil for any
	// wanted is the cart, nil before it is drawn.
	wanted map[string]any
}

// card is something that buyers do, and how many of a hundred do it.
type card struct {
	share int
	name  string
	do    func(*buyer)
}

var deck = []card{
	// The shares add up to a hundred.
	{34, "pays", (*buyer).pays},
	// WeChat Pay repeats a callback whose acknowledgement it did not get.
	{4, "pays, told ten times", func(b *buyer) {
		b.pay(wechatsim.PayOptions{Notify: true, NotifyCount: 10})
		b.await(order.StatePaid)
	}},
	{5, "pays, the callback is lost", func(b *buyer) {
		b.pay(wechatsim.PayOptions{Notify: true, DropNotify: true})
	}},
	// The timeout has to find these by itself.
	{14, "walks away", (*buyer).walksAway},
	{3, "pays after the close", (*buyer).paysLate},
	{9, "cancels", func(b *buyer) { b.prepay(); b.cancel() }},
	{4, "changes the way to pay", (*buyer).changesItsMind},
	// Two that want to end one order at the same time.
	{2, "cancels twice at once", (*buyer).cancelsTwice},
	{3, "cancels as the time is up", (*buyer).cancelsAtTheDeadline},
	// Money and the end of the order, in every order of the two.
	{5, "pays in the last instant", (*buyer).paysInTheLastInstant},
	{4, "cancels while paying", (*buyer).cancelsWhilePaying},
	{3, "pays as the close is asked", (*buyer).paysBeforeTheClose},
	{2, "is paying as the close is asked", (*buyer).isPayingAtTheClose},
	// Nothing may move before it is known what WeChat Pay did.
	{3, "the answer to the close is lost", (*buyer).closeUnanswered},
	{5, "pays and sends back", (*buyer).returns},
}

// deal draws what the buyer does.
func (b *buyer) deal() card {
	n := b.rnd.IntN(100)
	for _, c := range deck {
		if n -= c.share; n < 0 {
			return c
		}
	}
	panic("the shares of the deck are less than a hundred")
}

// buy is one visit from beginning to end: place, do what was dealt, and sometimes lie
// about it. It is noted before the placement: a buyer without an answer may have an order
// all the same.
func (s *shop) buy(ctx context.Context, b *buyer) {
	c := b.deal()
	b.doing = c.name
	b.enter()
	if !b.place() {
		return
	}
	s.count("placed")
	c.do(b)
	if s.o.gated() && b.rnd.IntN(4) == 0 {
		// Others have bought meanwhile, and some of it is sold out: the key has its order all the same.
		b.placeAgain(b.wanted)
	}
	if b.trade != "" && b.rnd.IntN(12) == 0 {
		b.lie()
	}
}

// enter gives the buyer a token and notes the visit.
func (b *buyer) enter() {
	var err error
	if b.token, err = orderhttp.MintToken([]byte(canary.JWTSecret), b.customer, time.Now(), time.Hour); err != nil {
		panic(err) // our own secret is long enough
	}
	b.shop.mu.Lock()
	b.visits = append(b.visits, b.visit)
	b.shop.mu.Unlock()
}

// cart is one to three lines, hot SKUs first.
func (b *buyer) cart() map[string]any {
	if b.o.gated() && b.rnd.IntN(100) < saleShare {
		return saleCart(b.rnd)
	}
	lines := map[uint64]int{}
	// Few goods are bought most, as in shops: s 1.3, v 4.
	zipf := rand.NewZipf(b.rnd, 1.3, 4, skus-1)
	for range 1 + b.rnd.IntN(3) {
		lines[zipf.Uint64()] += 1 + b.rnd.IntN(2)
	}
	var items []map[string]any
	for n, q := range lines {
		items = append(items, map[string]any{"sku_id": skuID(n), "quantity": q})
	}
	return map[string]any{"items": items}
}

// placeTries bounds how often a buyer presses the button: with the pauses about ten
// seconds, longer than a server is down.
const placeTries = 60

// finalAfter is when a refusal is final, counted from the last try that had no answer:
// what the API promises, and the longest time for which the nemesis stops a process.
func (s *shop) finalAfter() time.Duration {
	if s.o.gated() {
		return order.FirstTryWithin + holderStopped
	}
	return order.FirstTryWithin + maxPause
}

// place places the order, with the same key until there is an answer. False when there is
// none to go on with. A refusal after a try without an answer is not the last word: as
// the API says, the buyer waits and asks once more.
func (b *buyer) place() bool {
	if b.wanted == nil {
		b.wanted = b.cart()
	}
	cart := b.wanted
	for range placeTries {
		a := b.try(cart)
		switch {
		case a.status == http.StatusCreated:
			if b.rnd.IntN(10) == 0 {
				b.placeAgain(cart)
			}
			return true
		case a.waits():
			switch b.wait() {
			case lineOrder:
				return true
			case lineOver:
				return false
			case lineAgain:
				continue
			}
		case a.status == http.StatusAccepted: // an earlier cancel of it had no answer
			b.withdrawn()
			return false
		case finals[a.code] != "":
			b.count(finals[a.code])
			if a.code == orderhttp.CodeStockInsufficient {
				b.soldOut(a)
			}
			if wait := time.Until(b.unanswered.Add(b.finalAfter())); wait > 0 {
				b.count(finals[a.code] + ", and asked again")
				if !sqldb.Sleep(b.ctx, wait) {
					return false
				}
				continue
			}
			b.visit.refused = a.code
			return false
		case a.status != 0 && a.status < 500 && a.status != http.StatusTooManyRequests:
			b.violated("placing %s/%s answered %d %s", b.customer, b.key, a.status, a.code)
			return false
		}
		if !sqldb.Sleep(b.ctx, time.Duration(50+b.rnd.IntN(200))*time.Millisecond) {
			return false
		}
	}
	b.count("gave up placing")
	return false
}

// try is one attempt at placing; one in twenty hangs up after 50 ms, when its order may
// be placed already.
func (b *buyer) try(cart map[string]any) answer {
	ctx, cancel := b.ctx, context.CancelFunc(func() {})
	if b.rnd.IntN(20) == 0 {
		ctx, cancel = context.WithTimeout(b.ctx, 50*time.Millisecond)
	}
	defer cancel()
	return b.ask(ctx, cart)
}

// ask asks for the order once. Two answers to one key must name one order (K1).
func (b *buyer) ask(ctx context.Context, cart map[string]any) answer {
	began := time.Now()
	op := b.began(model.Place)
	a := b.call(ctx, "place", http.MethodPost, "/v1/orders", b.key, cart)
	a.refused = a.status != http.StatusCreated
	if a.status == 0 || a.status >= 500 {
		b.unanswered = began
	}
	b.ended(op, a, model.Untold)
	if a.waits() {
		b.told(a)
	}
	if a.status == http.StatusCreated {
		if b.line.no != "" {
			b.ordered(a)
		}
		b.expireAt = a.body.TimeExpire
		if b.orderNo != "" && a.body.OrderNo != b.orderNo {
			b.violated("K1: key %s/%s gave order %s and order %s", b.customer, b.key, b.orderNo, a.body.OrderNo)
		}
		b.orderNo = a.body.OrderNo
	}
	return a
}

// placeAgain presses the button eight times more, at once: all must get the first order,
// also when its last unit was the last (K1).
func (b *buyer) placeAgain(cart map[string]any) {
	var wg sync.WaitGroup
	answers := make([]answer, 8)
	for i := range answers {
		wg.Go(func() {
			op := b.began(model.Place)
			answers[i] = b.call(b.ctx, "place", http.MethodPost, "/v1/orders", b.key, cart)
			answers[i].refused = answers[i].status != http.StatusCreated
			b.ended(op, answers[i], model.Untold)
		})
	}
	wg.Wait()
	for _, a := range answers {
		if a.status == http.StatusCreated && a.body.OrderNo != b.orderNo {
			b.violated("K1: key %s/%s gave order %s and order %s", b.customer, b.key, b.orderNo, a.body.OrderNo)
		}
		if a.waits() {
			b.violated("K1: key %s/%s gave order %s, and the repeat waits as %s", b.customer, b.key, b.orderNo,
				a.body.OrderNo)
		}
		if refusal := finals[a.code]; refusal != "" {
			b.violated("K1: key %s/%s gave order %s, and the repeat was told %s", b.customer, b.key, b.orderNo, refusal)
		}
	}
	b.count("placed again")
}

// prepay asks for the QR code until there is an answer.
func (b *buyer) prepay() bool {
	return b.trade != "" || b.prepayAs(map[string]any{"trade_type": "NATIVE"})
}

// prepayAs asks for a way to pay until there is an answer.
func (b *buyer) prepayAs(how map[string]any) bool {
	for range placeTries / 2 {
		a := b.call(b.ctx, "prepay", http.MethodPost, "/v1/orders/"+b.orderNo+"/prepay", "", how)
		switch {
		case a.status == http.StatusOK:
			b.trade = a.body.OutTradeNo
			return true
		case a.status == http.StatusConflict:
			return false // too late
		}
		b.expected(a, "prepay")
		if !sqldb.Sleep(b.ctx, time.Duration(50+b.rnd.IntN(100))*time.Millisecond) {
			return false
		}
	}
	return false
}

// changesItsMind asks for the QR code and then for the mini program's way to pay: the
// first trade is closed, and from then on the second one is what can be paid and what
// has to be closed.
func (b *buyer) changesItsMind() {
	openid := map[string]any{"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}
	if !b.prepay() || !b.prepayAs(map[string]any{"trade_type": "JSAPI", "payer": openid}) {
		return
	}
	b.count("two ways to pay")
	if b.rnd.IntN(3) == 0 {
		if b.payNow(wechatsim.PayOptions{Notify: true}) {
			b.await(order.StatePaid)
		}
		return
	}
	b.cancel()
}

// pay asks for the QR code and pays. False when WeChat Pay did not take the money.
func (b *buyer) pay(o wechatsim.PayOptions) bool {
	if !b.prepay() {
		return false
	}
	return b.payNow(o)
}

// payNow pays the trade that prepay has opened. The model hears of it before the
// simulator: the callback may be quicker than its answer.
func (b *buyer) payNow(o wechatsim.PayOptions) bool {
	start := time.Now()
	b.may(order.EventPay, true)
	err := b.stage.sim.Pay(b.trade, o)
	if err != nil {
		b.may(order.EventPay, false)
	}
	b.history.add(line{At: start, Buyer: b.customer, Op: "pay", Order: b.orderNo, Result: fmt.Sprint(err == nil)})
	if err == nil {
		b.count("paid at WeChat Pay")
	}
	return err == nil
}

// pays is the usual buyer.
func (b *buyer) pays() {
	if !b.prepay() {
		return
	}
	sqldb.Sleep(b.ctx, time.Duration(b.rnd.IntN(800))*time.Millisecond)
	if b.payNow(wechatsim.PayOptions{Notify: true}) {
		b.await(order.StatePaid)
	}
}

// walksAway leaves the order to its timeout, half of the time with an open trade.
func (b *buyer) walksAway() {
	if b.rnd.IntN(2) == 0 {
		b.prepay()
	}
}

// cancel asks for it once, whatever the answer. Only a 429 is sure not to have happened;
// the model is told of every other answer, with the state if it shows one.
func (b *buyer) cancel() {
	op := b.began(order.EventCancel)
	a := b.call(b.ctx, "cancel", http.MethodPost, "/v1/orders/"+b.orderNo+"/cancel", "",
		map[string]any{"reason": "changed my mind"})
	shown := a.body.State
	if shown == "" {
		shown = model.Untold
	}
	a.refused = a.status == http.StatusTooManyRequests
	b.expected(a, "cancel", http.StatusOK, http.StatusAccepted, http.StatusConflict)
	b.ended(op, a, shown)
}

// paysLate pays after WeChat Pay has closed the trade, as money comes now and then: it
// must go back.
func (b *buyer) paysLate() {
	if !b.prepay() {
		return
	}
	b.cancel()
	if b.await(order.StateClosed) == order.StateClosed {
		// The callback of half of them is lost: only the bill shows these payments.
		silent := b.rnd.IntN(2) == 0
		b.payNow(wechatsim.PayOptions{Notify: true, Force: true, DropNotify: silent})
		b.count("paid after the close")
		if !silent {
			b.await(order.StateRefunded)
		}
	}
}

// cancelsTwice cancels at once from two windows: one of them may be refused, the order is
// closed once.
func (b *buyer) cancelsTwice() {
	b.prepay()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(b.cancel)
	}
	wg.Wait()
}

// cancelsAtTheDeadline lets the cancel meet the timeout.
func (b *buyer) cancelsAtTheDeadline() {
	b.prepay()
	o := b.read()
	if o.TimeExpire.IsZero() {
		return
	}
	sqldb.Sleep(b.ctx, time.Until(o.TimeExpire.Add(grace)))
	b.cancel()
	b.count("cancel and timeout at once")
}

// paysInTheLastInstant lets the payment meet the deadline, which is before the close by
// the grace.
func (b *buyer) paysInTheLastInstant() {
	if !b.prepay() {
		return
	}
	o := b.read()
	sqldb.Sleep(b.ctx, time.Until(o.TimeExpire.Add(-50*time.Millisecond)))
	if b.payNow(wechatsim.PayOptions{Notify: true}) {
		b.count("paid in the last instant")
		b.await(order.StatePaid)
	}
}

// cancelsWhilePaying lets the payment meet the cancel: paid, or closed with the money
// back.
func (b *buyer) cancelsWhilePaying() {
	if !b.prepay() {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { b.payNow(wechatsim.PayOptions{Notify: true}) })
	wg.Go(b.cancel)
	wg.Wait()
	b.count("cancelled while paying")
}

// paysBeforeTheClose pays in the instant before WeChat Pay handles our close: the fault
// makes the simulator take the money first, and answer the close that it is paid.
func (b *buyer) paysBeforeTheClose() {
	if !b.prepay() || b.fault("close", wechatsim.FaultPaidFirst) != nil {
		return
	}
	b.may(order.EventPay, true)
	b.cancel()
}

// isPayingAtTheClose gives the password in the instant before WeChat Pay handles our close:
// the close is refused with 429, and the money comes a moment later.
func (b *buyer) isPayingAtTheClose() {
	if !b.prepay() || b.stage.sim.AddFault(wechatsim.Fault{Endpoint: "close", OutTradeNo: b.trade,
		Kind: wechatsim.FaultPaying, DelayMS: 1 + b.rnd.IntN(2_000), Count: 1}) != nil {
		return
	}
	b.may(order.EventPay, true)
	b.cancel()
}

// closeUnanswered loses the answers to the close and to the query after it: the trade is
// closed at WeChat Pay, and nobody here knows.
func (b *buyer) closeUnanswered() {
	if !b.prepay() {
		return
	}
	if b.fault("close", wechatsim.FaultCutAfter) != nil || b.fault("query", wechatsim.FaultCutAfter) != nil {
		return
	}
	b.cancel()
}

// fault arms one fault for the next call about this trade.
func (b *buyer) fault(endpoint, kind string) error {
	return b.stage.sim.AddFault(wechatsim.Fault{Endpoint: endpoint, OutTradeNo: b.trade, Kind: kind, Count: 1})
}

// returns pays and sends back in parts, at the same time and once too often: of n units n
// + 1 are asked back, each with a key of its own.
func (b *buyer) returns() {
	b.pays()
	o := b.read()
	if o.State != order.StatePaid || len(o.Items) == 0 {
		return
	}
	it := o.Items[0]
	var wg sync.WaitGroup
	statuses := make([]answer, it.Quantity+1)
	for i := range statuses {
		wg.Go(func() {
			// With the same key, until it was answered for good.
			for range 10 {
				op := b.began(order.EventRefund)
				one := []map[string]any{{"sku_id": it.SkuID, "quantity": 1}}
				statuses[i] = b.call(b.ctx, "refund", http.MethodPost, "/v1/orders/"+b.orderNo+"/refunds",
					fmt.Sprintf("%s-r%d", b.key, i), map[string]any{"items": one, "reason": "too small"})
				statuses[i].refused = statuses[i].status != http.StatusCreated
				b.ended(op, statuses[i], model.Untold)
				b.expected(statuses[i], "refund", http.StatusCreated, http.StatusConflict)
				if s := statuses[i].status; s != 0 && s < 500 && s != http.StatusTooManyRequests {
					return
				}
				sqldb.Sleep(b.ctx, 200*time.Millisecond)
			}
		})
	}
	wg.Wait()
	taken := 0
	for _, a := range statuses {
		switch {
		case a.status == http.StatusCreated:
			taken++
			b.count("refund asked")
		case a.status == http.StatusConflict:
			b.count("partial return refused")
		}
	}
	if taken > it.Quantity {
		b.violated("order %s: %d returns of %d bought were taken", b.orderNo, taken, it.Quantity)
	}
}

// expected notes a violation unless an answer is one of those that are fine, or one that
// says "later": none at all, 429, or 5xx. A 500 is noted by call.
func (b *buyer) expected(a answer, op string, fine ...int) {
	if a.status != 0 && a.status < 500 && a.status != http.StatusTooManyRequests && !slices.Contains(fine, a.status) {
		b.violated("%s of order %s (%s) answered %d %s", op, b.orderNo, b.doing, a.status, a.code)
	}
}

// lie sends callbacks that must not be believed, by way of the simulator.
func (b *buyer) lie() {
	modes := slices.Clone(unsigned)
	if b.doing == "walks away" || b.doing == "cancels" {
		// Signed by WeChat Pay and wrong, of money that nobody has paid. A real
		// payment is not lied about so: WeChat Pay would have to contradict itself.
		modes = append(modes, wechatsim.ModeWrongAmount, wechatsim.ModeWrongMchID, wechatsim.ModeWrongAppID)
	}
	mode := modes[b.rnd.IntN(len(modes))]
	_ = b.stage.sim.Notify(b.trade, wechatsim.NotifyOptions{Mode: mode})
	b.count("lie: " + mode)
}

// view is what the harness reads of an answer, of an order, a prepay or a problem.
type view struct {
	OrderNo    string         `json:"order_no"`
	OutTradeNo string         `json:"out_trade_no"`
	State      order.State    `json:"state"`
	Code       orderhttp.Code `json:"code"`
	TimeExpire time.Time      `json:"time_expire"`
	Items      []item         `json:"items"`
}

type item struct {
	SkuID    string `json:"sku_id"`
	Quantity int    `json:"quantity"`
}

// answer is what a buyer got.
type answer struct {
	status  int // 0: nothing is known
	code    orderhttp.Code
	refused bool // it definitely did not happen
	body    view
}

// waits reports that it is a place in the queue of a sale.
func (a *answer) waits() bool { return a.status == http.StatusAccepted && a.body.State == stateQueued }

// read reads the order once; a zero view when there is no answer.
func (b *buyer) read() view {
	op, began := b.began(model.Get), time.Now()
	a := b.call(b.ctx, "get", http.MethodGet, "/v1/orders/"+b.orderNo, "", nil)
	shown := a.body.State
	if a.status == http.StatusNotFound {
		b.stage.stale.told()
	}
	if b.stage.stale.excuses(began) {
		a.status = 0
	}
	switch a.status {
	case http.StatusNotFound:
		shown = model.Absent
	case http.StatusOK:
	default:
		a.status = 0
	}
	b.ended(op, a, shown)
	if a.status != http.StatusOK {
		return view{}
	}
	return a.body
}

// patience bounds how long a buyer watches; the end is judged later anyway.
const patience = 2 * time.Second

// await reads the order until it is in a state, for patience at most, and gives the last
// state that was read.
func (b *buyer) await(want order.State) order.State {
	var last order.State
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if last = b.read().State; last == want {
			return last
		}
		if !sqldb.Sleep(b.ctx, 150*time.Millisecond) {
			break
		}
	}
	return last
}

// maxBody bounds an answer, in bytes.
const maxBody = 1 << 20

// call is one request to whichever api process, written into the history. No answer is
// the zero answer. An answer of 500, one without JSON and one with a secret in it are
// violations, whatever was asked.
func (b *buyer) call(ctx context.Context, op, method, path, key string, body any) (a answer) {
	start := time.Now()
	defer func() {
		b.history.add(line{At: start, Took: time.Since(start), Buyer: b.customer, Op: op, Key: key, Order: b.orderNo,
			Status: a.status, Result: string(a.code)})
	}()
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	p := b.via
	if p == nil {
		p = b.stage.apis[rand.IntN(len(b.stage.apis))]
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.api+path, bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := b.http.Do(req)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			b.count("no answer")
		}
		return answer{}
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return answer{}
	}
	a.status = res.StatusCode
	if a.status >= 500 {
		b.count(fmt.Sprintf("answered %d", a.status))
	}
	if a.status == http.StatusInternalServerError {
		b.violated("%s %s answered 500: %s", method, path, raw[:min(len(raw), 300)])
	}
	if json.Unmarshal(raw, &a.body) != nil {
		b.violated("%s %s answered %d with no JSON: %.300s", method, path, a.status, raw)
		return answer{}
	}
	a.code = a.body.Code
	for _, secret := range b.stage.secrets.Find(raw) {
		b.violated("S17: an answer to %s %s contains the %s", method, path, secret)
	}
	return a
}

// watchCloses looks, again and again, whether an order is closed whose trade was open
// before that and still is: the end alone would not show a trade that somebody could
// have paid for a while (W3).
func (s *shop) watchCloses(ctx context.Context) {
	told := map[string]bool{}
	before := map[string]time.Time{} // at the last look: what is noted lags behind what happens
	for sqldb.Sleep(ctx, closesEvery) {
		now := map[string]time.Time{}
		for trades := range slices.Chunk(s.stage.truth.payable(), closesAtOnce) {
			closed := s.closed(ctx, trades)
			for _, t := range trades {
				at, is := closed[order.OrderNoOf(t.no)]
				if !is || !t.opened.Before(at) || told[t.no] {
					continue
				}
				if now[t.no] = t.opened; !t.opened.Equal(before[t.no]) {
					continue
				}
				told[t.no] = true
				s.violated("W3: %s, opened at %s, could still be paid %s after its order was closed here", t.no,
					t.opened.UTC().Format(time.TimeOnly), time.Since(at).Round(time.Millisecond))
			}
		}
		before = now
	}
}

// closed gives those orders of some trades that are closed, with when they were. A
// database that is away has none: it is asked again at the next look.
func (s *shop) closed(ctx context.Context, trades []openTrade) map[string]time.Time {
	nos := make([]string, len(trades))
	for i, t := range trades {
		nos[i] = order.OrderNoOf(t.no)
	}
	closed := map[string]time.Time{}
	_ = sqldb.Each(ctx, s.stage.db, `SELECT order_no, updated_at
FROM orders
WHERE state = 'closed'
  AND order_no IN (`+sqldb.In(len(nos))+`)`, sqldb.Args(nos), func(rows *sql.Rows) error {
		var no string
		var at int64
		err := rows.Scan(&no, &at)
		closed[no] = sqldb.FromMillis(at)
		return err
	})
	return closed
}

const (
	// closesEvery is the time between two looks of watchCloses; what it tells was so at
	// two of them.
	closesEvery = time.Second
	// closesAtOnce is how many orders one query asks about.
	closesAtOnce = 500
)

// watch watches acknowledgements and closes until stop is called, to the end of the run:
// callbacks come during reconciliation too.
func (s *shop) watch(ctx context.Context) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	go s.watchAcks(ctx)
	go s.watchCloses(ctx)
	if s.o.gated() {
		go s.watchLimits(ctx)
	}
	return stop
}

// watchAcks looks, for every callback that is acknowledged, whether its payment can be
// read at that moment, by another connection: the acknowledgement comes after the commit
// (C4).
func (s *shop) watchAcks(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.stage.truth.acked:
			n, err := s.countPayments(ctx, a.transaction)
			if err == nil && n == 0 {
				s.violated("C4: the callback of %s was acknowledged before its payment was committed", a.trade)
			}
			s.stage.truth.unseen.Add(-1)
		}
	}
}

// ackRetry is the time between two tries to read the database while it is away.
const ackRetry = 20 * time.Millisecond

// countPayments counts a payment's rows. A database that is away is asked until it is
// back; an error says that ctx has ended.
func (s *shop) countPayments(ctx context.Context, transaction string) (n int, err error) {
	for {
		err = s.stage.db.QueryRowContext(ctx, `SELECT COUNT(*)
FROM payments
WHERE transaction_id = ?`, transaction).Scan(&n)
		if err == nil || !sqldb.Sleep(ctx, ackRetry) {
			return n, err
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment/wechatsim"
)

// race is a kind of thing that goes wrong in shops, by the text that the demo prints when
// it is missing. A buyer tells of it when it has seen its right end.
type race string

// The races of the demo. Each happens in every run, or the run is no proof.
const (
	// A payment and a close of the same order.
	raceLastInstant race = "paid as the close was asked"
	// Notifications that do not come, or come too often.
	raceLostCallback race = "callback lost"
	raceDuplicate    race = "callback three times"
	// Money that comes for a closed order is owed back.
	raceLate race = "paid after the close"
	// Two at once, whose stock must come back once.
	raceDoubleCancel race = "cancelled twice at once"
	racePayCancel    race = "cancelled while paying"
	// Closes: one whose answer is lost, and one that meets no payment.
	raceLostClose race = "answer to the close lost"
	raceTimeout   race = "nobody paid"
	// Placing: the last unit, and the button pressed twice.
	raceSoldOut race = "sold out"
	raceRepeat  race = "request repeated"
	// Money that goes back.
	raceRefund     race = "refund told three times"
	raceLostRefund race = "answer to a refund lost"
)

// allRaces are what a run must have shown.
var allRaces = []race{
	raceLastInstant, raceLostCallback, raceDuplicate, raceLate, raceDoubleCancel, racePayCancel, raceLostClose,
	raceTimeout, raceSoldOut, raceRepeat, raceRefund, raceLostRefund,
}

// deck is what sixty buyers do; it is dealt in turn, so that in every sixty all of it
// happens. Most pay or walk away; each race is there twice or more. The numbers add up to
// demoMin.
var deck = func() []func(*buyer) error {
	var cards []func(*buyer) error
	add := func(n int, do func(*buyer) error) {
		for range n {
			cards = append(cards, do)
		}
	}
	add(22, (*buyer).pays)
	add(2, (*buyer).returns)
	add(2, (*buyer).returnsUnheard)
	add(4, (*buyer).paysTwiceTold)
	add(4, (*buyer).paysUnheard)
	add(4, (*buyer).paysAtTheLastInstant)
	add(8, (*buyer).walksAway)
	add(3, (*buyer).cancels)
	add(3, (*buyer).cancelsTwice)
	add(3, (*buyer).cancelsWhilePaying)
	add(2, (*buyer).paysTooLate)
	add(3, (*buyer).cancelsUnheard)
	return cards
}()

// population is everybody who shops.
type population struct {
	a    *app
	show *show
	n    int
	http *http.Client

	// mu guards rnd, which is not safe for concurrent use. The seed decides who does
	// what; when two buyers meet is the machine's to decide.
	mu  sync.Mutex
	rnd *rand.Rand

	// Counted as buyers see it, for the moving line; the summary is counted from the
	// database.
	placed, paid, closed, soldOut, replayed atomic.Int64
}

// Bounds of the buyers' HTTP client.
const (
	// buyerTimeout is more than the API's longest answer, a cancel of up to 15 seconds.
	buyerTimeout = 20 * time.Second
	// buyerConns are connections that are kept: about as many buyers as act at the same
	// time.
	buyerConns = 64
)

// newPopulation makes n buyers whose choices come from a seed.
func newPopulation(a *app, seed uint64, n int, s *show) *population {
	return &population{a: a, show: s, n: n, rnd: rand.New(rand.NewPCG(seed, 7)),
		http: &http.Client{Timeout: buyerTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: buyerConns}}}
}

// between draws a duration from lo up to hi.
func (p *population) between(lo, hi time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return lo + time.Duration(p.rnd.Int64N(int64(hi-lo)))
}

// arrival is the time over which the buyers come.
const arrival = 10 * time.Second

// shop lets everybody come over the time of arrival, do their thing and go. It gives the
// errors of all, joined: a visit that failed is a defect, because what a buyer may meet
// by chance is no error.
func (p *population) shop(ctx context.Context) error {
	defer p.http.CloseIdleConnections()
	cards := make([]func(*buyer) error, p.n)
	for i := range cards {
		cards[i] = deck[i%len(deck)]
	}
	p.rnd.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
	var wg sync.WaitGroup
	errs := make([]error, p.n)
	for i, do := range cards {
		wait := time.Duration(i) * arrival / time.Duration(p.n)
		wg.Go(func() {
			if !sqldb.Sleep(ctx, wait) {
				return
			}
			errs[i] = p.visit(ctx, i, do)
			p.show.finished()
		})
	}
	go p.outage(ctx)
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	for {
		select {
		case <-ended:
			return errors.Join(append(errs, ctx.Err())...)
		case <-time.After(100 * time.Millisecond):
			p.progress("shopping")
		}
	}
}

// outage takes WeChat Pay away in the middle: a twentieth of the buyers' number of
// closes, and as many queries, are answered 503. Orders stay closing meanwhile, and end
// when it is back.
func (p *population) outage(ctx context.Context) {
	if !sqldb.Sleep(ctx, arrival/2) {
		return
	}
	for _, endpoint := range []string{"close", "query"} {
		_ = p.a.sim.AddFault(wechatsim.Fault{Endpoint: endpoint, OutTradeNo: "*", Kind: "status", Status: 503,
			Count: p.n / 20})
	}
}

// progress draws the bar.
func (p *population) progress(what string) {
	const width = 24
	p.show.mu.Lock()
	done := p.show.done
	p.show.mu.Unlock()
	full := width * done / p.n
	p.show.line.Show("%-9s [%s%s] %3d/%d  placed %d · paid %d · cancelled %d · sold out %d", what,
		strings.Repeat("█", full), strings.Repeat("·", width-full), done, p.n, p.placed.Load(), p.paid.Load(),
		p.closed.Load(), p.soldOut.Load())
}

// settle waits until every order has found its end and every refund has ended, demoSettle
// at most. What is left then is an error: in a shop it would be stock that nobody can
// buy.
func (p *population) settle(ctx context.Context) error {
	for end := time.Now().Add(demoSettle); ; {
		b, err := p.a.orders.Backlog(ctx)
		if err != nil {
			return err
		}
		refunds, err := p.a.orders.RefundBacklog(ctx)
		if err != nil {
			return err
		}
		open := b.Open[order.StatePending] + b.Open[order.StateClosing] +
			refunds.Count[order.RefundStateOwed] + refunds.Count[order.RefundStateProcessing]
		if open == 0 {
			p.progress("done")
			p.show.line.Keep()
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d orders or refunds have not found their end within %s", open, demoSettle)
		}
		p.progress(fmt.Sprintf("%d open", open))
		if !sqldb.Sleep(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// buyer is one visit: a customer of his own, whose token names buyer-0, buyer-1 and so
// on.
type buyer struct {
	*population
	ctx   context.Context
	token string
	no    string // order number
	trade string // out_trade_no
}

// visit places an order and does the buyer's thing with it. Every tenth sends the request
// twice; no stock is a race that was shown, and the end of the visit.
func (p *population) visit(ctx context.Context, i int, do func(*buyer) error) error {
	token, err := orderhttp.MintToken([]byte(p.a.JWTSecret), fmt.Sprintf("buyer-%d", i), time.Now(), time.Hour)
	if err != nil {
		return err
	}
	b := &buyer{population: p, ctx: ctx, token: token}
	sku := []string{"mug", "tee", "mug", "ticket"}[i%4]
	body := map[string]any{"items": []map[string]any{{"sku_id": sku, "quantity": 1}}}
	var placed struct {
		OrderNo string `json:"order_no"`
	}
	// Keys are per customer, and each visit is a customer of its own.
	key := map[string]string{"Idempotency-Key": fmt.Sprintf("visit-%d", i)}
	status, _, err := b.press(key, body, &placed)
	switch {
	case err != nil:
		return err
	// STOCK_INSUFFICIENT: only the scarce SKU runs out.
	case status == http.StatusConflict:
		p.soldOut.Add(1)
		p.show.tell(raceSoldOut, strings.Repeat(" ", 26), "the last ticket is gone: 409, nothing was taken")
		return nil
	case status != http.StatusCreated:
		return fmt.Errorf("placing answered %d", status)
	}
	p.placed.Add(1)
	b.no = placed.OrderNo
	if i%10 == 0 { // the button pressed twice
		status, header, err := b.press(key, body, &placed)
		if err != nil {
			return fmt.Errorf("a repeated request: %w", err)
		}
		if status != http.StatusCreated || header.Get("Idempotent-Replayed") != "true" || placed.OrderNo != b.no {
			return fmt.Errorf("a repeated request answered %d with order %s", status, placed.OrderNo)
		}
		p.replayed.Add(1)
		p.show.tell(raceRepeat, b.no, "request repeated: the same order again, not a second one")
	}
	if err := do(b); err != nil && ctx.Err() == nil {
		return fmt.Errorf("order %s: %w", b.no, err)
	}
	return nil
}

// maxBody bounds an answer of our own API, in bytes.
const maxBody = 1 << 20

// call sends a request as this buyer and decodes a good answer into into. An answer of
// any status is no error. It gives the status and the headers, Idempotent-Replayed among
// them.
func (b *buyer) call(method, path string, headers map[string]string, body, into any) (int, http.Header, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(b.ctx, method, "http://"+dialable(b.a.API)+path, reader)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	res, err := b.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err == nil && into != nil && res.StatusCode < 300 {
		err = json.Unmarshal(text, into)
	}
	return res.StatusCode, res.Header, err
}

// press places the order, and presses again with the same key while the service says that it
// cannot just now (503): on a machine that is busy with other things that is so for moments.
func (b *buyer) press(key map[string]string, body, into any) (status int, header http.Header, err error) {
	for range 20 {
		status, header, err = b.call("POST", "/v1/orders", key, body, into)
		if err != nil || status != http.StatusServiceUnavailable || !sqldb.Sleep(b.ctx, 500*time.Millisecond) {
			return status, header, err
		}
	}
	return status, header, err
}

// prepay asks for the QR code, again while WeChat Pay gives no answer: the same request
// is the same trade, so that nothing is paid twice. errTooLate is an order that can no
// longer be paid.
func (b *buyer) prepay() error {
	const tries = 8 // with the pauses 1.6 s: longer than the answers that the simulator loses in a row
	var answer struct {
		OutTradeNo string `json:"out_trade_no"`
	}
	// Placing is over; the order may be closed while this goes on.
	for range tries {
		status, _, err := b.call("POST", "/v1/orders/"+b.no+"/prepay", nil, map[string]any{"trade_type": "NATIVE"},
			&answer)
		if err != nil {
			return err
		}
		switch status {
		case http.StatusOK:
			b.trade = answer.OutTradeNo
			return nil
		case http.StatusConflict:
			return errTooLate
		}
		if !sqldb.Sleep(b.ctx, 200*time.Millisecond) {
			return b.ctx.Err()
		}
	}
	return errTooLate
}

// errTooLate ends a visit whose order was closed before the buyer came to it;
// on a loaded machine that happens, and is no mistake.
var errTooLate = errors.New("too late")

// tolerate makes nothing of a visit that came too late.
func tolerate(err error) error {
	if errors.Is(err, errTooLate) {
		return nil
	}
	return err
}

// await polls the order until it is in one of the states, or patience is over, and gives
// the state that it saw last. It does not fail for another state: the caller tells what
// it has seen.
func (b *buyer) await(patience time.Duration, states ...order.State) (order.State, error) {
	var o struct {
		State order.State `json:"state"`
	}
	for end := time.Now().Add(patience); ; {
		if _, _, err := b.call("GET", "/v1/orders/"+b.no, nil, nil, &o); err != nil {
			return "", err
		}
		for _, s := range states {
			if o.State == s {
				return s, nil
			}
		}
		if time.Now().After(end) || !sqldb.Sleep(b.ctx, 150*time.Millisecond) {
			return o.State, nil
		}
	}
}

// longEnough is how long a buyer watches an order: until the timeout, the close that
// follows, and twelve seconds for its repeats.
const longEnough = demoPayWithin + demoGrace + 12*time.Second

// cancel asks to close the order and gives the status of the answer: 200, 202 while
// WeChat Pay has not answered, or 409 when it is paid.
func (b *buyer) cancel() (int, error) {
	status, _, err := b.call("POST", "/v1/orders/"+b.no+"/cancel", nil, map[string]any{"reason": "changed my mind"},
		nil)
	return status, err
}

// sim lets the buyer pay in the simulator, as if by the phone. It is false when the trade
// can no longer be paid, which is no error: the close was first.
func (b *buyer) sim(o wechatsim.PayOptions) bool { return b.a.sim.Pay(b.trade, o) == nil }

// pays is the usual way: prepay, a moment, payment, notification.
func (b *buyer) pays() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	sqldb.Sleep(b.ctx, b.between(100*time.Millisecond, 1500*time.Millisecond))
	if !b.sim(wechatsim.PayOptions{Notify: true}) {
		return nil
	}
	st, err := b.await(longEnough, order.StatePaid)
	if st == order.StatePaid {
		b.paid.Add(1)
	}
	return err
}

// paysTwiceTold pays; WeChat Pay sends the notification three times, as it does when our
// answer is lost on its way. The order must be paid once.
func (b *buyer) paysTwiceTold() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	if !b.sim(wechatsim.PayOptions{Notify: true, NotifyCount: 3}) {
		return nil
	}
	st, err := b.await(longEnough, order.StatePaid)
	if st == order.StatePaid {
		b.paid.Add(1)
		b.show.tell(raceDuplicate, b.no, "three callbacks at once: paid once")
	}
	return err
}

// paysUnheard pays; the notification is lost. The close at the deadline must find the
// payment: this is the bug that the README begins with.
func (b *buyer) paysUnheard() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	if !b.sim(wechatsim.PayOptions{Notify: true, DropNotify: true}) {
		return nil
	}
	st, err := b.await(longEnough, order.StatePaid)
	if st == order.StatePaid {
		b.paid.Add(1)
		b.show.tell(raceLostCallback, b.no, "the callback never came: the close at the deadline was told 'paid', the "+
			"order is kept")
	}
	return err
}

// paysAtTheLastInstant cancels, and the payment arrives at WeChat Pay just before the
// close, which is answered that the trade is paid.
func (b *buyer) paysAtTheLastInstant() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	// The deadline at WeChat Pay has passed when the timeout closes, so the
	// race is run by a cancel: the money arrives in the instant before it.
	if err := b.a.sim.AddFault(wechatsim.Fault{Endpoint: "close", OutTradeNo: b.trade, Kind: "paid_first",
		Count: 1}); err != nil {
		return err
	}
	status, err := b.cancel()
	if err != nil {
		return err
	}
	st, err := b.await(longEnough, order.StatePaid, order.StateClosed)
	if st == order.StatePaid {
		b.paid.Add(1)
		b.show.tell(raceLastInstant, b.no, fmt.Sprintf("cancelled, and paid in that instant: cancel answered %d, the "+
			"order is paid, its stock kept", status))
	}
	return err
}

// walksAway never pays: the timeout closes the order.
func (b *buyer) walksAway() error {
	if b.between(0, 2) == 0 { // half of them never see the QR code
		if err := b.prepay(); err != nil {
			return tolerate(err)
		}
	}
	st, err := b.await(longEnough, order.StateClosed)
	if st == order.StateClosed {
		b.show.tell(raceTimeout, b.no, "nobody paid: WeChat Pay closed it first, then its stock came back")
	}
	return err
}

// cancels before paying: WeChat Pay is asked to close, and the stock comes back.
func (b *buyer) cancels() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	_, err := b.cancel()
	b.closed.Add(1)
	return err
}

// cancelsTwice sends two cancels at the same time: the stock must come back once.
func (b *buyer) cancelsTwice() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Go(func() { _, errs[i] = b.cancel() })
	}
	wg.Wait()
	st, err := b.await(longEnough, order.StateClosed)
	if st == order.StateClosed {
		b.closed.Add(1)
		b.show.tell(raceDoubleCancel, b.no, "cancelled twice at once: closed once, its stock came back once")
	}
	return errors.Join(append(errs, err)...)
}

// cancelsWhilePaying pays and cancels at the same time. Either may win; the order must
// end as WeChat Pay has it.
func (b *buyer) cancelsWhilePaying() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	var wg sync.WaitGroup
	var cancelErr error
	wg.Go(func() { b.sim(wechatsim.PayOptions{Notify: true}) })
	wg.Go(func() { _, cancelErr = b.cancel() })
	wg.Wait()
	st, err := b.await(longEnough, order.StatePaid, order.StateClosed)
	b.show.tell(racePayCancel, b.no, fmt.Sprintf("paid and cancelled at once: whoever won at WeChat Pay won here: %s",
		st))
	return errors.Join(cancelErr, err)
}

// paysTooLate pays after the order was closed, which WeChat Pay should not allow: the
// simulator is forced. The money must go back by itself, once.
func (b *buyer) paysTooLate() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	if _, err := b.cancel(); err != nil {
		return err
	}
	if st, err := b.await(longEnough, order.StateClosed); err != nil || st != order.StateClosed {
		return err
	}
	b.closed.Add(1)
	b.sim(wechatsim.PayOptions{Notify: true, Force: true}) // against WeChat's own promise
	st, err := b.await(longEnough, order.StateRefunded)
	if st == order.StateRefunded {
		b.show.tell(raceLate, b.no, "money came for a closed order: recorded, sent back by itself, once; no "+
			"stock touched")
	}
	return err
}

// cancelsUnheard cancels; WeChat Pay closes the trade, and its answers are lost, to the
// close and to the query after it. The stock must wait until the close is proven.
func (b *buyer) cancelsUnheard() error {
	if err := b.prepay(); err != nil {
		return tolerate(err)
	}
	// Both: after a close without an answer the service asks whether the trade is closed.
	for _, endpoint := range []string{"close", "query"} {
		if err := b.a.sim.AddFault(wechatsim.Fault{Endpoint: endpoint, OutTradeNo: b.trade, Kind: "cut_after",
			Count: 1}); err != nil {
			return err
		}
	}
	status, err := b.cancel()
	if err != nil {
		return err
	}
	st, err := b.await(longEnough, order.StateClosed)
	if st == order.StateClosed {
		b.closed.Add(1)
		b.show.tell(raceLostClose, b.no, fmt.Sprintf("WeChat Pay closed it, the answer was lost: %d, stock stayed "+
			"reserved until it was asked again and proven", status))
	}
	return err
}

// returns pays, and asks for the money back; WeChat Pay tells of its end three times.
func (b *buyer) returns() error {
	no, err := b.refund(false)
	if err != nil || no == "" {
		return tolerate(err)
	}
	st, err := b.await(longEnough, order.StateRefunded)
	if err != nil || st != order.StateRefunded {
		return err
	}
	if err := b.a.sim.NotifyRefund(no, wechatsim.NotifyOptions{Count: 3}); err != nil {
		return err
	}
	b.show.tell(raceRefund, b.no, "refunded, and told three times: one refund, its stock on the shelf once")
	return nil
}

// returnsUnheard is a refund of which nothing is heard: its answer and its callback are
// lost. It must be sent again under its one number, and be paid once.
func (b *buyer) returnsUnheard() error {
	no, err := b.refund(true)
	if err != nil || no == "" {
		return tolerate(err)
	}
	st, err := b.await(longEnough, order.StateRefunded)
	if st == order.StateRefunded {
		r, _ := b.a.sim.Refund(no)
		b.show.tell(raceLostRefund, b.no, fmt.Sprintf("WeChat Pay took the refund, the answer was lost: sent %d "+
			"times under one number, paid once", r.Requests))
	}
	return err
}

// refund pays and asks for all of it back; unheard loses WeChat Pay's answer and its
// notification. It gives the refund's number, "" when the order was not paid. The fault
// names the trade, whose payment was notified: the refund has no number yet.
func (b *buyer) refund(unheard bool) (string, error) {
	if err := b.pays(); err != nil {
		return "", err
	}
	if unheard {
		for _, f := range []wechatsim.Fault{{Endpoint: "refund", Kind: "cut_after"},
			{Endpoint: "notify", Kind: "drop"}} {
			f.OutTradeNo, f.Count = b.trade, 1
			if err := b.a.sim.AddFault(f); err != nil {
				return "", err
			}
		}
	}
	var answer struct {
		OutRefundNo string `json:"out_refund_no"`
	}
	key := map[string]string{"Idempotency-Key": "refund-" + b.no}
	why := map[string]any{"reason": "does not fit"}
	status, _, err := b.call("POST", "/v1/orders/"+b.no+"/refunds", key, why, &answer)
	if status != http.StatusCreated {
		return "", err // it was not paid: the last instant went the other way
	}
	return answer.OutRefundNo, err
}

// Ports of freeAddr: below those that Linux gives to connections and to listeners of port 0
// (net.ipv4.ip_local_port_range, from 32768), which another program could get meanwhile.
const (
	firstFree, freePorts = 20_000, 12_000
	freeTries            = 100
)

// freeAddr finds a loopback port that is free now. Another program may take it before we
// listen; then the start fails and says so.
func freeAddr() (addr string, err error) {
	for range freeTries {
		var l net.Listener
		l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", firstFree+rand.N(freePorts)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

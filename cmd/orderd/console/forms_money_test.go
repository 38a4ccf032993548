package console

import (
	"context"
	"html"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/trail"
)

// heldMoney has a payment of a number of fen that fits no order.
func (d *desk) heldMoney(t *testing.T, id string, fen payment.Fen) {
	t.Helper()
	s, err := d.Settle(t.Context(), payment.Trade{OutTradeNo: "01JD4Z0000000000000000000X-01", TransactionID: id,
		State: payment.TradeSuccess, Total: fen, PayerTotal: payment.Said(fen), Currency: payment.CNY,
		MchID: ordertest.MchID, AppID: ordertest.AppID, SuccessTime: d.Clock.Now()}, ordertest.Notified)
	if err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
}

// proved is what a form is answered that wants the password first, when it is given.
func proved(b *browser, path string, form ...string) *httptest.ResponseRecorder {
	return b.post(path, append(form, "prove_password", password)...)
}

// Money that nobody knows is sent back or written off from its row, as the state of it allows and no longer.
func TestHeldMoneyIsDecidedByForms(t *testing.T) {
	d := newDesk(t)
	d.heldMoney(t, "4200001", 500)
	d.heldMoney(t, "4200002", 700)
	f, g := d.browser(t, "fin", Finance), d.browser(t, "gao", Finance)
	offersAre(t, d.browser(t, "li", Operator).get("/ui/held").Body.String())
	list := f.get("/ui/held").Body.String()
	offersAre(t, list, "held.apply", "held.refund", "held.writeoff")
	if !strings.Contains(list, "没有对应的订单") {
		t.Error("the list does not say why in Chinese")
	}
	d.Clock.Advance(operators.ProvedFor + time.Second)
	off := "/ui/held/4200001/writeoff"
	want(t, f.post(off, "reason", "查无此人"), 403, "请再次输入密码")
	leads(t, proved(f, off, "reason", "查无此人"), "/ui/held")
	want(t, f.get("/ui/held"), 200, "等待第二人确认")
	leads(t, f.post(off, "reason", "查无此人"), "/ui/held") // the same word again is the same word
	want(t, f.get("/ui/held"), 200, "4200001")
	want(t, f.post(off, "reason", "另一个原因"), 409, "另一个原因")
	want(t, g.get(off), 200, "提议核销")
	leads(t, proved(g, off, "reason", "同意"), "/ui/held")
	if page := g.get("/ui/held").Body.String(); strings.Contains(page, "4200001") {
		t.Error("it is held still")
	}
	want(t, g.get(off), 200, "此款项已处理")
	want(t, g.post("/ui/held/4200001/refund", "reason", "x"), 409, "REFUND_NOT_POSSIBLE")
	leads(t, g.post("/ui/held/4200002/refund", "reason", "退还"), "/ui/held")
	want(t, g.get("/ui/held/4200002/apply"), 200, "此款项已处理")
	want(t, g.get("/ui/held/none/refund"), 404, "NOT_FOUND")
}

// The number of a card and its owner's name are nowhere after they were sent: not on the page that says what was
// wrong, not on the one that asks for the password, not in the trail.
func TestCardIsShownNowhere(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	no := d.PaidOne(t, "c1", "mug", 1).OrderNo
	r := d.MustAsk(t, order.AskRefund{OrderNo: no, RequestID: "k", Reason: "x", Cause: ordertest.Customer})
	if d.RefundState(t, r.OutRefundNo) == order.RefundStatePending {
		d.MustDecide(t, r.OutRefundNo, order.RefundEventApprove, ordertest.Finance)
	}
	d.MustLookAtRefund(t, r.OutRefundNo)
	d.MustSettleRefund(t, d.WeChat.EndRefund(r.OutRefundNo, payment.RefundAbnormal))
	f, g := d.browser(t, "fin1", Finance), d.browser(t, "gao", Finance)
	d.Clock.Advance(operators.ProvedFor + time.Second)
	const card, name = "6222020000000000", "王小明"
	path := "/ui/refunds/" + r.OutRefundNo + "/to-card"
	sent := []string{"type", "USER_BANK_CARD", "bank_type", "ICBC_DEBIT", "bank_account", card, "real_name", name,
		"reason", "原路退款失败"}
	hides := func(w *httptest.ResponseRecorder, code int, text string) {
		t.Helper()
		want(t, w, code, text)
		for _, secret := range []string{card, name} {
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s is on the page %.200s", secret, w.Body)
			}
		}
	}
	want(t, f.get(path), 403, "请再次输入密码") // before the card is typed, not after it
	hides(f.post(path, sent...), 403, "请再次输入密码")
	hides(proved(f, path), 200, "退到")
	hides(f.post(path, append([]string{"bank_account", card + "x"}, without(sent, "bank_account")...)...), 422,
		"原路退款失败")
	leads(t, f.post(path, sent...), "/ui/refunds")
	hides(proved(g, path), 200, "退到")
	leads(t, g.post(path, sent...), "/ui/refunds")
	want(t, g.get(path), 200, "退款单已是其他状态")
	rows := 0
	err := trail.New(d.DB, d.Clock.Now, nil).All(t.Context(), time.Time{}, time.Time{}, func(e *trail.Entry) error {
		rows++
		for _, text := range []string{e.Asked, e.Was, e.Became, e.Target, e.Reason, e.Outcome} {
			if strings.Contains(text, card) || strings.Contains(text, name) {
				t.Errorf("the trail has the card in row %d", e.Seq)
			}
		}
		return nil
	})
	if err != nil || rows < 6 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// without is a form's pairs without one of them.
func without(form []string, name string) (rest []string) {
	for i := 0; i+1 < len(form); i += 2 {
		if form[i] != name {
			rest = append(rest, form[i], form[i+1])
		}
	}
	return rest
}

// Whoever sends money back has to know before it whether that takes a second person: each form says the limit, as the
// service has it, in both languages.
func TestFormsSayAboveWhichSumTwoPeopleAreNeeded(t *testing.T) {
	d := newDeskOf(t, ordertest.NewWith(t, sqldbtest.SQLite(t), func(c *order.Config) {
		c.RefundAutoApprove, c.RefundTwoPersons = 250, 432100
	}), nil)
	d.SKU(t, "mug", 9)
	no := d.PaidOne(t, "c1", "mug", 1).OrderNo
	r := d.MustAsk(t, order.AskRefund{OrderNo: no, RequestID: "k", Reason: "x", NeedsPerson: true,
		Cause: ordertest.Customer})
	d.heldMoney(t, "4200001", 500)
	b := d.browser(t, "ann", Admin)
	seen := map[string]bool{}
	other := d.PaidOne(t, "c2", "mug", 1).OrderNo
	pages := []string{"/ui/orders/" + other + "/refund", "/ui/refunds/" + r.OutRefundNo + "/approve",
		"/ui/held/4200001/refund", "/ui/bulk/approve", "/ui/refunds", uiDiffs + "/import"}
	for _, path := range pages {
		b.cookies[languageCookie] = "zh"
		want(t, b.get(path), 200, "合计超过 ¥4,321.00 须")
		b.cookies[languageCookie] = "en"
		want(t, b.get(path), 200, "Above ¥4,321.00")
		if strings.Contains(b.get(path).Body.String(), "Up to ¥2.50 together nobody has to approve") {
			seen[path] = true
		}
	}
	if len(seen) != 5 || seen["/ui/bulk/approve"] {
		t.Errorf("what is approved by itself is said on %v", seen)
	}
	var limited []string
	for _, a := range (&console{}).formActs() {
		if a.limit != "" {
			limited = append(limited, a.name)
		}
	}
	if all := []string{"order.refund", "refund.approve", "refund.byhand", "held.refund", "diff.resolve", "bulk.approve",
		"bulk.resume"}; !slices.Equal(limited, all) {
		t.Errorf("the limit is said at %v, want %v", limited, all)
	}
	e := newDesk(t).browser(t, "ann", Admin)
	want(t, e.get("/ui/refunds"), 200, "一人即可")
}

// Whoever is asked where the money of last week is looks for a refund that has ended: each state has its list, page by
// page, and what WeChat Pay refused says in words what it means and what to do.
func TestRefundsThatHaveEndedAreAList(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 200)
	ask := func(key string) order.Refund {
		no := d.PaidOne(t, key, "mug", 1).OrderNo
		return d.MustAsk(t, order.AskRefund{OrderNo: no, RequestID: key, Reason: "x", NeedsPerson: true,
			Cause: ordertest.Customer})
	}
	var all []string
	for i := range defaultRows + 2 {
		r := ask("k" + strconv.Itoa(i))
		d.MustDecide(t, r.OutRefundNo, order.RefundEventReject, ordertest.Finance)
		all = append(all, r.OutRefundNo)
	}
	open := ask("open")
	b := d.browser(t, "fin", Finance)
	page := b.get("/ui/refunds").Body.String()
	if strings.Contains(page, all[0]) || !strings.Contains(page, open.OutRefundNo) ||
		!strings.Contains(page, `href="/ui/refunds?state=success"`) {
		t.Errorf("%s", page)
	}
	page = b.get("/ui/refunds?state=rejected").Body.String()
	next := regexp.MustCompile(`rel="next" href="([^"]*)"`).FindStringSubmatch(page)
	if next == nil || strings.Contains(page, open.OutRefundNo) {
		t.Fatalf("%s", page)
	}
	rest := b.get(html.UnescapeString(next[1])).Body.String()
	for i, no := range all {
		no = "<code data-id>" + no
		if first := strings.Contains(page, no); first != (i >= 2) || first == strings.Contains(rest, no) {
			t.Errorf("%d: on the first page %v", i, first)
		}
	}
	want(t, b.get("/ui/refunds?state=nonsense"), 422, "VALIDATION_FAILED")
	want(t, b.get("/ui/refunds?cursor=x"), 422, "VALIDATION_FAILED")
}

// What WeChat Pay refuses is told in words and with the next step, and its own text behind that; an unknown code has
// words too, and what is no refusal of WeChat Pay's none.
func TestARefusedRefundSaysWhatToDo(t *testing.T) {
	text := func(code string) string {
		return (&payment.GatewayError{Op: "refund", Kind: payment.KindRejected, Status: 403, Code: code,
			Message: "基本账户余额不足"}).Error()
	}
	for code, says := range map[string][2]string{"NOT_ENOUGH": {"充值", "top it up"}, "WHAT_IS_NEW": {"重试", "retry"}} {
		if a, b := zh.refusal(text(code)), en.refusal(text(code)); !strings.Contains(a, says[0]) ||
			!strings.Contains(b, says[1]) {
			t.Errorf("%s: %q, %q", code, a, b)
		}
	}
	if zh.refusal("") != "" || en.refusal("of our own") != "" {
		t.Error("what is no refusal has words of one")
	}
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	r := d.MustAsk(t, order.AskRefund{OrderNo: d.PaidOne(t, "c", "mug", 1).OrderNo, RequestID: "k", Reason: "x",
		NeedsPerson: true, Cause: ordertest.Customer})
	if err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.UpdateRows(ctx, 1, `UPDATE refunds SET problem = ? WHERE out_refund_no = ?`, text("NOT_ENOUGH"),
			r.OutRefundNo)
	}); err != nil {
		t.Fatal(err)
	}
	page := d.browser(t, "fin", Finance).get("/ui/refunds").Body.String()
	means, raw := strings.Index(page, "商户账户余额不足"), strings.Index(page, "NOT_ENOUGH")
	if means < 0 || raw < means {
		t.Errorf("its meaning is at %d, the text of WeChat Pay at %d", means, raw)
	}
}

// A number that calls somebody who can do nothing about it is not looked at any more.
func TestFailedTasksCallWhoCanRunThem(t *testing.T) {
	d := newDesk(t)
	c := &console{}
	p := pulse{Counts: map[string]int64{"nav.tasks": 9, "nav.refunds": 2}}
	for role, sum := range map[Role]int64{Viewer: 2, Finance: 2, Operator: 11, Admin: 11} {
		got := c.countsOf(p, role)
		if got["nav.overview"] != sum || (got["nav.tasks"] == 9) != role.May(Operator) {
			t.Errorf("%s: %v", role, got)
		}
	}
	want(t, d.browser(t, "fin", Finance).get("/ui/tasks"), 200, "由客服或管理员操作")
	want(t, d.browser(t, "op", Operator).get("/"), 200, "失败任务")
	overview := d.browser(t, "gao", Finance).get("/").Body.String()
	if _, main, _ := strings.Cut(overview, "<main"); strings.Contains(main, `href="/ui/tasks"`) {
		t.Error("the first page of finance has tasks to mend")
	}
	d.SKU(t, "mug", 1)
	want(t, d.browser(t, "li", Operator).get("/ui/stock/mug"), 200, "盘点调整只有管理员可以")
	want(t, d.browser(t, "gu", Finance).get(uiBooks), 200, "审计记录由管理员查看")
}

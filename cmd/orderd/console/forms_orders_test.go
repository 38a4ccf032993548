package console

import (
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

// offers are the acts that a page has, by their names.
func offers(page string) (names []string) {
	for _, part := range strings.Split(page, `data-act="`)[1:] {
		names = append(names, part[:strings.IndexByte(part, '"')])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// offersAre fails the test unless a page has these acts and no others.
func offersAre(t *testing.T, page string, names ...string) {
	t.Helper()
	slices.Sort(names)
	if got := offers(page); !slices.Equal(got, names) {
		t.Errorf("the page has %q, want %q", got, names)
	}
}

// A button that is refused when it is pressed tells a person that the console is wrong.
func TestOrderPageHasTheActsOfItsState(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	b := d.browser(t, "li", Operator)
	page := func(no string) string { return b.get("/ui/orders/" + no).Body.String() }
	no := d.PlaceOne(t, "c1", "mug", 1).OrderNo
	offersAre(t, page(no), "order.close", "order.note")
	d.Prepaid(t, no)
	offersAre(t, page(no), "order.ask", "order.close", "order.note")
	paid := d.PaidOne(t, "c2", "mug", 2).OrderNo
	offersAre(t, page(paid), "order.ask", "order.note", "order.refund")
	f := d.browser(t, "fin", Finance)
	offersAre(t, f.get("/ui/orders/"+paid).Body.String(), "order.note")
	want(t, b.get("/ui/orders/"+paid+"/close"), 200, "无法关闭")
	want(t, b.get("/ui/orders/"+no+"/refund"), 200, "没有可退的款项")
	want(t, b.get("/ui/orders/"+no+"/vouch"), 200, "现在不能担保")
}

// Whoever asks for a refund by the page asks for the lines or the yuan that were typed, once, and somebody else
// approves it, who is offered that; whoever asked is not.
func TestRefundIsAskedForAndApprovedByForms(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	no := d.PaidOne(t, "c1", "mug", 3).OrderNo
	b, f := d.browser(t, "li", Operator), d.browser(t, "fin", Finance)
	path := "/ui/orders/" + no + "/refund"
	form := b.get(path).Body.String()
	for _, text := range []string{"mug（单价", "可退 3 件", "可退金额", "商品放回库存"} {
		if !strings.Contains(form, text) {
			t.Errorf("the form does not say %q", text)
		}
	}
	key := hidden(t, form, "key")
	want(t, b.post(path, "key", key, "line.0", "x", "reason", "少发一件"), 422, "少发一件")
	want(t, b.post(path, "key", key, "line.0", "9", "reason", "少发一件"), 409, "可退")
	want(t, b.post(path, "key", key, "amount", "1.234", "reason", "少发一件"), 422, `aria-invalid="true"`)
	ask := []string{"key", key, "line.0", "1", "amount", "0.01", "restock", "no", "reason", "少发一件"}
	leads(t, b.post(path, ask...), "/ui/orders/"+no)
	leads(t, b.post(path, ask...), "/ui/orders/"+no) // the button twice
	o, err := d.Find(t.Context(), no)
	if err != nil || len(o.Refunds) != 1 {
		t.Fatalf("%d refunds, %v", len(o.Refunds), err)
	}
	r := o.Refunds[0]
	if r.Amount != 1 || r.Restock || len(r.Items) != 1 || r.Items[0].Quantity != 1 || r.Note != "少发一件" ||
		r.Requester.ID != "li" || r.State != order.RefundStatePending {
		t.Fatalf("asked for %+v", r)
	}
	want(t, f.post(path, ask...), 403, "FORBIDDEN")
	a := d.browser(t, "adam", Admin)
	offersAre(t, f.get("/ui/refunds").Body.String(), "bulk.approve", "refund.approve", "refund.reject")
	approve := "/ui/refunds/" + r.OutRefundNo + "/approve"
	version := hidden(t, f.get(approve).Body.String(), "version")
	want(t, f.post(approve, "version", "77", "reason", "同意"), 412, "退款单已发生变化")
	leads(t, f.post(approve, "version", version, "reason", "同意"), "/ui/refunds")
	if got := d.RefundState(t, r.OutRefundNo); got == order.RefundStatePending {
		t.Errorf("it is %s", got)
	}
	want(t, a.get(approve), 200, "退款单已是其他状态")
	want(t, a.post(approve, "version", version, "reason", "同意"), 412, "VERSION_MISMATCH")
	mine := askedBy(t, d, a, no)
	want(t, a.get("/ui/refunds/"+mine+"/approve"), 200, "请由其他人批准")
	if slices.Contains(offers(a.get("/ui/refunds").Body.String()), "refund.approve") {
		t.Error("whoever asked is offered to approve")
	}
}

// askedBy has a browser ask for a fen of an order and gives the number of its refund.
func askedBy(t *testing.T, d *desk, b *browser, no string) string {
	t.Helper()
	path := "/ui/orders/" + no + "/refund"
	leads(t, b.post(path, "key", hidden(t, b.get(path).Body.String(), "key"), "amount", "0.01", "reason", "x"),
		"/ui/orders/"+no)
	o, err := d.Find(t.Context(), no)
	if err != nil {
		t.Fatal(err)
	}
	return o.Refunds[len(o.Refunds)-1].OutRefundNo
}

// A note stands in the timeline as it was written, once, and is in no language but its writer's.
func TestNoteByAForm(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	no := d.PaidOne(t, "c1", "mug", 1).OrderNo
	b := d.browser(t, "li", Operator)
	path := "/ui/orders/" + no + "/note"
	version := hidden(t, b.get(path).Body.String(), "version")
	want(t, b.post(path, "version", version, "note", strings.Repeat("长", 201)), 422, `aria-invalid="true"`)
	note := []string{"version", version, "note", "买家说 <b>周一</b> 送"}
	leads(t, b.post(path, note...), "/ui/orders/"+no)
	want(t, b.post(path, note...), 412, "买家说")
	page := b.get("/ui/orders/" + no).Body.String()
	for _, text := range []string{"备注", "买家说 &lt;b&gt;周一&lt;/b&gt; 送"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page does not have %q", text)
		}
	}
}

// Who paid is shown whole to whoever says why, and the trail says who looked; a page never has it.
func TestPayerIsShownForAReason(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	no := d.PlaceOne(t, "c1", "mug", 1).OrderNo
	if _, err := d.Prepay(t.Context(), order.PrepayRequest{OrderNo: no, CustomerID: "c",
		TradeType: payment.JSAPI, OpenID: "oABCDEFGHIJKLMNOPQRSTUVWXYZ01", Cause: ordertest.Customer}); err != nil {
		t.Fatal(err)
	}
	b := d.browser(t, "li", Operator)
	page := b.get("/ui/orders/" + no).Body.String()
	offersAre(t, page, "order.ask", "order.close", "order.note", "order.payer")
	if strings.Contains(page, "oABCDEFGHIJKLMNOPQRSTUVWXYZ01") {
		t.Error("the page has it whole")
	}
	path := "/ui/orders/" + no + "/payer"
	want(t, b.post(path, "reason", ""), 422, "VALIDATION_FAILED")
	want(t, b.post(path, "reason", "核对付款人"), 200, "oABCDEFGHIJKLMNOPQRSTUVWXYZ01")
	if got := d.acted(t); !slices.Contains(got, "li order.payer "+no+" done") {
		t.Errorf("the trail has %q", got)
	}
}

// Two people who have looked at WeChat Pay's platform close by the page what it says nothing of.
func TestVouchByForms(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	no := d.PlaceOne(t, "c1", "mug", 1).OrderNo
	d.Prepaid(t, no)
	b, f := d.browser(t, "li", Operator), d.browser(t, "fin", Finance)
	d.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
	want(t, b.get("/ui/orders/"+no+"/vouch"), 200, "现在不能担保")
	leads(t, b.post("/ui/orders/"+no+"/close", "version", "2", "reason", "x"), "/ui/orders/"+no)
	d.Clock.Advance(32 * time.Minute)
	for _, who := range []*browser{b, f} { // they were away for longer than a session
		who.post("/login", "name", map[*browser]string{b: "li", f: "fin"}[who], "password", password)
	}
	path := "/ui/orders/" + no + "/vouch"
	for _, who := range []*browser{b, b, f} {
		page := who.get("/ui/orders/" + no).Body.String()
		if !slices.Contains(offers(page), "order.vouch") {
			t.Fatalf("nobody can vouch: %q", offers(page))
		}
		want(t, who.get(path), 200, "两人分别确认")
		leads(t, who.post(path, "reason", "平台查无此单"), "/ui/orders/"+no)
		who.get("/ui/orders/" + no)
	}
	if got := d.State(t, no); got != order.StateClosed {
		t.Errorf("it is %s", got)
	}
	want(t, b.get(path), 200, "现在不能担保")
}

// Whoever asks WeChat Pay for a buyer tells them what it said.
func TestAskingSaysTheAnswer(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	o := d.PlaceOne(t, "r1", "a", 1)
	b := d.browser(t, "wang", Operator)
	at := "/ui/orders/" + o.OrderNo
	want(t, b.post(at+"/ask"), 303, "")
	want(t, b.get(at), 200, "没有发起过支付")
	trade := d.Prepaid(t, o.OrderNo)
	want(t, b.post(at+"/ask"), 303, "")
	want(t, b.get(at), 200, "没有可入账的付款")
	if _, err := d.WeChat.Pay(trade, false); err != nil {
		t.Fatal(err)
	}
	want(t, b.post(at+"/ask"), 303, "")
	want(t, b.get(at), 200, "订单有付款")
}

// What WeChat Pay has not done is not said of it: what was paid back by hand, refused, or is not sent yet.
func TestSidesAreWhatEachKnows(t *testing.T) {
	var o order.Order
	o.Total, o.Payment = 900, &order.Payment{Total: 900}
	for _, r := range []struct {
		state order.RefundState
		fen   payment.Fen
	}{{order.RefundStateSucceeded, 100}, {order.RefundStateOwed, 200}, {order.RefundStatePending, 300},
		{order.RefundStateByHand, 50}, {order.RefundStateRefused, 7}, {order.RefundStateRejected, 1000}} {
		o.Refunds = append(o.Refunds, order.Refund{State: r.state, Amount: r.fen})
	}
	want := []sideRow{{Word: "side.amount", Ours: 900, Theirs: 900, Same: true},
		{Word: "side.back", Ours: 300, Theirs: 100, UnderWay: true}, {Word: "side.unsent", Ours: 307, None: true},
		{Word: "side.byhand", Ours: 50, None: true}}
	if got := sidesOf(&o); !slices.Equal(got, want) {
		t.Errorf("%+v\n%+v", got, want)
	}
}

// Whoever approves a refund sees for which goods it is and where they go, and not "as usual".
func TestGoodsOfARefundAreSaid(t *testing.T) {
	r := order.Refund{Items: []stock.Line{{SkuID: "cup", Quantity: 2}}}
	for restock, text := range map[bool]string{true: "回库存", false: "不回库存"} {
		r.Restock = restock
		if got := zh.goods(&r); got != "cup ×2 · "+text {
			t.Error(got)
		}
	}
}

// A refused form speaks of what is on the page, and not of parts of the API's answer.
func TestRefusedFormSpeaksOfThePage(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "a", 5)
	b := d.browser(t, "wang", Operator)
	page := b.post("/ui/stock/a/replenish", "quantity", "-3", "reason", "x", "key", "k1").Body.String()
	if !strings.Contains(page, "请更正标出的每一处") || !strings.Contains(page, `aria-invalid="true"`) ||
		strings.Contains(page, "quantity 至少") {
		t.Error(page)
	}
	one := int64(1)
	p := &orderhttp.Problem{Code: orderhttp.CodeReturnExceeds,
		Items: []orderhttp.ItemProblem{{SkuID: "a", Available: &one}}}
	if got := zh.formTodo(p, "items"); got != "还可退：a ×1。" {
		t.Error(got)
	}
}

package console

import (
	"net/http/httptest"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// hire makes an account with a token and gives what asks as that person.
func (d *desk) hire(t *testing.T, name string, role Role) func(method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	token, err := d.tokens.Create(t.Context(), name, role, operators.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	return func(method, path, body string) *httptest.ResponseRecorder {
		return d.ask("", method, path, body, "Authorization", "Bearer "+token)
	}
}

// Whoever has left must not go on acting by a token that nobody thought of, nor by the role of another job.
func TestAccountsEndAndChange(t *testing.T) {
	d := newDesk(t)
	const path = "/admin/v1/operators"
	want(t, d.ask(Admin, "POST", path, `{"name":"li.na","role":"viewer","reason":"new"}`), 201,
		`{"name":"li.na","role":"viewer"}`)
	want(t, d.ask(Admin, "POST", path, `{"name":"li.na","role":"viewer","reason":"new"}`), 422, "#/name")
	wang := d.hire(t, "wang", Viewer)
	want(t, wang("GET", "/admin/v1/differences", ""), 403, "FORBIDDEN")
	want(t, d.ask(Admin, "POST", path+"/wang/role", `{"role":"finance","reason":"promoted"}`), 204, "")
	want(t, wang("GET", "/admin/v1/differences", ""), 200, "data")
	want(t, d.ask(Admin, "POST", path+"/nobody/disable", `{"reason":"gone"}`), 404, "NOT_FOUND")
	want(t, d.ask(Admin, "POST", path+"/wang/disable", `{"reason":"gone"}`), 204, "")
	want(t, wang("GET", "/admin/v1/differences", ""), 401, "UNAUTHENTICATED")
	want(t, d.ask(Admin, "GET", path, ""), 200, `"disabled_by":"the-admin"`)
}

// An order about which WeChat Pay says nothing is closed by two people, and by one of them it is not.
func TestVouchingTakesTwoPeople(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 1)
	o := d.PlaceOne(t, "a", "mug", 1)
	d.Prepaid(t, o.OrderNo)
	path := "/admin/v1/orders/" + o.OrderNo
	shown := d.ask(Viewer, "GET", path, "")
	want(t, shown, 200, `"state":"live"`)
	d.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
	want(t, d.ask(Operator, "POST", path+"/close", `{"reason":"buyer rang"}`, "If-Match", shown.Header().Get("ETag")),
		202, `"state":"closing"`)
	d.Clock.Advance(32 * time.Minute)
	const body = `{"reason":"not on the platform"}`
	first, second := d.hire(t, "li", Finance), d.hire(t, "wang", Operator)
	for range 2 {
		want(t, first("POST", path+"/vouch-unpaid", body), 202, `"state":"closing"`)
	}
	want(t, second("POST", path+"/vouch-unpaid", body), 200, `"state":"closed"`)
	if d.Available(t, "mug") != 1 {
		t.Error("its unit is not back")
	}
}

// A buyer whose payment was held for a mistake of ours has paid and has nothing, until somebody has it judged again.
func TestHeldPaymentIsJudgedAgain(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 1)
	o := d.PlaceOne(t, "a", "mug", 1)
	trade, err := d.WeChat.Pay(d.Prepaid(t, o.OrderNo), false)
	if err != nil {
		t.Fatal(err)
	}
	wrong := d.Restarted(t, func(c *order.Config) { c.AppID = "wx0000000000000002" })
	if s, err := wrong.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Reason != "appid" {
		t.Fatal(s, err)
	}
	const path = "/admin/v1/payments/held"
	want(t, d.ask(Viewer, "GET", path, ""), 200, `"order_no":"`+o.OrderNo+`"`)
	li := d.hire(t, "li", Finance)
	want(t, li("POST", path+"/4200/judge-again", `{"reason":"mended"}`), 404, "ORDER_NOT_FOUND")
	want(t, li("POST", path+"/"+trade.TransactionID+"/judge-again", `{"reason":"mended"}`), 200,
		`{"order_no":"`+o.OrderNo+`","outcome":"applied","state":"paid"}`)
	want(t, d.ask(Viewer, "GET", path, ""), 200, `"data":[]`)
}

// The money of a buyer whose account takes none was nobody's to send anywhere.
func TestAbnormalRefundIsSentToACard(t *testing.T) {
	d := newDeskOf(t, ordertest.NewWith(t, sqldbtest.SQLite(t), func(c *order.Config) {
		c.RefundAutoApprove = payment.MaxFen
	}), nil)
	d.SKU(t, "mug", 1)
	o := d.PaidOne(t, "a", "mug", 1)
	no := d.MustAsk(t, ordertest.Ask(o.OrderNo, "a", 1)).OutRefundNo
	d.MustLookAtRefund(t, no)
	d.MustSettleRefund(t, d.WeChat.EndRefund(no, payment.RefundAbnormal))
	d.Clock.Advance(2 * time.Minute)
	li, path := d.hire(t, "li", Finance), "/admin/v1/refunds/"+no+"/to-card"
	want(t, li("POST", path, `{"type":"ELSEWHERE","reason":"x"}`), 422, "#/type")
	want(t, li("POST", path, `{"type":"MERCHANT_BANK_CARD","reason":"account closed"}`), 200,
		`"refund_status":"PROCESSING"`)
	want(t, li("POST", path, `{"type":"MERCHANT_BANK_CARD","reason":"again"}`), 409, "REFUND_NOT_POSSIBLE")
}

package console

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// unproved says of each act that is marked as dangerous, and asks for no password, why not.
var unproved = map[string]string{
	"order.close": "stock goes back by itself", "order.vouch": "takes two people", "refund.reject": "no money moves",
	"refund.cancel": "no money moves", "refund.byhand": "the money has gone another way",
	"gate.set": "moves no stock", "gate.buckets": "moves no stock", "gate.rebuild": "moves no stock",
	"webhook.disable": "can be enabled again", "task.discard": "the database has what is due",
	"tasks.discard": "the database has what is due", "bulk.stop": "bulk.resume goes on",
}

// An act that asks for the password sometimes is a rule that no table of routes shows: here is what asks always, what
// when, and that it then does.
func TestEveryActSaysWhenItAsksForThePassword(t *testing.T) {
	mustProve := []string{"stock.adjust", "webhook.rotate", "webhook.change", "webhook.remove", "webhook.add",
		"refund.tocard", "held.writeoff", "bulk.close", "bulk.approve",
		"bulk.resume"}
	known := map[string]bool{}
	for _, a := range (&console{}).formActs() {
		known[a.name] = true
		when := "never"
		switch {
		case a.stepUp == nil:
		case reflect.ValueOf(a.stepUp).Pointer() == reflect.ValueOf(always).Pointer():
			when = "always"
		default:
			when = "sometimes"
		}
		want := "never"
		switch {
		case slices.Contains(mustProve, a.name):
			want = "always"
		case sometimesProved[a.name].asks != nil:
			want = "sometimes"
		}
		if when != want {
			t.Errorf("%s asks for the password %s, want %s", a.name, when, want)
		}
		if (a.danger && when == "never") != (unproved[a.name] != "") {
			t.Errorf("%s is dangerous: %t, and asks %s: why, in the table of this test?", a.name, a.danger, when)
		}
	}
	for name := range unproved {
		if !known[name] {
			t.Errorf("there is no act %s", name)
		}
	}
	for name, c := range sometimesProved {
		if !known[name] {
			t.Errorf("there is no act %s", name)
		}
		for asked, begin := range map[bool]func(*testing.T) (*browser, string, []string){true: c.asks, false: c.free} {
			b, path, form := begin(t)
			b.d.Clock.Advance(operators.ProvedFor + time.Second)
			b.get(path) // the session is seen, and the proof of the password is old
			if w := b.post(path, form...); strings.Contains(w.Body.String(), "请再次输入密码") != asked {
				t.Errorf("%s: asked for the password: %t, want %t: %d %.300s", name, !asked, asked, w.Code, mainOf(w))
			}
		}
	}
}

// sometimesProved are the acts that ask for the password by what they are about, with one of which they do and one of
// which they do not: who, where, and what is sent.
var sometimesProved = map[string]struct {
	asks, free func(t *testing.T) (*browser, string, []string)
}{
	// It goes by the whole payment: parts of it add up.
	"refund.approve": {approval("0.01", 3), approval("0.01", 1)},
	"held.refund":    {heldRefund(200), heldRefund(100)},
	"diff.resolve":   {resolution("WRITE_OFF"), resolution("APPLY_PAYMENT")},
}

// twoFrom is a desk of a shop in which 1.50 yuan and more take two people.
func twoFrom(t *testing.T) *desk {
	t.Helper()
	return newDeskOf(t, ordertest.NewWith(t, sqldbtest.SQLite(t),
		func(c *order.Config) { c.RefundTwoPersons = 150 }), nil)
}

// approval is that of a refund of so much, of an order of so many.
func approval(yuan string, units int64) func(t *testing.T) (*browser, string, []string) {
	return func(t *testing.T) (*browser, string, []string) {
		d := twoFrom(t)
		d.SKU(t, "mug", 9)
		no := d.PaidOne(t, "c1", "mug", units).OrderNo
		b := d.browser(t, "li", Operator)
		path := "/ui/orders/" + no + "/refund"
		leads(t, b.post(path, "key", hidden(t, b.get(path).Body.String(), "key"), "amount", yuan, "reason", "x"),
			"/ui/orders/"+no)
		o, err := d.Find(t.Context(), no)
		if err != nil || len(o.Refunds) != 1 {
			t.Fatal(o.Refunds, err)
		}
		f := d.browser(t, "fin", Finance)
		at := "/ui/refunds/" + o.Refunds[0].OutRefundNo + "/approve"
		return f, at, []string{"version", hidden(t, f.get(at).Body.String(), "version"), "reason", "同意"}
	}
}

// heldRefund sends held money of so many fen back.
func heldRefund(fen payment.Fen) func(t *testing.T) (*browser, string, []string) {
	return func(t *testing.T) (*browser, string, []string) {
		d := twoFrom(t)
		d.heldMoney(t, "4200001", fen)
		return d.browser(t, "fin", Finance), "/ui/held/4200001/refund", []string{"reason", "退还"}
	}
}

// resolution resolves a difference by an action.
func resolution(action string) func(t *testing.T) (*browser, string, []string) {
	return func(t *testing.T) (*browser, string, []string) {
		d, _, x := shortDay(t)
		b := d.browser(t, "ann", Finance)
		at := uiDiffs + "/" + x.ID + "/resolve"
		return b, at, []string{"action", action, "reason", "x", "seen", hidden(t, b.get(at).Body.String(), "seen")}
	}
}

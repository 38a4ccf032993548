package order_test

import (
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// What WeChat Pay says of the trade of another merchant or app closes nothing here and gives no stock back; it is an
// alarm. A second app id of the shop is configured, and then it is the shop's.
func TestACloseOfAnotherAppsTradeGivesNothingBack(t *testing.T) {
	for name, c := range map[string]struct {
		mch, app string
		want     order.State
	}{
		"another merchant": {"1999999999", ordertest.AppID, order.StateClosing},
		"another app":      {ordertest.MchID, "wxelse", order.StateClosing},
		"the app before":   {ordertest.MchID, "wxbefore", order.StateClosed},
		"ours":             {ordertest.MchID, ordertest.AppID, order.StateClosed},
	} {
		w := &closeAlarms{}
		eachWith(t, func(cfg *order.Config) { cfg.Observe, cfg.OtherAppIDs = w, []string{"wxbefore"} },
			func(t *testing.T, f *ordertest.Fixture) {
				w.all = nil
				f.SKU(t, "mug", 1)
				o := f.PlaceOne(t, "k", "mug", 1)
				no := f.Prepaid(t, o.OrderNo)
				f.WeChat.Before = func(op, _ string) error {
					if op == "query" {
						f.WeChat.Put(payment.Trade{OutTradeNo: no, State: payment.TradeClosed, MchID: c.mch,
							AppID: c.app})
					}
					return nil
				}
				f.Clock.Advance(31 * time.Minute)
				_ = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
				told := strings.Contains(strings.Join(w.all, "\n"), "answered about something else")
				if s := f.State(t, o.OrderNo); s != c.want || told != (c.want == order.StateClosing) {
					t.Errorf("%s: %s, alarms %q", name, s, w.all)
				}
			})
	}
}

// A trade that is first heard of as REFUND is paid, and some of it has gone back: that is an alarm and an event, and
// not a silent payment.
func TestATradeFirstHeardOfAsRefundIsAnAlarm(t *testing.T) {
	w := &closeAlarms{}
	eachWith(t, func(cfg *order.Config) { cfg.Observe = w }, func(t *testing.T, f *ordertest.Fixture) {
		w.all = nil
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "k", "mug", 1)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		trade.State = payment.TradeRefund
		if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(w.all, "\n"), "refunded elsewhere") {
			t.Errorf("alarms %q", w.all)
		}
		got, err := f.Find(t.Context(), o.OrderNo)
		if err != nil || got.State != order.StatePaid || got.Payment.RefundTold.IsZero() {
			t.Errorf("%+v", got)
		}
	})
}

// closeAlarms is alarms of an order that is closed too.
type closeAlarms struct{ alarms }

func (*closeAlarms) CloseAsked(string)      {}
func (*closeAlarms) Lateness(time.Duration) {}

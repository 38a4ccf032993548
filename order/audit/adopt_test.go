package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/ordertest"
	"orderd/payment"
)

// moody is a WeChat Pay that gives errors about some numbers.
type moody struct {
	*ordertest.Fixture
	about map[string]error
}

func (m moody) Query(ctx context.Context, no string) (payment.Trade, error) {
	if err := m.about[no]; err != nil {
		return payment.Trade{}, err
	}
	return m.WeChat.Query(ctx, no)
}

func (m moody) QueryRefund(ctx context.Context, no string) (payment.Refund, error) {
	if err := m.about[no]; err != nil {
		return payment.Refund{}, err
	}
	return m.WeChat.QueryRefund(ctx, no)
}

// adopt adopts with errors about some numbers, and gives "number outcome" of each.
func (m moody) adopt(t *testing.T, l audit.Lost, refund bool) ([]string, error) {
	t.Helper()
	a, err := audit.New(audit.Config{DB: m.DB, Orders: m.Service, Gateway: m, Now: m.Clock.Now, MchID: ordertest.MchID,
		AppID: ordertest.AppID})
	if err != nil {
		t.Fatal(err)
	}
	all, err := a.Adopt(t.Context(), l, audit.Adopting{Till: m.Service, Close: m.WeChat.Close, Refund: refund,
		Reason: "lost in the fail-over", Cause: ordertest.Finance})
	var what []string
	for _, one := range all {
		what = append(what, one.Number+" "+one.Outcome)
	}
	return what, err
}

// Numbers of trades are counted: one that was lost is made again by the next prepay of its order, and closing it then
// hands its buyer a dead one.
func TestWhatIsOursByNowIsNotClosed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewWith(t, db, byItself)
		f.SKU(t, "mug", 20)
		no := f.Prepaid(t, f.PlaceOne(t, "a", "mug", 1).OrderNo)
		what, err := moody{Fixture: f}.adopt(t, audit.Lost{Trades: []audit.LostTrade{{OutTradeNo: no}}}, false)
		if err != nil || !slices.Equal(what, []string{no + " ours"}) {
			t.Error(what, err)
		}
		if _, err := f.WeChat.Pay(no, false); err != nil {
			t.Error("its buyer cannot pay:", err)
		}
	})
}

// What cannot be taken in, at every repeat, must not keep the rest from it. Nothing goes back while a refund is not
// known that may be of the same money.
func TestOneFailureIsNotTheEndOfTheRest(t *testing.T) {
	f := ordertest.NewWith(t, sqldbtest.SQLite(t), byItself)
	lost := audit.Lost{Trades: []audit.LostTrade{{OutTradeNo: "A-01"}, {OutTradeNo: "B-01"}},
		Refunds: []audit.LostRefund{{OutRefundNo: "RA"}, {OutRefundNo: "RB"}}}
	rejected := &payment.GatewayError{Kind: payment.KindRejected, Code: "PARAM_ERROR"}
	what, err := moody{f, map[string]error{"A-01": rejected, "RA": rejected}}.adopt(t, lost, false)
	if want := []string{"A-01 failed", "B-01 nothing", "RA failed", "RB nothing"}; !slices.Equal(what, want) ||
		!errors.Is(err, error(rejected)) {
		t.Errorf("%v, %v; want %v", what, err, want)
	}
	for name, ends := range map[string]error{
		"the database": fmt.Errorf("x: %w", sqldb.ErrUnavailable),
		"our merchant": &payment.GatewayError{Kind: payment.KindMisconfigured},
	} {
		what, err := moody{f, map[string]error{"B-01": ends}}.adopt(t, lost, false)
		if !slices.Equal(what, []string{"A-01 nothing"}) || !errors.Is(err, ends) {
			t.Errorf("%s: %v, %v", name, what, err)
		}
	}
}

// A payment of a lost order whose refund could not be taken in is held: sent back, it would go back twice.
func TestNothingGoesBackWhileARefundIsUnknown(t *testing.T) {
	old := ordertest.NewWith(t, sqldbtest.SQLite(t), byItself)
	old.SKU(t, "mug", 20)
	o := old.PaidOne(t, "a", "mug", 1)
	refund := old.MustAsk(t, ordertest.Ask(o.OrderNo, "r", 1)).OutRefundNo
	old.MustLookAtRefund(t, refund)
	shop := *old
	shop.DB = sqldbtest.SQLite(t)
	f := shop.Restarted(t, byItself)
	lost := audit.Lost{Trades: []audit.LostTrade{{OutTradeNo: o.OrderNo + "-01"}},
		Refunds: []audit.LostRefund{{OutRefundNo: refund}}}
	rejected := &payment.GatewayError{Kind: payment.KindRejected, Code: "PARAM_ERROR"}
	for _, about := range []map[string]error{{refund: rejected}, {refund: sqldb.ErrLostRace}} {
		what, err := moody{f, about}.adopt(t, lost, true)
		if len(what) != 2 || what[0] == o.OrderNo+"-01 "+string(order.SettledOwed) || err == nil {
			t.Error(what, err)
		}
	}
	if what, err := (moody{Fixture: f}).adopt(t, lost, true); err != nil || len(what) != 2 {
		t.Error(what, err)
	}
	f.AssertVerified(t)
}

// Two shops of one merchant number, or a test's and the live one, know other numbers: what the other alone has is not
// lost, and its trades must not be closed. Only a copy, which was born with ours, can have lost something.
func TestOnlyACopyIsComparedWith(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f, other := ordertest.NewWith(t, db, byItself), ordertest.NewWith(t, sqldbtest.SQLite(t), byItself)
		other.SKU(t, "mug", 20)
		other.PlaceOne(t, "a", "mug", 1)
		err := other.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE goose_db_version SET tstamp = '2020-01-01 00:00:00'")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		l, err := f.Audit.Against(t.Context(), other.DB, nil)
		if !errors.Is(err, sqldb.ErrNoCopy) || l.Any() {
			t.Errorf("another shop's orders are lost: %+v, %v", l, err)
		}
		if _, err := other.Audit.Against(t.Context(), other.DB, nil); err != nil {
			t.Error("itself:", err)
		}
	})
}

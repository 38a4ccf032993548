package shipping_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/shipping"
)

func TestMain(m *testing.M) { sqldbtest.NoLeaks(m) }

// reporter is a Reporter that answers what a test wants.
type reporter struct {
	mu      sync.Mutex
	uploads []shipping.Upload
	answers []any // shipping.Verdict or error, one a call; the last one again
	status  shipping.Status
	before  func()
}

func (w *reporter) Upload(_ context.Context, u shipping.Upload) (shipping.Verdict, error) {
	if w.before != nil {
		w.before()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.uploads = append(w.uploads, u)
	answer := w.answers[0]
	if len(w.answers) > 1 {
		w.answers = w.answers[1:]
	}
	if v, ok := answer.(shipping.Verdict); ok {
		return v, nil
	}
	return shipping.Verdict{}, answer.(error)
}

func (w *reporter) Status(context.Context, string) (shipping.Status, error) { return w.status, nil }

// alarms remembers what operators were told.
type alarms struct {
	mu  sync.Mutex
	all []string
}

func (a *alarms) Shipping(string) {}

func (a *alarms) Alarm(what, orderNo, _ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, what+" "+orderNo)
}

// shop is a mini program's.
type shop struct {
	*ordertest.Fixture
	*shipping.Service
	w *reporter
	a *alarms
}

func open(t *testing.T, db *sqldb.DB) *shop {
	t.Helper()
	s := &shop{w: &reporter{answers: []any{shipping.Verdict{Means: shipping.Taken}}}, a: &alarms{}}
	s.Fixture = ordertest.NewWith(t, db, func(c *order.Config) {
		var err error
		s.Service, err = shipping.New(shipping.Config{DB: db, Reporter: s.w, AppID: c.AppID, Now: c.Now, Observe: s.a})
		if err != nil {
			t.Fatal(err)
		}
		c.Shipments = s.Service
	})
	s.SKU(t, "mug", 100)
	return s
}

// paid is an order that was paid in the mini program.
func (s *shop) paid(t *testing.T, request string) string {
	t.Helper()
	o := s.PlaceOne(t, request, "mug", 1)
	p, err := s.Prepay(t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c", TradeType: payment.JSAPI,
		OpenID: "buyer-" + request, Cause: ordertest.Customer})
	if err != nil {
		t.Fatal(err)
	}
	trade, err := s.WeChat.Pay(p.OutTradeNo, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Settle(t.Context(), trade, ordertest.Notified); err != nil || got.Settled != order.SettledApplied {
		t.Fatal(got, err)
	}
	return o.OrderNo
}

func (s *shop) find(t *testing.T, no string) shipping.Shipment {
	t.Helper()
	sh, ok, err := s.Service.Find(t.Context(), no)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return sh
}

func (s *shop) put(t *testing.T, no, number string) shipping.Shipment {
	t.Helper()
	sh, err := s.Put(t.Context(), parcel(no, number))
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func (s *shop) pass(t *testing.T) {
	t.Helper()
	if _, err := s.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func parcel(no, number string) shipping.Put {
	return shipping.Put{OrderNo: no, By: "olga", Content: shipping.Content{Way: shipping.Express,
		Parcels: []shipping.Parcel{{Carrier: "YTO", Number: number, Goods: "蓝色马克杯*1"}}}}
}

// An order that was paid in the mini program is owed a shipment from the moment at which it is paid; other ways to pay
// owe none.
func TestPaidInTheMiniProgramIsOwed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		no := s.paid(t, "a")
		other := s.PaidOne(t, "b", "mug", 1) // a QR code
		sh := s.find(t, no)
		if sh.State != shipping.StateOwed || sh.TransactionID == "" || sh.PaidAt.IsZero() {
			t.Errorf("%+v", sh)
		}
		if left := sh.Left(s.Clock.Now()); left != 48*time.Hour {
			t.Errorf("%s are left", left)
		}
		if _, ok, err := s.Service.Find(t.Context(), other.OrderNo); ok || err != nil {
			t.Error(ok, err)
		}
		if _, err := s.Put(t.Context(), parcel(other.OrderNo, "1")); !errors.Is(err, shipping.ErrNotOwed) {
			t.Error(err)
		}
		unpaid := s.PlaceOne(t, "c", "mug", 1)
		if _, err := s.Put(t.Context(), parcel(unpaid.OrderNo, "1")); !errors.Is(err, shipping.ErrNotOwed) {
			t.Error(err)
		}
	})
}

// What is sent is reported once, a minute after the payment, with who paid.
func TestShipmentIsReported(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		no := s.paid(t, "a")
		first := s.put(t, no, "YT1")
		if again := s.put(t, no, "YT1"); again.Version != first.Version {
			t.Errorf("the same content is version %d, was %d", again.Version, first.Version)
		}
		s.pass(t)
		if len(s.w.uploads) != 0 {
			t.Fatal("reported before WeChat knows the payment")
		}
		s.Clock.Advance(time.Minute)
		s.pass(t)
		s.pass(t)
		if len(s.w.uploads) != 1 || s.w.uploads[0].OpenID != "buyer-a" ||
			s.w.uploads[0].Content.Parcels[0].Number != "YT1" {
			t.Fatalf("%+v", s.w.uploads)
		}
		if sh := s.find(t, no); sh.State != shipping.StateReported || !sh.DueAt.IsZero() || sh.Tries != 1 {
			t.Errorf("%+v", sh)
		}
	})
}

// No answer moves nothing and is asked again; a refusal waits for a person, who mends it.
func TestAnswersOfAReport(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		no := s.paid(t, "a")
		s.put(t, no, "YT1")
		s.w.answers = []any{errors.New("cut"), shipping.Verdict{Code: 10060001, Means: shipping.Later},
			shipping.Verdict{Code: 40001, Means: shipping.Stale},
			shipping.Verdict{Code: 10060012, Means: shipping.Later},
			shipping.Verdict{Code: 10060009, Message: "商品描述太长", Means: shipping.Refused},
			shipping.Verdict{Means: shipping.Taken}}
		for i, want := range []int{1, 2, 4, 5} { // the third token is fetched again at once
			s.Clock.Advance(time.Hour)
			s.pass(t)
			s.pass(t) // its turn has not come again
			if len(s.w.uploads) != want {
				t.Fatalf("pass %d: %d calls, want %d", i, len(s.w.uploads), want)
			}
		}
		sh := s.find(t, no)
		if sh.State != shipping.StateRefused || sh.Code != 10060009 || !strings.Contains(sh.Message, "太长") {
			t.Errorf("%+v", sh)
		}
		if len(s.a.all) != 1 || !strings.Contains(s.a.all[0], no) {
			t.Errorf("operators were told %q", s.a.all)
		}
		s.put(t, no, "YT1") // the same content may be tried again by a person
		s.pass(t)
		if sh := s.find(t, no); sh.State != shipping.StateReported {
			t.Errorf("%+v", sh)
		}
	})
}

// What WeChat has, or takes no more, is looked at: the answer to a lost answer.
func TestWeChatHasItAlready(t *testing.T) {
	for status, want := range map[shipping.Status]shipping.State{
		shipping.StatusSent: shipping.StateReported, shipping.StatusDone: shipping.StateReported,
		shipping.StatusRefunded: shipping.StateVoid, shipping.StatusWaiting: shipping.StateRefused,
	} {
		s := open(t, sqldbtest.SQLite(t))
		no := s.paid(t, "a")
		s.put(t, no, "YT1")
		s.w.answers, s.w.status = []any{shipping.Verdict{Code: 10060002, Means: shipping.Look}}, status
		s.Clock.Advance(time.Minute)
		s.pass(t)
		if sh := s.find(t, no); sh.State != want {
			t.Errorf("status %d: %s, want %s", status, sh.State, want)
		}
	}
}

// WeChat takes one replacement of what it has, and what it does not have yet may change at any time.
func TestReplacedContents(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		no := s.paid(t, "a")
		s.Clock.Advance(time.Minute)
		s.put(t, no, "YT1")
		s.put(t, no, "YT2")
		s.pass(t)
		s.put(t, no, "YT3")
		s.pass(t)
		if _, err := s.Put(t.Context(), parcel(no, "YT4")); !errors.Is(err, shipping.ErrReshipped) {
			t.Errorf("a second replacement: %v", err)
		}
		var sent []string
		for _, u := range s.w.uploads {
			sent = append(sent, u.Content.Parcels[0].Number)
		}
		if fmt.Sprint(sent) != "[YT2 YT3]" {
			t.Errorf("reported %v", sent)
		}
	})
}

// parts is a content of so many parcels; partial: more is to come.
func parts(n int, partial bool) shipping.Content {
	c := shipping.Content{Way: shipping.Express, Partial: partial}
	for i := range n {
		c.Parcels = append(c.Parcels, shipping.Parcel{Carrier: "YTO", Number: fmt.Sprint("YT", i), Goods: "杯"})
	}
	return c
}

// WeChat counts as 重新发货 what comes after the whole, and another way or mode: the parts of an order are none, however
// many there are.
func TestPartsAreNoReplacement(t *testing.T) {
	for name, c := range map[string]struct {
		contents []shipping.Content
		last     error
	}{
		"five parts": {[]shipping.Content{parts(1, true), parts(2, true), parts(3, true), parts(4, true),
			parts(5, false)}, nil},
		"one of several": {[]shipping.Content{parts(1, true)}, nil},
		"and one replacement": {[]shipping.Content{parts(1, true), parts(2, true), parts(3, false), parts(4, false)},
			nil},
		"and a second one": {[]shipping.Content{parts(1, true), parts(2, false), parts(3, false), parts(4, false)},
			shipping.ErrReshipped},
		"a part that is all, which is another mode, and a replacement": {[]shipping.Content{parts(1, true),
			parts(1, false), parts(2, false)}, shipping.ErrReshipped},
		"another way, and a replacement": {[]shipping.Content{parts(2, true),
			{Way: shipping.City, Parcels: []shipping.Parcel{{Goods: "杯"}}}, parts(2, false)}, shipping.ErrReshipped},
	} {
		s := open(t, sqldbtest.SQLite(t))
		no := s.paid(t, "a")
		s.Clock.Advance(time.Minute)
		for i, content := range c.contents {
			_, err := s.Put(t.Context(), shipping.Put{OrderNo: no, Content: content, By: "olga"})
			if last := i == len(c.contents)-1; !last && err != nil || last && !errors.Is(err, c.last) {
				t.Errorf("%s: content %d: %v", name, i+1, err)
			}
			s.pass(t)
			if _, err := s.Put(t.Context(), shipping.Put{OrderNo: no, Content: content}); err != nil && c.last == nil {
				t.Errorf("%s: content %d again: %v", name, i+1, err)
			}
			s.pass(t)
		}
		want := len(c.contents)
		if c.last != nil {
			want--
		}
		if len(s.w.uploads) != want {
			t.Errorf("%s: %d calls, want %d", name, len(s.w.uploads), want)
		}
	}
}

// An order of which more is to come is not sent: it stays owed, is listed and counted, and operators hear of it, at
// 36 hours after the payment, or when that is over six hours after its part.
func TestTheRestIsOwed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		no := s.paid(t, "a")
		put := func(content shipping.Content) {
			t.Helper()
			if _, err := s.Put(t.Context(), shipping.Put{OrderNo: no, Content: content, By: "olga"}); err != nil {
				t.Fatal(err)
			}
			s.pass(t)
		}
		listed := func() int {
			t.Helper()
			rows, _, err := s.Service.List(t.Context(), shipping.StateOwed, "", 10)
			b, e := s.Backlog(t.Context())
			if err != nil || e != nil || b.Owed != int64(len(rows)) {
				t.Fatal(b, err, e)
			}
			return len(rows)
		}
		s.Clock.Advance(time.Minute)
		put(parts(1, true))
		if sh := s.find(t, no); sh.State != shipping.StateOwed || listed() != 1 ||
			!sh.DueAt.Equal(sh.PaidAt.Add(36*time.Hour)) {
			t.Fatalf("after the first part: %+v", sh)
		}
		s.Clock.Advance(36 * time.Hour)
		s.pass(t)
		s.pass(t)
		if len(s.a.all) != 1 || s.a.all[0] != "shipping: the rest of a paid order is not sent "+no {
			t.Errorf("%q", s.a.all)
		}
		put(parts(2, true))
		s.Clock.Advance(6*time.Hour - time.Second)
		s.pass(t)
		if len(s.a.all) != 1 {
			t.Errorf("too early: %q", s.a.all)
		}
		s.Clock.Advance(time.Second)
		s.pass(t)
		if len(s.a.all) != 2 {
			t.Errorf("%q", s.a.all)
		}
		put(parts(3, false))
		s.Clock.Advance(24 * time.Hour)
		s.pass(t)
		if sh := s.find(t, no); sh.State != shipping.StateReported || listed() != 0 || len(s.a.all) != 2 {
			t.Errorf("%+v, %q", sh, s.a.all)
		}
	})
}

// A content that is put while an older one is under way is reported after it, and the answer about the older one says
// nothing of it.
func TestAnswerAboutAnOlderContent(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		no := s.paid(t, "a")
		s.put(t, no, "YT1")
		s.Clock.Advance(time.Minute)
		var once sync.Once
		s.w.before = func() { once.Do(func() { s.put(t, no, "YT2") }) }
		s.pass(t)
		sh := s.find(t, no)
		if sh.State != shipping.StateDue || !sh.DueAt.After(s.Clock.Now().Add(30*time.Second)) {
			t.Fatalf("after the answer about the older one: %+v", sh)
		}
		s.Clock.Advance(time.Minute)
		s.pass(t)
		sent := s.w.uploads[1].Content.Parcels[0].Number
		if sh := s.find(t, no); sh.State != shipping.StateReported || sent != "YT2" {
			t.Errorf("%+v, %+v", sh, s.w.uploads)
		}
	})
}

// Two workers make one call.
func TestTwoWorkersReportOnce(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		for i := range 20 {
			s.put(t, s.paid(t, fmt.Sprint("a", i)), fmt.Sprint("YT", i))
		}
		s.Clock.Advance(time.Minute)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { s.pass(t) })
		}
		all.Wait()
		if len(s.w.uploads) != 20 {
			t.Errorf("%d calls for 20 shipments", len(s.w.uploads))
		}
	})
}

// Operators hear of what nobody sends after 36 hours, and again, and not of what went back.
func TestNobodySendsIt(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		no, back := s.paid(t, "a"), s.paid(t, "b")
		r := s.MustAsk(t, ordertest.Ask(back, "k", 1))
		s.MustDecide(t, r.OutRefundNo, order.RefundEventApprove, ordertest.Finance)
		s.MustLookAtRefund(t, r.OutRefundNo)
		s.MustSettleRefund(t, s.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
		s.pass(t)
		if len(s.a.all) != 0 {
			t.Errorf("too early: %q", s.a.all)
		}
		s.Clock.Advance(36 * time.Hour)
		s.pass(t)
		s.pass(t)
		if len(s.a.all) != 1 || !strings.Contains(s.a.all[0], no) {
			t.Errorf("%q", s.a.all)
		}
		if sh := s.find(t, back); sh.State != shipping.StateVoid || !sh.DueAt.IsZero() {
			t.Errorf("%+v", sh)
		}
		if _, err := s.Put(t.Context(), parcel(back, "1")); !errors.Is(err, shipping.ErrNotOwed) {
			t.Error(err)
		}
		s.Clock.Advance(6 * time.Hour)
		s.pass(t)
		if len(s.a.all) != 2 {
			t.Errorf("%q", s.a.all)
		}
		s.Clock.Advance(31 * 24 * time.Hour)
		s.pass(t)
		told := len(s.a.all)
		s.Clock.Advance(31 * 24 * time.Hour)
		s.pass(t)
		if sh := s.find(t, no); len(s.a.all) != told || !sh.DueAt.IsZero() {
			t.Errorf("told for ever: %q, %+v", s.a.all, sh)
		}
	})
}

// A report that is never answered ends with a person.
func TestReportThatIsNeverAnswered(t *testing.T) {
	s := open(t, sqldbtest.SQLite(t))
	no := s.paid(t, "a")
	s.put(t, no, "YT1")
	s.w.answers = []any{errors.New("silence")}
	for range 31 {
		s.Clock.Advance(24 * time.Hour)
		s.pass(t)
	}
	if sh := s.find(t, no); sh.State != shipping.StateRefused || !sh.DueAt.IsZero() || sh.Tries != 31 {
		t.Errorf("%+v", sh)
	}
}

// Pages have everything once, what was paid first before the others.
func TestListPages(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		var want []string
		for i := range 5 {
			want = append(want, s.paid(t, fmt.Sprint("a", i)))
			s.Clock.Advance(time.Second)
		}
		var got []string
		for cursor := ""; ; {
			page, next, err := s.Service.List(t.Context(), shipping.StateOwed, cursor, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, sh := range page {
				got = append(got, sh.OrderNo)
			}
			if cursor = next; next == "" {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		_, _, err := s.Service.List(t.Context(), shipping.StateOwed, "nonsense", 2)
		if !errors.Is(err, bounds.ErrCursor) {
			t.Error(err)
		}
		b, err := s.Service.Backlog(t.Context())
		if err != nil || b.Owed != 5 || b.Due != 0 || b.OldestOwed != s.find(t, want[0]).PaidAt {
			t.Errorf("%+v, %v", b, err)
		}
	})
}

func TestContentCheck(t *testing.T) {
	with := func(change func(*shipping.Content)) error {
		c := parcel("", "YT1").Content
		change(&c)
		return c.Check()
	}
	goods := func(n int) func(*shipping.Content) {
		return func(c *shipping.Content) { c.Parcels[0].Goods = strings.Repeat("杯", n) }
	}
	contact := func(carrier, text string) func(*shipping.Content) {
		return func(c *shipping.Content) { c.Parcels[0].Carrier, c.Parcels[0].Contact = carrier, text }
	}
	for name, err := range map[string]error{
		"120 characters":  with(goods(120)),
		"a masked number": with(contact("SF", "189****1234")),
		"as it is":        with(func(*shipping.Content) {}),
		"15 parcels":      with(func(c *shipping.Content) { *c = parts(15, false) }),
		"picked up": with(func(c *shipping.Content) {
			c.Way, c.Parcels = shipping.PickUp, []shipping.Parcel{{Goods: "杯"}}
		}),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"way":      with(func(c *shipping.Content) { c.Way = 5 }),
		"parcels":  with(func(c *shipping.Content) { c.Parcels = nil }),
		"parcels ": with(func(c *shipping.Content) { *c = parts(16, false) }),
		"parcels  ": with(func(c *shipping.Content) { // more than the column has room for
			*c = parts(15, false)
			for i := range c.Parcels {
				c.Parcels[i].Goods = strings.Repeat(`"`, 120)
				c.Parcels[i].Number, c.Parcels[i].Carrier = strings.Repeat("1", 128), strings.Repeat("A", 128)
				c.Parcels[i].Contact = strings.Repeat("*", 60) + "1234"
			}
		}),
		"parcels[0].goods":    with(goods(121)),
		"parcels[0].number":   with(func(c *shipping.Content) { c.Parcels[0].Number = "a b" }),
		"parcels[0].carrier":  with(func(c *shipping.Content) { c.Parcels[0].Carrier = "" }),
		"parcels[0].contact ": with(contact("SF", "")),
		"parcels[0].contact":  with(contact("YTO", "18912341234")), // nobody's whole number
		"partial": with(func(c *shipping.Content) {
			c.Way, c.Partial, c.Parcels = shipping.Virtual, true, []shipping.Parcel{{Goods: "杯"}}
		}),
	} {
		var bad *shipping.InvalidError
		if !errors.As(err, &bad) || bad.Field != strings.TrimSpace(name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What WeChat would refuse is refused when it is said, by the field, and nothing that it takes is.
func TestParcelsAreWithinTheirBounds(t *testing.T) {
	said := func(change func(p *shipping.Parcel)) string {
		c := shipping.Content{Way: shipping.Express, Parcels: []shipping.Parcel{{Carrier: "YTO", Number: "YT1",
			Goods: "mug"}}}
		change(&c.Parcels[0])
		var bad *shipping.InvalidError
		if err := c.Check(); errors.As(err, &bad) {
			return bad.Field
		} else if err != nil {
			t.Error(err)
		}
		return ""
	}
	for _, f := range []struct {
		name  string
		of    bounds.Field
		runes []string
		set   func(p *shipping.Parcel, s string)
	}{
		{"goods", bounds.Goods, []string{"a", "é", "杯", "🏺"}, func(p *shipping.Parcel, s string) { p.Goods = s }},
		{"carrier", bounds.Carrier, []string{"A"}, func(p *shipping.Parcel, s string) { p.Carrier = s }},
		{"number", bounds.ParcelNo, []string{"1"}, func(p *shipping.Parcel, s string) { p.Number = s }},
	} {
		wrong := "parcels[0]." + f.name
		for _, r := range f.runes {
			for n, want := range map[int]string{0: wrong, 1: "", f.of.Most - 1: "", f.of.Most: "",
				f.of.Most + 1: wrong} {
				if got := said(func(p *shipping.Parcel) { f.set(p, strings.Repeat(r, n)) }); got != want {
					t.Errorf("%s of %d %q: %q, want %q", f.name, n, r, got, want)
				}
			}
		}
		for _, bad := range []string{"a\x1b[2J", "a\u202eb", "a\nb", "\xff"} {
			if got := said(func(p *shipping.Parcel) { f.set(p, bad) }); got != wrong {
				t.Errorf("%s %q: %q", f.name, bad, got)
			}
		}
	}
	for contact, want := range map[string]string{"": "", "189****1234": "", "1*1234": "",
		"18912341234": "parcels[0].contact", "189****12*4": "parcels[0].contact", "1234": "parcels[0].contact",
		strings.Repeat("*", bounds.Contact.Most-3) + "1234": "parcels[0].contact"} {
		if got := said(func(p *shipping.Parcel) { p.Contact = contact }); got != want {
			t.Errorf("contact %q: %q, want %q", contact, got, want)
		}
	}
}

// hand changes rows as a person at the prompt does.
func hand(t *testing.T, db *sqldb.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Pool().ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// One row whose content nobody can read must not keep the others from being reported, and is a person's.
func TestNeighboursOfADamagedShipment(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		bad, good := s.paid(t, "a"), s.paid(t, "b")
		s.put(t, bad, "YT1111111111")
		s.put(t, good, "YT2222222222")
		hand(t, db, "UPDATE shipments SET content = '{' WHERE order_no = ?", bad)
		s.Clock.Advance(2 * time.Minute)
		s.pass(t)
		a, b := s.find(t, bad), s.find(t, good)
		if a.State != shipping.StateRefused || b.State != shipping.StateReported {
			t.Errorf("the damaged one is %s (%s), its neighbour %s", a.State, a.Message, b.State)
		}
		if all, _, err := s.Service.List(t.Context(), shipping.StateRefused, "", 10); err != nil || len(all) != 1 {
			t.Errorf("%d in the list, %v", len(all), err)
		}
		s.put(t, bad, "YT3333333333") // the way out
		s.pass(t)
		if st := s.find(t, bad).State; st != shipping.StateReported {
			t.Errorf("mended, it is %s", st)
		}
	})
}

// Nor may the locked row of another order, be it due or not sent by anybody.
func TestNeighboursOfALockedShipment(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	s := open(t, db)
	unsent, locked := s.paid(t, "a"), s.paid(t, "b")
	s.Clock.Advance(40 * time.Hour)
	good := s.paid(t, "c")
	s.put(t, locked, "YT1111111111")
	s.put(t, good, "YT2222222222")
	s.Clock.Advance(2 * time.Minute)
	held, err := db.Pool().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.ExecContext(t.Context(), "UPDATE shipments SET code = 1 WHERE order_no IN (?, ?)", unsent,
		locked); err != nil {
		t.Fatal(err)
	}
	begin := time.Now() // durations only
	s.pass(t)
	if st, took := s.find(t, good).State, time.Since(begin); st != shipping.StateReported || took > 10*time.Second {
		t.Errorf("%s after %s, because its neighbours are locked", st, took)
	}
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	s.pass(t)
	if st := s.find(t, locked).State; st != shipping.StateReported || len(s.a.all) != 1 {
		t.Errorf("once it is free: %s, %q", st, s.a.all)
	}
}

// A shipment that is there before its order is paid (a restore, a hand) must not keep money from being recorded.
func TestAShipmentKeepsNoMoneyOut(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := open(t, db)
		o := s.PlaceOne(t, "a", "mug", 1)
		p, err := s.Prepay(t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c",
			TradeType: payment.JSAPI, OpenID: "buyer", Cause: ordertest.Customer})
		if err != nil {
			t.Fatal(err)
		}
		hand(t, db, `INSERT INTO shipments
  (order_no, state, transaction_id, out_trade_no, paid_at, content, put_at, due_at, message, put_by, created_at,
   updated_at)
VALUES (?, 'void', '42', ?, 1, '', 0, NULL, '', '', 1, 1)`, o.OrderNo, p.OutTradeNo)
		trade, err := s.WeChat.Pay(p.OutTradeNo, false)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Settle(t.Context(), trade, ordertest.Notified)
		if st := s.State(t, o.OrderNo); st != order.StatePaid || len(s.a.all) == 0 {
			t.Errorf("%s: %v, %q", st, err, s.a.all)
		}
		hand(t, db, "DELETE FROM shipments WHERE transaction_id = '42'")
	})
}

// A page far down the list read all pages before it.
func TestShipmentsAreReadByIndex(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		sqldbtest.ReadsPageBy(t, db, "ix_shipments_paid", false, shipping.ListQuery, "owed", 1, 1, "x", 51)
		if db.Engine() == sqldb.SQLite {
			steps, err := db.Explain(t.Context(), shipping.ListQuery, "owed", 1, 1, "x", 51)
			if err != nil || !strings.Contains(steps[0], "paid_at>?") {
				t.Errorf("the index is not entered at the cursor: %v %v", steps, err)
			}
		}
	})
}

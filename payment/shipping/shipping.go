package shipping

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
)

// State is where a shipment is: see the package's text.
type State string

// The states of a shipment.
const (
	StateOwed     State = "owed"
	StateDue      State = "due"
	StateReported State = "reported"
	StateRefused  State = "refused"
	StateVoid     State = "void"
)

// States are all of them.
var States = []State{StateOwed, StateDue, StateReported, StateRefused, StateVoid}

// Way is how goods go to the buyer, as WeChat's logistics_type counts it.
type Way int

// The ways.
const (
	Express Way = 1 // 物流配送: each parcel has a carrier and a number
	City    Way = 2 // 同城配送
	Virtual Way = 3 // 虚拟商品: nothing is sent
	PickUp  Way = 4 // 用户自提
)

// wayNames are the ways as the API and the command line name them.
var wayNames = map[Way]string{Express: "express", City: "city", Virtual: "virtual", PickUp: "pickup"}

// String gives the name of a way.
func (w Way) String() string { return wayNames[w] }

// ParseWay reads the name of a way, 0 for none of them.
func ParseWay(name string) Way {
	for w, n := range wayNames {
		if n == name {
			return w
		}
	}
	return 0
}

// Parcel is one thing that was sent. Bounds are those of WeChat's document.
type Parcel struct {
	// Carrier is WeChat's id of the express company (get_delivery_list), such as SF; Number
	// the parcel's. Both only with Express.
	Carrier string `json:"carrier,omitempty"`
	Number  string `json:"number,omitempty"`
	// Goods is what is in it, for the buyer: 1 to 120 characters.
	Goods string `json:"goods"`
	// Contact is the masked telephone number of the receiver, its last four digits
	// readable (189****1234). SF demands it.
	Contact string `json:"contact,omitempty"`
}

// Content is what is reported of a shipment.
type Content struct {
	Way     Way      `json:"way"`
	Parcels []Parcel `json:"parcels"`
	// Partial says that more is to come (分拆发货). Only express goods come in parts, and
	// WeChat has the order sent when a content has come that is not partial; each one has
	// the parcels of those before it, too.
	Partial bool `json:"partial,omitempty"`
}

// split is WeChat's delivery_mode SPLIT_DELIVERY: in several parcels, sooner or later.
func (c *Content) split() bool { return len(c.Parcels) > 1 || c.Partial }

// Shipment is a row. Times that have not come are zero.
type Shipment struct {
	OrderNo       string
	State         State
	TransactionID string
	OutTradeNo    string
	PaidAt        time.Time
	Content       Content
	PutAt         time.Time // when the shop said so; WeChat puts contents in order by it
	Version       int64     // of the content: 0 while there is none
	Tries         int64     // calls for this content
	// DueAt is when WeChat is told (due), or when operators are told that nothing was sent,
	// or not all of it (owed); zero: never again.
	DueAt time.Time
	// Code and Message are WeChat's last answer, 0 without one.
	Code      int64
	Message   string
	By        string // who said what was sent
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Left is how long operators have until WeChat's 48 hours from the payment are over;
// negative after it.
func (s *Shipment) Left(now time.Time) time.Duration { return s.PaidAt.Add(shipWithin).Sub(now) }

// Bounds, all of WeChat's document unless said otherwise.
const (
	// MaxParcels: "一笔支付单最多分拆成 15 个包裹" (10060024); it was 10 until 2025.
	MaxParcels = 15
	// maxContent is the width of shipments.content, in characters of its JSON: ours.
	maxContent = 8000
	// shipWithin: "48 小时内发货".
	shipWithin = 48 * time.Hour
	// tellAfter is when operators are told of a paid order that nobody has sent, counted
	// from the payment: half a day before shipWithin is over.
	tellAfter = 36 * time.Hour
	// knownAfter is when WeChat's shipping service knows a payment, by its staff: 1 min.
	knownAfter = time.Minute
	// giveUpAfter ends the tries of a content, and the telling of what nobody sends, counted
	// from the payment: by then WeChat has refused the shop's money for weeks.
	giveUpAfter = 30 * 24 * time.Hour
	// maxReships is how often a content may be 重新发货 (10060003; see reship).
	maxReships = 1
)

// Errors of Put. Anything else is the database's.
var (
	// ErrNotOwed: no payment of this order is owed a shipment; it is not paid, not by the
	// mini program, or its money went back.
	ErrNotOwed = errors.New("this order has no shipment to report: it is not paid in the mini program, " +
		"or its money went back")
	// ErrVersion: Put.IfVersion is not the shipment's: somebody has said something else since it was read.
	ErrVersion = errors.New("what was sent has been changed since it was read; read it again")
	// ErrReshipped: WeChat has a second content already, and takes no third.
	ErrReshipped = errors.New("what was sent has been replaced once already; WeChat takes no second replacement")
)

// InvalidError is a content that WeChat would refuse.
type InvalidError struct {
	Field string // as in the API: "parcels[0].goods"
	Why   string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Why }

// Check refuses what WeChat would refuse, with the field.
func (c *Content) Check() error {
	switch {
	case wayNames[c.Way] == "":
		return &InvalidError{"way", "want express, city, virtual or pickup"}
	case len(c.Parcels) == 0 || len(c.Parcels) > MaxParcels:
		return &InvalidError{"parcels", fmt.Sprintf("want 1 to %d", MaxParcels)}
	case c.Way != Express && len(c.Parcels) > 1:
		return &InvalidError{"parcels", "only express goods come in several parcels"}
	case c.Partial && c.Way != Express:
		return &InvalidError{"partial", "only express goods come in parts"}
	}
	for i, p := range c.Parcels {
		field := func(name string) string { return fmt.Sprintf("parcels[%d].%s", i, name) }
		parts := []part{{"goods", p.Goods, &bounds.Goods}}
		if c.Way == Express {
			parts = append(parts, part{"carrier", p.Carrier, &bounds.Carrier},
				part{"number", p.Number, &bounds.ParcelNo})
		}
		for _, part := range parts {
			if wrong := part.of.Check(part.text); wrong != nil {
				return &InvalidError{field(part.name), wrong.Detail}
			}
		}
		switch {
		case c.Way != Express && (p.Carrier != "" || p.Number != ""):
			return &InvalidError{field("carrier"), "only express parcels have a carrier and a number"}
		case !contact(p.Contact):
			return &InvalidError{field("contact"), "want a masked telephone number such as 189****1234"}
		case p.Carrier == "SF" && p.Contact == "":
			return &InvalidError{field("contact"), "SF parcels need the receiver's masked telephone number"}
		}
	}
	text, err := c.encode()
	if n := utf8.RuneCountInString(text); err == nil && n > maxContent {
		err = &InvalidError{"parcels", fmt.Sprintf("they have %d characters together, want at most %d", n, maxContent)}
	}
	return err
}

// part is one text of a parcel, and its bound.
type part struct {
	name, text string
	of         *bounds.Field
}

// contact is "", or digits, +, - and stars that end in four digits and hide something: a
// whole number is nobody's business here (WeChat: 采用掩码传输，最后4位数字不能打掩码).
func contact(s string) bool {
	if s == "" {
		return true
	}
	if !bounds.Contact.Fits(s) {
		return false
	}
	masked, last := s[:len(s)-4], s[len(s)-4:]
	return strings.Contains(masked, "*") && payment.MadeOf(masked, "0123456789*+-") &&
		payment.MadeOf(last, "0123456789")
}

// encode gives a content as it is stored, equal for equal contents.
func (c *Content) encode() (string, error) {
	b, err := json.Marshal(c)
	return string(b), err
}

// reship reports that c, reported after what WeChat has, is 重新发货 by WeChat's document:
// that was the whole of it (已完成发货), or the way or the delivery mode is another one.
// Another part is none.
func (c *Content) reship(has *Content) bool {
	return !has.Partial || c.Way != has.Way || c.split() != has.split()
}

// Reporter is WeChat's side; *Client implements it.
type Reporter interface {
	// Upload reports a content. The error is a call without an answer; an answer of WeChat
	// is a Verdict, whatever it says.
	Upload(ctx context.Context, u Upload) (Verdict, error)
	// Status asks what WeChat has of a payment.
	Status(ctx context.Context, transactionID string) (Status, error)
}

// Upload is one report.
type Upload struct {
	TransactionID string
	OpenID        string
	Content       Content
	At            time.Time // upload_time: a later one replaces an earlier one
}

// Observer is told what became of reports; nil fields of an app's metrics are its own.
type Observer interface {
	// Shipping counts a call by its outcome, one of Outcomes.
	Shipping(outcome string)
	// Alarm is order.Observer's.
	Alarm(what, orderNo, detail string)
}

// Config is what a Service needs. DB and Now are required; Reporter and AppID only for
// Run and Expect.
type Config struct {
	DB       *sqldb.DB
	Reporter Reporter
	// AppID is the mini program's: a payment of another app is owed no shipment.
	AppID   string
	Now     func() time.Time // the database's clock
	Log     *slog.Logger
	Observe Observer
	// Pace divides the waits, for tests; 0 is 1.
	Pace int
}

// Service keeps the shipments of one mini program.
type Service struct{ cfg Config }

// New makes a service.
func New(c Config) (*Service, error) {
	if c.DB == nil || c.Now == nil {
		return nil, errors.New("shipping: Config needs DB and Now")
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Pace = max(c.Pace, 1)
	if c.Observe == nil {
		c.Observe = silent{}
	}
	return &Service{c}, nil
}

// silent observes nothing.
type silent struct{}

func (silent) Shipping(string)              {}
func (silent) Alarm(string, string, string) {}

// alarm tells operators, by the log and by the count of alarms.
func (s *Service) alarm(what, orderNo, detail string) {
	s.cfg.Log.Error("alarm", "what", what, "order_no", orderNo, "detail", detail)
	s.cfg.Observe.Alarm(what, orderNo, detail)
}

// wait is a wait at the configured pace.
func (s *Service) wait(d time.Duration) time.Duration { return d / time.Duration(s.cfg.Pace) }

// Put says what was sent for an order, and has it reported.
type Put struct {
	OrderNo string
	Content Content
	By      string
	// IfVersion is the version of the shipment that was read, nil for whichever is there: of two who say what was sent,
	// the later one has seen what the earlier one said.
	IfVersion *int64
}

// Put stores what was sent for an order; a worker reports it. The same content again is
// the same shipment, and changes nothing. Another content replaces one that WeChat does
// not have yet, goes on with one that is partial, and once replaces one that is whole or
// goes another way. Errors: *InvalidError, ErrNotOwed, ErrReshipped, ErrVersion.
func (s *Service) Put(ctx context.Context, p Put) (Shipment, error) {
	if err := p.Content.Check(); err != nil {
		return Shipment{}, err
	}
	content, err := p.Content.encode()
	if err != nil {
		return Shipment{}, err
	}
	var out Shipment
	for range 2 {
		err = s.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			out, err = s.put(ctx, tx, p, content)
			return err
		})
		if !sqldb.IsDuplicate(err) { // somebody has made the row of an older payment beside us
			break
		}
	}
	return out, err
}

// put is Put in its transaction.
func (s *Service) put(ctx context.Context, tx *sqldb.Tx, p Put, content string) (Shipment, error) {
	now := s.cfg.Now().Truncate(time.Millisecond)
	r, err := s.lock(ctx, tx, p.OrderNo, now)
	if err != nil {
		return Shipment{}, err
	}
	had, err := r.Content.encode()
	if err != nil {
		return Shipment{}, err
	}
	there := r.State == StateReported || r.State == StateOwed && r.Version > 0 // WeChat has it
	again := there && p.Content.reship(&r.Content)
	switch {
	case had == content && (r.State == StateDue || there):
		return r.Shipment, nil
	case r.State == StateVoid:
		return Shipment{}, ErrNotOwed
	case p.IfVersion != nil && *p.IfVersion != r.Version:
		return Shipment{}, ErrVersion
	case again && r.reships >= maxReships:
		return Shipment{}, ErrReshipped
	}
	if again {
		r.reships++
	}
	due := later(now, r.PaidAt.Add(s.wait(knownAfter)))
	// A call that is under way ends before its turn does, and WeChat gets the newer
	// content after it.
	if r.State == StateDue && r.Tries > 0 {
		due = later(due, r.DueAt)
	}
	r.Content, r.By, r.PutAt, r.UpdatedAt = p.Content, p.By, now, now
	r.State, r.DueAt, r.Tries, r.Code, r.Message = StateDue, due, 0, 0, ""
	r.Version++
	return r.Shipment, store(ctx, tx, &r, content)
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

package order

import (
	"time"

	"orderd/payment"
	"orderd/stock"
)

// Order is an order as it is committed now. Money is in fen, times are UTC and cut
// to milliseconds.
type Order struct {
	OrderNo     string
	CustomerID  string
	State       State
	Version     int64 // grows by one with every event; also the seq of the last event
	Total       payment.Fen
	Remark      string
	Attach      string
	Shop        string // whose back end placed it for its customer; "" when the customer did
	Reference   string // the shop's own number for it, which no other order of the shop has; "" without
	Items       []Item
	CloseReason CloseReason // who wanted it closed, "" if nobody did
	CloseTries  int64       // how often WeChat was asked
	CreatedAt   time.Time
	ExpireAt    time.Time // whole seconds: the last moment to pay
	DueAt       time.Time // when the scheduler has to look next; zero when never
	UpdatedAt   time.Time
	PlacedCause string // the request id of the placement

	// Payment is the money that made the order paid, or that came late. Nil without.
	Payment *Payment
	// Refunds are all refunds, oldest first, those owed and not yet sent included.
	Refunds []Refund
	// Attempts are the WeChat orders opened for it, oldest first.
	Attempts []Attempt
}

// Item is one line of an order. A SKU stands on one line only: equal ones are
// merged when the order is placed.
type Item struct {
	LineNo    int
	SkuID     string
	Quantity  int64
	UnitPrice payment.Fen
}

// Payment is a row of the journal of money received: what WeChat Pay said it
// holds, with the times that it gave.
type Payment struct {
	TransactionID string
	OutTradeNo    string
	TradeType     string
	Total         payment.Fen      // what the order cost
	PayerTotal    payment.MaybeFen // what the buyer paid after WeChat's coupons
	Currency      string
	SuccessTime   time.Time // WeChat's: its day in the bill. Where WeChat does not say it, the latest that it can be
	ReceivedAt    time.Time // ours
	Outcome       Settled
	Reason        string // why it was not applied
	// RefundTold: WeChat Pay said that some of it went back when nothing here knew of a
	// refund, nor how much. The zero time when it never did.
	RefundTold time.Time
}

// Refund is a refund: asked for by somebody, or owed because money came that
// cannot be kept. Its number never changes, and WeChat Pay pays a number once.
type Refund struct {
	OutRefundNo   string // ours, one for ever; the key by which WeChat pays once
	OrderNo       string // "" when its payment fits no order
	TransactionID string // of the payment
	OutTradeNo    string
	RefundID      string // WeChat's number, "" until it has answered
	Amount        payment.Fen
	PaymentTotal  payment.Fen `json:",omitzero"` // 0: not known, of a refund that was made elsewhere
	State         RefundState
	Reason        string       // why it exists: aftersale, late, duplicate, held
	Note          string       // the asker's words
	Items         []stock.Line // what goes back to the shelf when the money has gone back, if Restock
	Restock       bool
	// Requester is in whose name it was asked for: he may not approve it, and his key makes the same
	// request the same refund. Shop is whose back end asked in the name of a customer, "" for nobody's.
	Requester Actor
	Shop      string

	ApprovalsNeeded       int
	Approvals             []Approval
	DecidedBy, DecidedWhy string // of a rejection, a cancellation, a settlement by hand, a held one that was looked at

	Said   RefundWord        // the first of two people's, while the second's is waited for
	SentTo payment.CardOwner // whose bank card people have sent the money to; "" for none

	// Told is what WeChat Pay said last of a refund that is held, and what it said of one against what is known
	// here: that it pays one that was never sent, or that has ended. "" of any other.
	Told payment.RefundStatus
	// Elsewhere is what of the same payment went back elsewhere, in refunds that count nowhere else (Told):
	// it counts before this refund does. Read, never written.
	Elsewhere payment.Fen

	Replaces   string // the closed number whose place it takes
	Generation int    // 1 for a first number
	Tries      int64  // calls, sends and queries; 0 until it is sent, and when it is to be anew after a no
	NotifyURL  string // as sent
	Problem    string // why the last call had no usable answer

	CreatedAt   time.Time
	SentAt      time.Time // first call
	AskedAt     time.Time // last call that asked for money
	AcceptedAt  time.Time // WeChat's time: its day in the bill
	SucceededAt time.Time // WeChat's time
	DueAt       time.Time // when the worker looks next; zero when never
	UpdatedAt   time.Time
	Version     int64

	requestID, requestHash string
}

// RefundWord is what the first of two people has said of a refund. Whatever moves the refund
// takes it back, and so does the next word of another kind.
type RefundWord struct {
	What string // saidByHand, saidUnknown, or whose bank card: a payment.CardOwner; "" for no word
	By   string
	Why  string // the person's own words, which decide nothing
	At   time.Time
}

// saidByHand is the word that the money went back another way, saidUnknown that a refund
// which was made elsewhere, and which WeChat Pay does not know, did not happen.
const (
	saidByHand  = "by_hand"
	saidUnknown = "unknown"
)

// Approval is one person's consent to a refund.
type Approval struct {
	Approver string
	Reason   string
	At       time.Time
	// Fresh: the approver's account or a token of it was younger than operators.FreshFor.
	Fresh bool
}

// Why a refund exists.
const (
	ReasonAftersale = "aftersale"
	ReasonLate      = "late"
	ReasonDuplicate = "duplicate"
	ReasonHeld      = "held"
)

// Attempt is one payable WeChat order of an order. At most one of them can be paid
// at a time: another trade type closes the earlier one first.
type Attempt struct {
	payment.Attempt
	No         int
	State      AttemptState
	CallNo     int64           // of the newest prepay call, from 1 on; 0 when a program that did not count made it
	CalledAt   time.Time       // of that call, committed before it
	AnswerNo   int64           // of the call whose answer is kept, 0 without
	AnsweredAt time.Time       // zero without an answer
	Answer     payment.Prepaid // what the client pays with

	kept  keptAnswer // what is stored with Answer
	open  openCalls  // prepay calls whose end is not known
	calls string     // open as it was read, for the UPDATE to name
}

// AttemptState is what we know of an attempt.
type AttemptState string

// The states of an attempt.
const (
	AttemptCalling AttemptState = "calling" // committed before the call, no answer stored
	AttemptLive    AttemptState = "live"    // WeChat opened it
	AttemptRefused AttemptState = "refused" // WeChat's definite no
	AttemptClosed  AttemptState = "closed"  // proven unpayable
)

// AskedBy is who asked for the refund: of what a shop asked for its customer, the shop.
func (r *Refund) AskedBy() Actor {
	if r.Shop != "" {
		return Actor{Type: ActorShop, ID: r.Shop}
	}
	return r.Requester
}

// CloseReason says who wanted an order closed: of several, the first person.
type CloseReason string

// The reasons.
const (
	// CloseReasonTimeout: its time was over, and nobody has asked for the close. It is
	// the only one that money which comes late may revive (LatePolicyRevive).
	CloseReasonTimeout CloseReason = "timeout"
	// CloseReasonCancel: its customer, or a shop for him.
	CloseReasonCancel CloseReason = "cancel"
	// CloseReasonOperator: a person here, or two whose word that nothing was paid has
	// closed it.
	CloseReasonOperator CloseReason = "operator"
)

// CloseReasons lists the reasons.
func CloseReasons() []CloseReason {
	return []CloseReason{CloseReasonTimeout, CloseReasonCancel, CloseReasonOperator}
}

// then is who wanted an order closed when somebody else wants it too, while it is
// closing or when it is closed already: a person's wish takes the place of the clock's,
// and among people the first one stays. r is "" when nobody has wanted it so far.
func (r CloseReason) then(by CloseReason) CloseReason {
	if r == "" || r == CloseReasonTimeout {
		return by
	}
	return r
}

// revivable reports that money which comes late may revive an order closed for r: nobody
// has said that the goods are not wanted, or that there is no money.
func (r CloseReason) revivable() bool { return r == CloseReasonTimeout }

// Actor is who did something.
type Actor struct {
	Type ActorType
	ID   string // customer id, name of a shop, operator's name, worker; never personal data
}

// ActorType is the kind of an actor.
type ActorType string

// The actors.
const (
	ActorCustomer   ActorType = "customer"
	ActorShop       ActorType = "shop" // a shop's back end, for the customer whose order it is
	ActorScheduler  ActorType = "scheduler"
	ActorWeChat     ActorType = "wechat"
	ActorOperator   ActorType = "operator"
	ActorReconciler ActorType = "reconciler"
)

// ActorTypes lists the kinds of actors.
func ActorTypes() []ActorType {
	return []ActorType{ActorCustomer, ActorShop, ActorScheduler, ActorWeChat, ActorOperator, ActorReconciler}
}

// Cause is why something happened, for the timeline: the actor and the request,
// task, notification or query that brought it.
type Cause struct {
	Actor Actor
	Type  string // request, task, sweep, notification, query, bill; ≤ 16 characters
	ID    string // ≤ 64 characters
}

// TimelineEvent is one line of an order's history. Seq 1 is the placement.
type TimelineEvent struct {
	Seq    int64
	At     time.Time
	Actor  Actor
	Event  string // order.placed, close.requested, close.accepted, payment.applied, refund.succeeded …
	From   State  // "" for the placement
	To     State
	Cause  Cause
	Detail map[string]string
	Took   time.Duration
}

// Settled is what became of a payment.
type Settled string

// What a payment can become.
const (
	// SettledApplied: it made the order paid.
	SettledApplied Settled = "applied"
	// SettledOwed: it did not (late, or a second payment) and is owed back.
	SettledOwed Settled = "owed"
	// SettledHeld: it fits no order of ours; a person has to look.
	SettledHeld Settled = "held"
	// SettledWrittenOff: it was held, and two people have written it off. It is what a search
	// shows; payments.outcome has SettledOwed then.
	SettledWrittenOff Settled = "written_off"
	// SettledRepeated: this transaction was recorded before; nothing changed.
	SettledRepeated Settled = "repeated"
)

// Settlement is the answer of Settle.
type Settlement struct {
	OrderNo string // "" when the number is not one of ours
	Settled Settled
	Reason  string // late, duplicate, amount, currency, appid, mchid, unknown_order; "" when applied
	State   State  // of the order afterwards, "" when unknown
}

// Placement asks for an order.
type Placement struct {
	CustomerID string
	// RequestID is the customer's idempotency key, 1–64 of [0-9A-Za-z_-].
	RequestID string
	Lines     []stock.Line
	// ExpectedTotal guards against a stale page; nil to accept the price as it is.
	ExpectedTotal *payment.Fen
	Remark        string // ≤ 200 characters
	Attach        string // ≤ 128 characters, comes back in WeChat's notifications and bills
	Cause         string // request id, for the timeline

	// Shop is whose back end places it for its customer, "" when the customer does. Only a shop
	// may say the next two.
	Shop string
	// Reference is the shop's own number for the order, which it has for one order alone; "" for none.
	Reference string
	// ExpiresIn is the time to pay, in whole seconds from when the order is made; 0 for Config.PayWithin.
	ExpiresIn time.Duration
}

// Placed is an order as it was placed.
type Placed struct {
	Order Order // as at its placement: pending, version 1
	// Replayed: this request had been answered before, with this order.
	Replayed bool

	news *gateNews // nil: the batch has learned nothing of gates
}

// PrepayRequest asks for the parameters to pay with.
type PrepayRequest struct {
	OrderNo    string
	CustomerID string
	TradeType  payment.TradeType
	OpenID     string // JSAPI
	ClientIP   string // H5
	H5Type     string // H5: iOS, Android, Wap
	Cause      Cause
}

// Prepayment is what the client needs to pay.
type Prepayment struct {
	OrderNo    string
	OutTradeNo string
	TradeType  payment.TradeType
	TimeExpire time.Time
	// PayableUntil is until when it can be paid with; after it Prepay gives another one.
	PayableUntil time.Time
	Prepaid      payment.Prepaid
}

// Due is an order, or a refund, that somebody has to look at.
type Due struct {
	Key     string // order_no, or out_refund_no
	State   State
	Version int64
	Tries   int64 // how often WeChat Pay was asked to close it
	At      time.Time
}

// DueCursor is a place in the order of (due time, key): pages go on after it. The
// zero cursor is the beginning.
type DueCursor struct {
	At  time.Time
	Key string // order_no, or out_refund_no
}

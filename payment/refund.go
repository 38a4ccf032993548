package payment

import (
	"log/slog"
	"strings"
	"time"
)

// RefundStatus is WeChat's own word for the state of a refund.
type RefundStatus string

// All states that an answer, a notification or a query of a refund can have.
const (
	// RefundProcessing: accepted; the money is on its way (balance: minutes,
	// bank cards: one to three working days).
	RefundProcessing RefundStatus = "PROCESSING"
	// RefundSuccess: the buyer has the money.
	RefundSuccess RefundStatus = "SUCCESS"
	// RefundClosed: WeChat gave this refund up; another needs a new number.
	RefundClosed RefundStatus = "CLOSED"
	// RefundAbnormal: the buyer's account takes no money; a person has to act
	// on the merchant platform.
	RefundAbnormal RefundStatus = "ABNORMAL"
	// RefundNotFound is ours: WeChat answered 404 RESOURCE_NOT_EXISTS to a query.
	RefundNotFound RefundStatus = "NOTFOUND"
)

// CodeNotEnough is WeChat's code (underscores removed) of a refund that waits
// for money in the merchant's account; the same request is repeated after a
// top-up.
const CodeNotEnough = "NOTENOUGH"

// RefundRequest asks WeChat to send money back. It is stored before the first
// call, and every repeat uses the stored values: the number is the key by which
// WeChat pays once, and it refuses a repeat whose parameters differ.
type RefundRequest struct {
	OutRefundNo   string // ours, once and for ever; ValidOutRefundNo
	TransactionID string // of the payment
	Amount        Fen    // what goes back
	Total         Fen    // amount.total of the payment
	Reason        string // shown to the buyer; at most 80 bytes
	NotifyURL     string // where WeChat sends refund notifications
}

// CardOwner says whose bank card an abnormal refund goes to, in WeChat's words.
type CardOwner string

// The two cards, from WeChat Pay's document of "发起异常退款" (create-abnormal-refund, 2024-12-30).
const (
	// CardOfMerchant: the merchant's own bank account, as WeChat Pay knows it. The buyer has
	// nothing yet: the merchant pays him from there.
	CardOfMerchant CardOwner = "MERCHANT_BANK_CARD"
	// CardOfUser: a debit card of the buyer's, which a person enters.
	CardOfUser CardOwner = "USER_BANK_CARD"
)

// BankCard is a debit card of the buyer's. It is sent encrypted, and neither stored nor
// logged: it prints itself masked, whatever prints it.
type BankCard struct {
	BankType string // WeChat's name of the bank and kind, such as ICBC_DEBIT
	Account  string // the number of the card
	RealName string // of its owner
}

// String, GoString, LogValue and MarshalText keep a card out of logs and errors.
func (BankCard) String() string { return "(a bank card)" }

// GoString masks under %#v.
func (c BankCard) GoString() string { return c.String() }

// LogValue masks in logs.
func (c BankCard) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText masks in JSON.
func (c BankCard) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Valid reports that WeChat Pay may take the card: it pays out to debit cards of fifteen
// banks, whose names end in _DEBIT; numbers of cards have 12 to 19 digits (ISO/IEC 7812).
func (c BankCard) Valid() bool {
	bank := strings.TrimSuffix(c.BankType, "_DEBIT")
	return bank != c.BankType && bank != "" && len(c.BankType) <= 16 && MadeOf(bank, Capitals) &&
		len(c.Account) >= 12 && len(c.Account) <= 19 && MadeOf(c.Account, Digits) &&
		c.RealName != "" && len(c.RealName) <= maxRealName && PlainText(c.RealName) == c.RealName
}

// maxRealName is in bytes, and ours: encrypted by a key of 2,048 bits at most 214 bytes
// have room.
const maxRealName = 120

// AbnormalRequest asks WeChat Pay to send the money of an abnormal refund to a bank card.
type AbnormalRequest struct {
	OutRefundNo, RefundID string // ours, and WeChat Pay's
	TransactionID         string // of the payment
	Amount, Total         Fen    // of the refund and of the payment, to hold the answer against
	To                    CardOwner
	Card                  BankCard // with CardOfUser
}

// Refund is what WeChat says of a refund: the answer to a request, to a query,
// a notification, or a line of a bill.
type Refund struct {
	OutRefundNo   string
	RefundID      string // WeChat's number
	TransactionID string
	OutTradeNo    string
	Status        RefundStatus
	Amount        Fen       // amount.refund
	Total         Fen       // amount.total of the payment; 0: not said
	MchID         string    // in notifications only; "" elsewhere
	CreateTime    time.Time // when WeChat accepted it, which is its day in the bill; zero in notifications
	SuccessTime   time.Time // zero unless Status is RefundSuccess
	RequestID     string
}

// RefundNotification is a verified, decrypted refund notification.
type RefundNotification struct {
	ID     string // WeChat's id; not an idempotency key
	Refund Refund
}

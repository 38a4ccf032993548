package payment

import "time"

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

// Refund is what WeChat says of a refund: the answer to a request, to a query,
// a notification, or a line of a bill.
type Refund struct {
	OutRefundNo   string
	RefundID      string // WeChat's number
	TransactionID string
	OutTradeNo    string
	Status        RefundStatus
	Amount        Fen       // amount.refund
	Total         Fen       // amount.total of the payment
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

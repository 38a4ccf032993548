package order

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// The grammar of every number that this service makes. All of them stay within
// WeChat Pay's alphabet and lengths (out_trade_no 6–32, out_refund_no 1–64 of
// [0-9A-Za-z_-|*@]), and none of them needs a table to be understood:
//
//	order_no       01JE4Z6F3V8Q2N5S7T9W1X3Y5Z             a ULID: its first ten characters are its time
//	out_trade_no   ORDER_NO-01 … ORDER_NO-99               the n-th WeChat order of an order
//	out_refund_no  ORDER_NO-R + a ULID                     a refund that was asked for; ORDER_NO-R01 … before schema 9
//	               R + transaction_id                      the refund of a payment that is owed back
//	               R + transaction_id + - + a ULID         the same, when WeChat has that number of another refund
//	               either of them + -G2, -G3 …             what takes the place of one that WeChat closed
const (
	orderNoLen = 26 // characters of a ULID
	// maxAttempts is how many WeChat orders one order may have: the suffix of an
	// out_trade_no has two digits.
	maxAttempts = 99
)

// idSource makes order numbers. Safe for concurrent use.
type idSource struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

// newIDSource takes its randomness from the system: order numbers are not secret,
// but nobody can guess the next one.
func newIDSource() *idSource { return &idSource{entropy: ulid.Monotonic(rand.Reader, 0)} }

// next gives a number that sorts by its time, which keeps inserts at the end of
// the primary key.
func (i *idSource) next(now time.Time) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	id, err := ulid.New(ulid.Timestamp(now), i.entropy)
	if err != nil {
		return "", fmt.Errorf("make an order number: %w", err)
	}
	return id.String(), nil
}

// must is next for numbers that are made while a batch is decided: the entropy of one
// millisecond does not run out in it.
func (i *idSource) must(now time.Time) string {
	id, err := i.next(now)
	if err != nil {
		panic(err)
	}
	return id
}

// timeOf is when an order number was given; the zero time for what is none.
func timeOf(orderNo string) time.Time {
	id, err := ulid.ParseStrict(orderNo)
	if err != nil {
		return time.Time{}
	}
	return id.Timestamp()
}

// placedAfter is below every order number that is given at or after t.
func placedAfter(t time.Time) string {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(t)) // cannot fail before the year 10889
	return id.String()
}

// lastOrderNo is not below any order number: the largest ULID.
const lastOrderNo = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"

// attemptNo is the out_trade_no of an order's n-th attempt.
func attemptNo(orderNo string, n int) string { return fmt.Sprintf("%s-%02d", orderNo, n) }

// OrderNoOf gives the order number in an out_trade_no, "" when it is not one of ours.
func OrderNoOf(outTradeNo string) string {
	if len(outTradeNo) != orderNoLen+3 || outTradeNo[orderNoLen] != '-' {
		return ""
	}
	return outTradeNo[:orderNoLen]
}

// refundNo is the number of a refund that is asked for. It is drawn and not counted: a
// counted one would come again after rows were lost with a restore from a backup, and
// WeChat Pay has it of another refund then. What makes a request the same request is the
// row's own key (u_refunds_request), not this number.
func refundNo(orderNo, ulid string) string { return orderNo + "-R" + ulid }

// owedRefundNo is the number of the refund of a payment that is owed back. It is
// made from the transaction's, so that it is owed once whatever happens.
func owedRefundNo(transactionID string) string { return "R" + transactionID }

// otherOwedNo is such a number when WeChat Pay has the first one of another refund.
func otherOwedNo(transactionID, ulid string) string { return owedRefundNo(transactionID) + "-" + ulid }

// successorNo is the number that takes the place of a refund that WeChat Pay
// has closed.
func successorNo(r Refund) string {
	base := r.OutRefundNo
	if r.Generation > 1 {
		base = strings.TrimSuffix(base, "-G"+strconv.Itoa(r.Generation))
	}
	return base + "-G" + strconv.Itoa(r.Generation+1)
}

// later gives the later of two times.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

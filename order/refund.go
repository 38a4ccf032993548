package order

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
	"orderd/stock"
)

// WeChat Pay's limits on the refunds of one payment (its refund documents).
const (
	MaxRefunds   = 50                   // numbers per payment
	refundYears  = 365 * 24 * time.Hour // after the payment
	maxSentNote  = 80                   // bytes of the reason that the buyer sees
	maxNote      = 200                  // characters of a reason here
	maxDecision  = 200                  // characters of a decision's reason
	refundSettle = time.Minute          // after the last call: only then may a refused refund be given up
)

// AskRefund asks to send money of a paid order back.
type AskRefund struct {
	OrderNo string
	// CustomerID limits it to this customer's orders; "" for operators.
	CustomerID string
	// RequestID is the asker's idempotency key, 1–64 of [0-9A-Za-z_-].
	RequestID string
	// Lines go back to the shelf when the money has gone back, unless NoRestock.
	// Without lines and amount everything that is left is asked for.
	Lines []stock.Line
	// Amount is what goes back; nil for what the lines cost. With lines it may be
	// less than they cost, never more.
	Amount    *payment.Fen
	NoRestock bool
	Reason    string // ≤ 200 characters; the buyer sees the first 80 bytes
	Cause     Cause
}

// AskedRefund is the answer to AskRefund: the refund as it was when it was
// asked for, so that a repeat is answered with the same.
type AskedRefund struct {
	Refund   Refund
	Replayed bool
}

// RefundDecision is a person's word on a refund.
type RefundDecision struct {
	OutRefundNo string
	Event       RefundEvent // ApproveRefund, RejectRefund, RetryRefund, CancelRefund or SettleByHand
	Reason      string      // 1–200 characters
	Cause       Cause
}

// Errors of refunds.
var (
	// ErrRefundNotFound: no such refund, or it is of another customer's order.
	ErrRefundNotFound = errors.New("refund not found")
	// ErrSelfApproval: the approver asked for this refund himself.
	ErrSelfApproval = errors.New("a refund is approved by somebody else than the one who asked for it")
	// ErrRefundTooOld: WeChat Pay sends money back within a year of its payment.
	ErrRefundTooOld = errors.New("the payment is more than a year old: WeChat Pay refunds it no more")
	// ErrTooManyRefunds: WeChat Pay takes 50 refunds of one payment.
	ErrTooManyRefunds = errors.New("WeChat Pay takes no more than 50 refunds of one payment")
)

// RefundExceedsError: more than what is left of the payment.
type RefundExceedsError struct {
	Asked, Left payment.Fen
	// InProgress: the rest is taken by refunds that have not ended yet.
	InProgress bool
}

func (e *RefundExceedsError) Error() string {
	return fmt.Sprintf("%s yuan asked back, %s are left of the payment", e.Asked, e.Left)
}

// ReturnExceedsError: more of a SKU than the order has and has not returned.
type ReturnExceedsError struct {
	SkuID       string
	Asked, Left int64
}

func (e *ReturnExceedsError) Error() string {
	return fmt.Sprintf("%d of SKU %s asked back, %d can be", e.Asked, e.SkuID, e.Left)
}

// RefundRefusedError: the refund is in a state that does not allow it.
type RefundRefusedError struct {
	Refund Refund
	Event  RefundEvent
	Why    string
}

func (e *RefundRefusedError) Error() string { return e.Why }

// RefundOutcome is what became of WeChat's word on a refund.
type RefundOutcome string

// What can become of it.
const (
	// RefundTaken: it moved the refund.
	RefundOutcomeApplied RefundOutcome = "applied"
	// RefundRepeated: it was known before, or was overtaken by newer word.
	RefundOutcomeRepeated RefundOutcome = "repeated"
	// RefundUnfit: its number, amount, payment or merchant is not ours; a person has to look.
	RefundOutcomeHeld RefundOutcome = "held"
)

// RefundSettled is the answer of SettleRefund.
type RefundSettled struct {
	OutRefundNo string
	OrderNo     string // "" when the number is not one of ours
	Outcome     RefundOutcome
	Reason      string // why it is held; "" otherwise
	State       RefundState
}

// AskRefund checks and records a refund: its lines and its amount count against
// order and payment from now on, so that requests at the same time together
// never exceed either. It waits for finance unless the amount is within what is
// approved by itself, and is sent by the worker.
//
// Errors: *ValidationError, ErrNotFound, *RefusedError (not paid, or all went
// back), *RefundExceedsError, *ReturnExceedsError, ErrRefundTooOld,
// ErrTooManyRefunds, ErrRequestReused, database errors. Nothing was recorded then.
func (s *Service) AskRefund(ctx context.Context, r AskRefund) (AskedRefund, error) {
	if err := r.validate(); err != nil {
		return AskedRefund{}, err
	}
	r.Lines = stock.Merge(r.Lines)
	done, err := s.bring(ctx, change{orderNo: r.OrderNo, customerID: r.CustomerID, cause: r.Cause,
		refund: &refundChange{ask: &r, hash: r.hash()}})
	if err != nil {
		return AskedRefund{}, err
	}
	if done.cell.Verdict == VerdictRefuse {
		return AskedRefund{}, &RefusedError{Order: done.order, Event: EventRefund, Why: done.cell.Why}
	}
	failpoint.Hit("refund.asked")
	s.wakeRefund(done.refund)
	return AskedRefund{Refund: done.refund, Replayed: done.replayed}, nil
}

// DecideRefund brings a person's decision. Approving is done once enough people
// other than the asker have approved; repeating one's own approval changes
// nothing.
//
// Errors: ErrRefundNotFound, ErrSelfApproval, *RefundRefusedError,
// *ValidationError, database errors.
func (s *Service) DecideRefund(ctx context.Context, d RefundDecision) (Refund, error) {
	if n := utf8.RuneCountInString(d.Reason); n == 0 || n > maxDecision {
		return Refund{}, &ValidationError{Fields: []FieldError{{"#/reason", "REQUIRED", "a reason of 1 to 200 characters is needed"}}}
	}
	row, err := s.FindRefund(ctx, d.OutRefundNo)
	if err != nil {
		return Refund{}, err
	}
	done, err := s.bring(ctx, change{orderNo: row.OrderNo, cause: d.Cause, detail: map[string]string{"reason": d.Reason},
		refund: &refundChange{no: d.OutRefundNo, event: d.Event, why: d.Reason}})
	if err != nil {
		return Refund{}, err
	}
	s.wakeRefund(done.refund)
	return done.refund, nil
}

// SettleRefund takes in what WeChat says of a refund, whoever told us: an
// answer, a notification, a query, a bill. It is the one door for money that
// goes back, idempotent by its number. When it returns nil the word is
// committed, or needs no committing; the caller may acknowledge.
func (s *Service) SettleRefund(ctx context.Context, r payment.Refund, cause Cause) (RefundSettled, error) {
	if !payment.ValidOutRefundNo(r.OutRefundNo) || r.Amount <= 0 || len(r.TransactionID) > 32 || len(r.RefundID) > 32 {
		return RefundSettled{}, fmt.Errorf("settle refund: %w: number or amount out of bounds", payment.ErrMalformed)
	}
	if refundEventOf(r.Status) == "" {
		return RefundSettled{}, fmt.Errorf("settle refund %s: %w: status %q says nothing", r.OutRefundNo, payment.ErrMalformed, r.Status)
	}
	orderNo, err := s.refundOrder(ctx, r)
	if err != nil {
		return RefundSettled{}, fmt.Errorf("settle refund %s: %w", r.OutRefundNo, err)
	}
	done, err := s.bring(ctx, change{orderNo: orderNo, cause: cause, refund: &refundChange{no: r.OutRefundNo, told: &r}})
	if err != nil {
		return RefundSettled{}, fmt.Errorf("settle refund %s: %w", r.OutRefundNo, err)
	}
	s.observe.RefundSettled(cause.Type, done.refundSettled)
	s.wakeRefund(done.successor)
	return done.refundSettled, nil
}

// refundOrder finds the order of a refund: our own row's, else that of the
// payment it names, else none. Both are written once and never change.
func (s *Service) refundOrder(ctx context.Context, r payment.Refund) (string, error) {
	var no string
	err := s.db.QueryRowContext(ctx, `SELECT order_no
FROM refunds
WHERE out_refund_no = ?`, r.OutRefundNo).Scan(&no)
	if errors.Is(err, sql.ErrNoRows) {
		err = s.db.QueryRowContext(ctx, `SELECT order_no
FROM payments
WHERE transaction_id = ?`, r.TransactionID).Scan(&no)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", sqldb.Wrap("find the order of a refund", err)
	}
	return no, nil
}

// wakeRefund asks for the worker when a refund is to be looked at.
func (s *Service) wakeRefund(r Refund) {
	if !r.DueAt.IsZero() {
		s.cfg.Tasks.RefundAt(r.OutRefundNo, r.DueAt)
	}
}

// Refund looks at a refund whose time has come: it is sent, sent again with the
// same number and parameters, or asked about. The intent is committed before
// the call, and no answer moves nothing. Nil means that there is nothing more to
// do before the next time, which is set. A *NotDueError says when to come back;
// ErrRefundNotFound that there is no such refund.
func (s *Service) Refund(ctx context.Context, outRefundNo string, cause Cause) error {
	row, err := s.FindRefund(ctx, outRefundNo)
	if err != nil {
		return err
	}
	done, err := s.bring(ctx, change{orderNo: row.OrderNo, cause: cause, refund: &refundChange{no: outRefundNo, claim: true}})
	if err != nil {
		return err
	}
	row = done.refund
	switch {
	case !done.due.IsZero():
		return &NotDueError{At: done.due}
	case !done.mine:
		return nil
	}
	s.wakeRefund(row)
	failpoint.Hit("refund.claimed")
	if row.State == RefundStateOwed {
		return s.sendRefund(ctx, row, cause)
	}
	return s.askAboutRefund(ctx, row, cause)
}

// sendRefund makes the call and brings its answer through the door.
func (s *Service) sendRefund(ctx context.Context, row Refund, cause Cause) error {
	answer, err := s.cfg.Gateway.Refund(ctx, payment.RefundRequest{OutRefundNo: row.OutRefundNo, TransactionID: row.TransactionID,
		Amount: row.Amount, Total: row.PaymentTotal, Reason: cut(row.Note, maxSentNote), NotifyURL: row.NotifyURL})
	failpoint.Hit("refund.answered")
	s.observe.RefundAsked("refund", outcomeOf(err, answer.Status))
	if err == nil {
		return s.takeAnswer(ctx, answer, "answer", cause)
	}
	var g *payment.GatewayError
	if !errors.As(err, &g) || g.Kind != payment.KindRejected {
		if payment.KindOf(err) == payment.KindMisconfigured {
			s.alarm("wechat refuses our credentials", row.OrderNo, err.Error())
		}
		return s.noteRefund(ctx, row, err, false, cause)
	}
	if strings.ReplaceAll(g.Code, "_", "") == payment.CodeNotEnough {
		s.alarm("refund waits for money in the merchant's account", row.OrderNo, row.OutRefundNo+" of "+row.Amount.String()+" yuan")
		return s.noteRefund(ctx, row, err, false, cause)
	}
	// A definite no. It is believed when WeChat, asked, does not know the number
	// either: an earlier call of ours may have been accepted without our hearing.
	known, queryErr := s.cfg.Gateway.QueryRefund(ctx, row.OutRefundNo)
	switch {
	case queryErr != nil:
		return s.noteRefund(ctx, row, errors.Join(err, queryErr), false, cause)
	case known.Status != payment.RefundNotFound:
		return s.takeAnswer(ctx, known, "query", cause)
	}
	return s.noteRefund(ctx, row, err, true, cause)
}

// askAboutRefund asks how far a refund is that WeChat has accepted.
func (s *Service) askAboutRefund(ctx context.Context, row Refund, cause Cause) error {
	answer, err := s.cfg.Gateway.QueryRefund(ctx, row.OutRefundNo)
	s.observe.RefundAsked("refund_query", outcomeOf(err, answer.Status))
	switch {
	case err != nil:
		return s.noteRefund(ctx, row, err, false, cause)
	case answer.Status == payment.RefundNotFound:
		s.alarm("wechat does not know a refund that it accepted", row.OrderNo, row.OutRefundNo)
		return nil
	}
	return s.takeAnswer(ctx, answer, "query", cause)
}

func outcomeOf(err error, status payment.RefundStatus) string {
	if err != nil {
		return payment.KindOf(err).String()
	}
	return strings.ToLower(string(status))
}

// takeAnswer stores an answer whoever has hung up meanwhile.
func (s *Service) takeAnswer(ctx context.Context, r payment.Refund, kind string, cause Cause) error {
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	_, err := s.SettleRefund(ctx, r, Cause{Actor: Actor{Type: ActorWeChat}, Type: kind, ID: cmp.Or(r.RequestID, cause.ID)})
	return err
}

// noteRefund writes down why a call brought nothing; refused ends the sending
// until a person decides.
func (s *Service) noteRefund(ctx context.Context, row Refund, why error, refused bool, cause Cause) error {
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	c := &refundChange{no: row.OutRefundNo, problem: why.Error()}
	if refused {
		c.event = RefundEventRefused
		cause.Actor = Actor{Type: ActorWeChat}
	}
	_, err := s.bring(ctx, change{orderNo: row.OrderNo, cause: cause, refund: c})
	return err
}

// RefundHeld sends back a payment that fits no order of ours: the way out of a
// payment that is held. It is owed from then on and goes like every other.
func (s *Service) RefundHeld(ctx context.Context, transactionID string, cause Cause) error {
	// Under its order, when it has one: whoever has the order's books open must
	// not see the payment taken and no refund of it.
	no, err := s.refundOrder(ctx, payment.Refund{OutRefundNo: owedNo(transactionID), TransactionID: transactionID})
	if err != nil {
		return err
	}
	done, err := s.bring(ctx, change{orderNo: no, cause: cause, refund: &refundChange{held: transactionID}})
	if err != nil {
		return err
	}
	s.wakeRefund(done.refund)
	return nil
}

func (r *AskRefund) validate() error {
	var bad []FieldError
	add := func(pointer, code, detail string) { bad = append(bad, FieldError{pointer, code, detail}) }
	if !validRequestID(r.RequestID) {
		add("#/request_id", "FORMAT", "1 to 64 of 0-9 A-Z a-z _ - are needed")
	}
	if n := utf8.RuneCountInString(r.Reason); n == 0 || n > maxNote {
		add("#/reason", "REQUIRED", "a reason of 1 to 200 characters is needed")
	}
	if len(r.Lines) > MaxLines {
		add("#/items", "TOO_MANY", fmt.Sprintf("at most %d lines", MaxLines))
	}
	for i, l := range r.Lines {
		if !visible(l.SkuID, maxSKU) {
			add(fmt.Sprintf("#/items/%d/sku_id", i), "FORMAT", "1 to 64 visible ASCII characters are needed")
		}
		if l.Quantity < 1 || l.Quantity > MaxQuantity {
			add(fmt.Sprintf("#/items/%d/quantity", i), "RANGE", fmt.Sprintf("1 to %d", MaxQuantity))
		}
	}
	if r.Amount != nil && (*r.Amount < 1 || *r.Amount > payment.MaxFen) {
		add("#/amount/refund", "RANGE", fmt.Sprintf("1 to %d fen", payment.MaxFen))
	}
	if bad != nil {
		return &ValidationError{Fields: bad}
	}
	return nil
}

// hash tells two requests under one key apart.
func (r *AskRefund) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%t\n%q\n", r.OrderNo, r.NoRestock, r.Reason)
	if r.Amount != nil {
		fmt.Fprintf(h, "%d\n", *r.Amount)
	}
	for _, l := range r.Lines {
		fmt.Fprintf(h, "%q %d\n", l.SkuID, l.Quantity)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// refundNo is the number of an order's n-th refund.
func refundNo(orderNo string, n int) string { return orderNo + "-R" + fmt.Sprintf("%02d", n) }

// owedNo is the number of the refund of a payment that is owed back, made from
// the transaction's so that it is owed once whatever happens.
func owedNo(transactionID string) string { return "R" + transactionID }

// nextNo is the number that takes the place of a closed one.
func nextNo(r Refund) string {
	base := r.OutRefundNo
	if r.Generation > 1 {
		base = strings.TrimSuffix(base, "-G"+strconv.Itoa(r.Generation))
	}
	return base + "-G" + strconv.Itoa(r.Generation+1)
}

func refundEventOf(s payment.RefundStatus) RefundEvent {
	switch s {
	case payment.RefundProcessing:
		return RefundEventAccepted
	case payment.RefundSuccess:
		return RefundEventSucceeded
	case payment.RefundClosed:
		return RefundEventClosed
	case payment.RefundAbnormal:
		return RefundEventAbnormal
	case payment.RefundNotFound:
	}
	return ""
}

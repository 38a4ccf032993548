package order

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
	"orderd/stock"
)

// WeChat Pay's limits on the refunds of one payment (its documents of "申请退款":
// 50 refunds of one payment, within a year of it, a reason of 80 bytes), and ours.
const (
	MaxRefunds   = 50                   // numbers per payment
	refundWithin = 365 * 24 * time.Hour // after the payment
	answerWait   = time.Minute          // after the last call: only then may a refused refund be given up
)

// AskRefund asks to send money of a paid order back.
type AskRefund struct {
	OrderNo string
	// CustomerID limits it to this customer's orders; "" for operators.
	CustomerID string
	// RequestID is the asker's idempotency key, 1–64 of [0-9A-Za-z_-].
	RequestID string
	// Lines go back to the shelf when the money has gone back, if the shop says so: see
	// Restock. Without lines, and without amount or with all that is left, everything
	// that is left is asked for.
	Lines []stock.Line
	// Amount is what goes back; nil for what the lines cost. With lines it may be
	// less than they cost, which a person has to approve when they go back to the
	// shelf, never more.
	Amount *payment.Fen
	// Restock and NoRestock are the shop's word for whether the lines go back to the
	// shelf, at most one of them; with neither it is Config.RefundNoRestock. Whoever
	// approves can say otherwise. A customer's request has neither.
	Restock, NoRestock bool
	// NeedsPerson: it is approved by a person whatever its amount.
	NeedsPerson bool
	Reason      string // ≤ 200 characters; the buyer sees the first 80 bytes
	Cause       Cause
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
	// Restock says whether the lines go back to the shelf; nil leaves it as it is. Only
	// with RefundEventApprove and RefundEventByHand.
	Restock *bool
	// IfVersion refuses with ErrVersion unless the refund has this version when it is decided
	// about; 0 for any.
	IfVersion int64
	Cause     Cause
}

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
	id, err := s.ids.next(s.cfg.Now())
	if err != nil {
		return AskedRefund{}, err
	}
	done, err := s.apply(ctx, &askRefund{ask: &r, number: refundNo(r.OrderNo, id), hash: r.hash(),
		header: header{orderNo: r.OrderNo, customerID: r.CustomerID, cause: r.Cause}})
	if err != nil {
		return AskedRefund{}, err
	}
	if done.cell.Verdict == VerdictRefuse {
		return AskedRefund{}, &RefusedError{Order: done.order, Event: EventRefund, Why: done.cell.Why}
	}
	failpoint.Hit("refund.asked")
	s.wakeRefund(done.refund.row)
	return AskedRefund{Refund: done.refund.row, Replayed: done.refund.replayed}, nil
}

// DecideRefund brings a person's decision. Approving is done once enough people
// other than the asker have approved; repeating one's own approval changes
// nothing.
//
// Errors: ErrRefundNotFound, ErrVersion, ErrSelfApproval, *RefundRefusedError,
// *ValidationError, *operators.SameError, operators.ErrShell and
// operators.ErrNoLonger, database errors.
func (s *Service) DecideRefund(ctx context.Context, d RefundDecision) (Refund, error) {
	if err := checkReason(d.Reason); err != nil {
		return Refund{}, err
	}
	if d.Restock != nil && d.Event != RefundEventApprove && d.Event != RefundEventByHand {
		return Refund{}, &ValidationError{Fields: []FieldError{
			{"#/restock", "INVALID", "only an approval, or what is settled by hand, says whether goods go back"}}}
	}
	row, err := s.refundNow(ctx, d.OutRefundNo, "")
	if err != nil {
		return Refund{}, err
	}
	if row.State == RefundStateHeld && d.Event == RefundEventRetry {
		if d.IfVersion != 0 && d.IfVersion != row.Version { // a question, which decides nothing
			return Refund{}, ErrVersion
		}
		return s.askAboutHeld(ctx, row, d.Cause)
	}
	if row.State == RefundStateHeld && d.Event == RefundEventCancel {
		return s.giveUpHeld(ctx, row, d)
	}
	c := &decideRefund{ofRefund: ofRefundRow(row, d.Cause), event: d.Event, why: d.Reason, restock: d.Restock,
		version: d.IfVersion}
	c.detail = map[string]string{"reason": d.Reason}
	if d.Restock != nil {
		c.detail["restock"] = strconv.FormatBool(*d.Restock)
	}
	done, err := s.apply(ctx, c)
	if err != nil {
		return Refund{}, err
	}
	s.wakeRefund(done.refund.row)
	return done.refund.row, nil
}

// askAboutHeld asks WeChat Pay how far a refund is that was made elsewhere: nobody else
// does, and one that was closed counts no more.
func (s *Service) askAboutHeld(ctx context.Context, row Refund, cause Cause) (Refund, error) {
	answer, err := s.cfg.Gateway.QueryRefund(ctx, row.OutRefundNo)
	s.observe.RefundAsked("refund_query", outcomeOf(err, answer.Status))
	if err != nil {
		return row, err
	}
	if answer.Status == payment.RefundNotFound {
		return row, &RefundRefusedError{Refund: row, Event: RefundEventRetry,
			Why: "WeChat Pay does not know this number now; it counts until WeChat Pay says that it closed " +
				"the refund, or two people cancel it"}
	}
	if err := s.takeAnswer(ctx, answer, "query", cause); err != nil {
		return row, err
	}
	return s.refundNow(ctx, row.OutRefundNo, "")
}

// SettleRefund takes in what WeChat says of a refund, whatever it came by: an
// answer, a notification, a query, a bill. It is the one way for money that
// goes back, idempotent by its number. When it returns nil the word is
// committed, or needs no committing; the caller may acknowledge.
func (s *Service) SettleRefund(ctx context.Context, r payment.Refund, cause Cause) (RefundSettled, error) {
	if !payment.ValidOutRefundNo(r.OutRefundNo) || r.Amount <= 0 || len(r.TransactionID) > bounds.WeChatNo.Most ||
		len(r.RefundID) > bounds.WeChatNo.Most {
		return RefundSettled{}, fmt.Errorf("settle refund: %w: number or amount out of bounds", payment.ErrMalformed)
	}
	if refundEventOf(r.Status) == "" {
		return RefundSettled{}, fmt.Errorf("settle refund %s: %w: status %q says nothing",
			r.OutRefundNo, payment.ErrMalformed, r.Status)
	}
	orderNo, err := s.orderOf(ctx, r.OutRefundNo, r.TransactionID)
	if err != nil {
		return RefundSettled{}, fmt.Errorf("settle refund %s: %w", r.OutRefundNo, err)
	}
	done, err := s.apply(ctx, &refundStatus{status: r,
		ofRefund: ofRefund{header: header{orderNo: orderNo, cause: cause}, outRefundNo: r.OutRefundNo}})
	if errors.Is(err, errOtherOrder) { // once: it has an order from now on
		return s.SettleRefund(ctx, r, cause)
	}
	if err != nil {
		return RefundSettled{}, fmt.Errorf("settle refund %s: %w", r.OutRefundNo, err)
	}
	s.observe.RefundSettled(cause.Type, done.refund.settled)
	s.wakeRefund(done.refund.successor)
	return done.refund.settled, nil
}

// ofRefundRow is the header of a command on a refund that was read.
func ofRefundRow(r Refund, cause Cause) ofRefund {
	return ofRefund{header: header{orderNo: r.OrderNo, cause: cause}, outRefundNo: r.OutRefundNo}
}

// orderOf finds the order of a refund: our own row's, else that of the payment
// it names, else none. Both are written once and never change.
func (s *Service) orderOf(ctx context.Context, outRefundNo, transactionID string) (no string, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		var found bool
		no, found, err = orderOfRefund(ctx, tx, outRefundNo)
		if err == nil && !found {
			no, err = orderOfPayment(ctx, tx, transactionID)
		}
		return err
	})
	return no, sqldb.Wrap("find the order of a refund", err)
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
	row, err := s.refundNow(ctx, outRefundNo, "")
	if err != nil {
		return err
	}
	done, err := s.apply(ctx, &claimRefund{ofRefundRow(row, cause), row.TransactionID})
	if err != nil {
		return err
	}
	row = done.refund.row
	switch {
	case !done.turn.due.IsZero():
		return &NotDueError{At: done.turn.due}
	case !done.turn.claimed:
		return nil
	}
	s.wakeRefund(row)
	failpoint.Hit("refund.claimed")
	if row.State == RefundStateOwed {
		return s.sendRefund(ctx, row, cause)
	}
	return s.askAboutRefund(ctx, row, cause)
}

// sendRefund makes the call and stores its answer.
func (s *Service) sendRefund(ctx context.Context, row Refund, cause Cause) error {
	answer, err := s.cfg.Gateway.Refund(ctx, payment.RefundRequest{
		OutRefundNo: row.OutRefundNo, TransactionID: row.TransactionID, Amount: row.Amount, Total: row.PaymentTotal,
		Reason: bounds.RefundReason.Cut(row.Note), NotifyURL: row.NotifyURL})
	failpoint.Hit("refund.answered")
	s.observe.RefundAsked("refund", outcomeOf(err, answer.Status))
	if err == nil {
		return s.takeAnswer(ctx, answer, "answer", cause)
	}
	var g *payment.GatewayError
	if !errors.As(err, &g) || g.Kind != payment.KindRejected {
		return s.noteRefund(ctx, row, err, false, cause)
	}
	if strings.ReplaceAll(g.Code, "_", "") == payment.CodeNotEnough {
		s.alarm("refund waits for money in the merchant's account", row.OrderNo,
			row.OutRefundNo+" of "+row.Amount.String()+" yuan")
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

// errRefundForgotten is the problem of a refund that people may settle by hand.
var errRefundForgotten = errors.New("WeChat Pay does not know a refund that it had accepted")

// askAboutRefund asks how far a refund is that WeChat has accepted.
func (s *Service) askAboutRefund(ctx context.Context, row Refund, cause Cause) error {
	answer, err := s.cfg.Gateway.QueryRefund(ctx, row.OutRefundNo)
	s.observe.RefundAsked("refund_query", outcomeOf(err, answer.Status))
	switch {
	case err != nil:
		return s.noteRefund(ctx, row, err, false, cause)
	case answer.Status == payment.RefundNotFound:
		s.alarm("wechat does not know a refund that it accepted", row.OrderNo, row.OutRefundNo)
		return s.noteRefund(ctx, row, errRefundForgotten, false, cause)
	}
	return s.takeAnswer(ctx, answer, "query", cause)
}

// outcomeOf is the metric's label of a call: WeChat's status, or the kind of error.
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
	_, err := s.SettleRefund(ctx, r,
		Cause{Actor: Actor{Type: ActorWeChat}, Type: kind, ID: cmp.Or(r.RequestID, cause.ID)})
	return err
}

// noteRefund writes down why a call had no usable answer; refused ends the sending
// until a person decides.
func (s *Service) noteRefund(ctx context.Context, row Refund, why error, refused bool, cause Cause) error {
	ctx, cancel := context.WithTimeout(detached(ctx), storeTimeout)
	defer cancel()
	var c command = &noteProblem{ofRefund: ofRefundRow(row, cause), problem: why.Error(), turn: row}
	if refused {
		cause.Actor = Actor{Type: ActorWeChat}
		c = &refuseRefund{ofRefund: ofRefundRow(row, cause), problem: why.Error(), turn: row}
	}
	_, err := s.apply(ctx, c)
	return err
}

// RefundHeld sends back a payment that fits no order of ours: the way out of a
// payment that is held. Nil: it is owed from then on and goes like every other.
// The operator in cause is its requester, and the first of those who have to agree:
// where the limits ask for two it is ErrRefundWaits until somebody else has done the
// same, or approved the refund. If that is rejected the payment is held again.
//
// Errors: ErrNotFound, ErrRefundWaits, *RefundRefusedError, *operators.SameError,
// operators.ErrShell, operators.ErrNoLonger, database errors.
func (s *Service) RefundHeld(ctx context.Context, transactionID string, cause Cause) error {
	return s.refundHeld(ctx, transactionID, "", cause)
}

// refundHeld is RefundHeld with a person's reason for the timeline, "" for none.
func (s *Service) refundHeld(ctx context.Context, transactionID, why string, cause Cause) error {
	// Under its order, when it has one: whoever has loaded the order's payments and
	// refunds must not see the payment taken and no refund of it.
	// The payment says which: what was told under its refund's number may have none.
	var no string
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		no, err = orderOfPayment(ctx, tx, transactionID)
		return err
	})
	if err != nil {
		return sqldb.Wrap("find the order of a held payment", err)
	}
	c := &sendBackHeld{header: header{orderNo: no, cause: cause}, transactionID: transactionID}
	if why != "" {
		c.detail = map[string]string{"reason": why}
	}
	done, err := s.apply(ctx, c)
	if errors.Is(err, errOtherOrder) { // it came a moment ago, or got its order: once
		return s.refundHeld(ctx, transactionID, why, cause)
	}
	if err != nil {
		return err
	}
	if done.refund == nil {
		waits, _, err := s.ListRefunds(ctx, RefundFilter{TransactionID: transactionID, State: RefundStatePending,
			Primary: true})
		if err == nil && len(waits) > 0 {
			err = ErrRefundWaits
		}
		return err
	}
	s.wakeRefund(done.refund.row)
	if done.refund.row.State == RefundStatePending {
		return ErrRefundWaits
	}
	return nil
}

// validate gives a *ValidationError with everything that is wrong. What the order
// and its payment allow is decided under the order's lock.
func (r *AskRefund) validate() error {
	var bad invalid
	bad.text("#/request_id", &bounds.IdempotencyKey, r.RequestID)
	bad.text("#/reason", &bounds.Reason, r.Reason)
	if n := int64(len(r.Lines)); n > bounds.Lines.Most {
		bad = append(bad, FieldError{"#/items", "TOO_MANY", fmt.Sprintf("at most %d lines", bounds.Lines.Most)})
	}
	for i, l := range r.Lines {
		bad.text(fmt.Sprintf("#/items/%d/sku_id", i), &bounds.SkuID, l.SkuID)
		bad.number(fmt.Sprintf("#/items/%d/quantity", i), &bounds.Quantity, l.Quantity)
	}
	if r.Amount != nil {
		bad.number("#/amount/refund", &bounds.TotalFen, int64(*r.Amount))
	}
	return bad.err()
}

// hash tells two requests under one key apart.
func (r *AskRefund) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%t\n%q\n", r.OrderNo, r.NoRestock, r.Reason)
	if r.Restock {
		fmt.Fprintln(h, "restock")
	}
	if r.Amount != nil {
		fmt.Fprintf(h, "%d\n", *r.Amount)
	}
	for _, l := range r.Lines {
		fmt.Fprintf(h, "%q %d\n", l.SkuID, l.Quantity)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// refundEventOf is what WeChat's status is to the table, "" for one that says nothing.
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

// FindRefund gives a refund, whoever's it is.
func (s *Service) FindRefund(ctx context.Context, outRefundNo string) (Refund, error) {
	return s.showRefund(ctx, outRefundNo, "")
}

// showRefund gives a refund as it is shown, all of it as of one moment. That there is none is said only where
// refunds are written.
func (s *Service) showRefund(ctx context.Context, outRefundNo, customerID string) (Refund, error) {
	var r Refund
	err := s.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		r, err = findRefund(ctx, tx, outRefundNo, customerID)
		return err
	})
	if errors.Is(err, ErrRefundNotFound) {
		return s.refundNow(ctx, outRefundNo, customerID)
	}
	return r, err
}

// refundNow gives a refund where refunds are written: for what decides.
func (s *Service) refundNow(ctx context.Context, outRefundNo, customerID string) (r Refund, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		r, err = findRefund(ctx, tx, outRefundNo, customerID)
		return err
	})
	return r, err
}

// FindOwnRefund gives a refund of this customer's order; another's is
// ErrRefundNotFound, found out by the same query in the same time.
func (s *Service) FindOwnRefund(ctx context.Context, customerID, outRefundNo string) (Refund, error) {
	if customerID == "" {
		return Refund{}, ErrRefundNotFound
	}
	return s.showRefund(ctx, outRefundNo, customerID)
}

// RefundFilter selects refunds, newest numbers first. Zero fields do not select.
type RefundFilter struct {
	// Primary reads where refunds are written, for whoever acts on what is listed.
	Primary       bool
	State         RefundState
	OrderNo       string
	TransactionID string
	Reason        string // one of the Reason… constants
	Limit         int    // 1–200
	Cursor        string // out_refund_no of the last one seen
}

// ListRefunds gives refunds and the cursor of the next page, "" at the end. Those of all
// orders are shown, and may be as old as a replica is; those of an order or of a payment
// are of the primary.
func (s *Service) ListRefunds(ctx context.Context, f RefundFilter) ([]Refund, string, error) {
	limit := pageSize(f.Limit)
	if err := bounds.OutRefundNo.Cursor(f.Cursor); err != nil {
		return nil, "", err
	}
	var rows []Refund
	list := func(ctx context.Context, q querier) (err error) {
		rows, err = listRefunds(ctx, q, &f, limit+1)
		return err
	}
	var err error
	switch {
	case f.Primary:
		err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return list(ctx, tx) })
	case f.OrderNo+f.TransactionID != "": // who has just asked for one sees it
		err = s.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return list(ctx, tx) })
	default:
		err = s.db.Shown().Snapshot(ctx, func(ctx context.Context, v sqldb.View) error { return list(ctx, v) })
	}
	if err != nil {
		return nil, "", sqldb.Wrap("list refunds", err)
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].OutRefundNo
	}
	return rows, next, nil
}

// DueRefunds pages through the refunds that somebody has to look at, in the
// order of their due time: those after the cursor and due by until.
func (s *Service) DueRefunds(ctx context.Context, after DueCursor, until time.Time, limit int) (due []Due,
	err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		due, err = findDueRefunds(ctx, tx, after, until, limit)
		return err
	})
	return due, sqldb.Wrap("find due refunds", err)
}

// RefundBacklog counts the refunds that have not ended, by state, and what they
// are worth.
type RefundBacklog struct {
	Count  map[RefundState]int64
	Amount map[RefundState]payment.Fen
	Oldest map[RefundState]time.Time // when the oldest was asked for
}

// RefundAges are the bounds of the ages that RefundsByAge tells apart; what is older than the last is one more.
var RefundAges = []time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour, 3 * 24 * time.Hour, 7 * 24 * time.Hour,
	30 * 24 * time.Hour}

// RefundAge is how many refunds have not ended, of a state and an age.
type RefundAge struct {
	State  RefundState
	Age    int // a place in RefundAges, len(RefundAges) for what is older
	Count  int64
	Amount payment.Fen
}

// RefundsByAge counts the refunds that have not ended by their state and by how long ago they were asked for.
func (s *Service) RefundsByAge(ctx context.Context) (all []RefundAge, err error) {
	now, times := s.cfg.Now(), make([]time.Time, len(RefundAges))
	for i, age := range RefundAges {
		times[i] = now.Add(-age)
	}
	err = ageRefunds(ctx, s.db.Shown(), times, func(state RefundState, age int, n int64, sum payment.Fen) {
		all = append(all, RefundAge{state, age, n, sum})
	})
	return all, sqldb.Wrap("count open refunds by age", err)
}

// RefundBacklog reads the open refunds through the index on their state.
func (s *Service) RefundBacklog(ctx context.Context) (RefundBacklog, error) {
	b := RefundBacklog{Count: map[RefundState]int64{}, Amount: map[RefundState]payment.Fen{},
		Oldest: map[RefundState]time.Time{}}
	err := countRefunds(ctx, s.db, func(state RefundState, n int64, sum payment.Fen, oldest time.Time) {
		b.Count[state], b.Amount[state], b.Oldest[state] = n, sum, oldest
	})
	return b, sqldb.Wrap("count open refunds", err)
}

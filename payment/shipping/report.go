package shipping

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// Bounds of the reporter.
const (
	// lookEvery is how often a worker looks for what is due.
	lookEvery = 2 * time.Second
	// pageSize is how many reports one pass reads; atOnce how many are under way. WeChat
	// publishes no rate for them.
	pageSize = 100
	atOnce   = 4
	// callTimeout bounds one call; the first step of retry is longer, so that a turn
	// outlives its call.
	callTimeout = 10 * time.Second
	// tellEvery is how often operators are told again of an order that nobody sends, and
	// settingPause how long nothing is reported while a setting is wrong.
	tellEvery    = 6 * time.Hour
	settingPause = 5 * time.Minute
)

// retry is when a report without a usable answer is made again; its last step for ever,
// until giveUpAfter.
var retry = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour}

// Run reports what is due and tells operators what nobody sends, until ctx ends; it
// returns when the last call has ended. Every worker may run it: turns keep them apart.
func (s *Service) Run(ctx context.Context) {
	for sqldb.Sleep(ctx, s.wait(lookEvery)*8/10+rand.N(s.wait(lookEvery)*4/10)) { // replicas do not look in step
		paused, err := s.Pass(ctx)
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("shipments cannot be read or written", "err", err)
		}
		if paused {
			sqldb.Sleep(ctx, s.wait(settingPause))
		}
	}
}

// Pass does what is due now, once. It reports that a setting is wrong: then no report is
// of use for a while.
func (s *Service) Pass(ctx context.Context) (wrong bool, err error) {
	now := s.cfg.Now()
	told := s.tell(ctx, now) // whatever it finds, what is due is reported
	due, err := s.comeDue(ctx, StateDue, now)
	if err != nil {
		return false, cmp.Or(told, err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range due {
		mu.Lock()
		stop := wrong || ctx.Err() != nil
		mu.Unlock()
		if stop {
			break
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			means, e := s.report(ctx, &due[i])
			mu.Lock()
			defer mu.Unlock()
			wrong, err = wrong || means == Setting, cmp.Or(err, e)
		})
	}
	all.Wait()
	return wrong, cmp.Or(err, told)
}

// report takes the turn of one shipment, makes the call and writes its answer.
func (s *Service) report(ctx context.Context, r *row) (Meaning, error) {
	turn, err := s.claim(ctx, r)
	if err != nil || !turn {
		return Later, err
	}
	if r.damaged != nil {
		return Refused, s.settle(ctx, r, StateRefused, Verdict{Message: "what was sent cannot be read: send it again"})
	}
	call, cancel := context.WithTimeout(ctx, max(s.wait(callTimeout), time.Second))
	defer cancel()
	v, err := s.upload(call, r)
	if err != nil {
		s.cfg.Observe.Shipping(outcomeUnknown)
		return Later, s.settle(ctx, r, StateDue, Verdict{Message: err.Error()})
	}
	s.cfg.Observe.Shipping(outcomes[v.Means])
	state := StateDue
	switch v.Means {
	case Taken:
		if state = StateReported; r.Content.Partial {
			state = StateOwed
		}
	case Refused:
		state = StateRefused
	case Look:
		status, err := s.cfg.Reporter.Status(call, r.TransactionID)
		switch {
		case err != nil: // asked again with the next turn
			v.Message = err.Error()
		case status == StatusRefunded:
			state = StateVoid
		case status.sent():
			state = StateReported
		default:
			state = StateRefused
		}
	case Setting:
		s.alarm("shipping: WeChat refuses this account", r.OrderNo, fmt.Sprintf("%d %s", v.Code, v.Message))
	case Later, Stale:
	}
	return v.Means, s.settle(ctx, r, state, v)
}

// upload makes the call; with another access token once more, where the first has ended. A
// refusal of the token itself is an answer, too.
func (s *Service) upload(ctx context.Context, r *row) (Verdict, error) {
	u := Upload{TransactionID: r.TransactionID, OpenID: r.openID, Content: r.Content, At: r.PutAt}
	v, err := s.cfg.Reporter.Upload(ctx, u)
	if err == nil && v.Means == Stale {
		v, err = s.cfg.Reporter.Upload(ctx, u)
	}
	var t *TokenError
	if errors.As(err, &t) {
		v = Verdict{Code: t.Code, Message: t.Error(), Means: Setting}
		if t.Passing() {
			v.Means = Later
		}
		return v, nil
	}
	return v, err
}

// claim takes the turn: another worker, or newer content, has it otherwise. It reads who
// paid, too.
func (s *Service) claim(ctx context.Context, r *row) (turn bool, err error) {
	now := s.cfg.Now().Truncate(time.Millisecond)
	next := now.Add(s.wait(retry[min(r.Tries, int64(len(retry)-1))]))
	err = s.alone(ctx, r, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE shipments
SET tries = tries + 1, due_at = ?
WHERE order_no = ?
  AND state = 'due'
  AND version = ?
  AND tries = ?`, sqldb.Millis(next), r.OrderNo, r.Version, r.Tries)
		if err != nil {
			return fmt.Errorf("claim shipment: %w", err)
		}
		if turn = n == 1; !turn {
			return nil
		}
		r.DueAt = next
		err = tx.QueryRowContext(ctx, `SELECT openid
FROM payment_attempts
WHERE out_trade_no = ?`, r.OutTradeNo).Scan(&r.openID)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // WeChat says that it lacks
		}
		return err
	})
	return turn, err
}

// settle writes what an answer means, where it is still about this content and this turn. Who
// has stopped meanwhile writes it all the same: the call was made.
func (s *Service) settle(ctx context.Context, r *row, state State, v Verdict) error {
	now := s.cfg.Now().Truncate(time.Millisecond)
	over := now.Sub(r.PaidAt) > s.wait(giveUpAfter)
	if state == StateDue && over {
		state = StateRefused
	}
	due := any(nil)
	switch state {
	case StateDue:
		due = sqldb.Millis(r.DueAt) // its next turn, as claim has set it
	case StateOwed: // the rest
		due = sqldb.Millis(later(r.PaidAt.Add(s.wait(tellAfter)), now.Add(s.wait(tellEvery))))
	case StateReported, StateRefused, StateVoid:
	}
	n := int64(0)
	err := s.cfg.DB.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		n, err = tx.Update(ctx, `UPDATE shipments
SET state = ?, code = ?, message = ?, updated_at = ?, due_at = ?
WHERE order_no = ?
  AND state = 'due'
  AND version = ?
  AND tries = ?`, string(state), v.Code, bounds.ShipmentWord.Cut(v.Message), sqldb.Millis(now), due,
			r.OrderNo, r.Version, r.Tries+1)
		return err
	})
	if err != nil {
		return fmt.Errorf("store the answer about a shipment: %w", err)
	}
	if n == 1 && state == StateRefused {
		s.alarm("shipping: a report is refused, a person has to mend it", r.OrderNo,
			fmt.Sprintf("%d %s", v.Code, v.Message))
	}
	return nil
}

// tell ends what is owed for orders whose money went back, and tells operators of the
// others that nobody has sent in time, again and again until giveUpAfter.
func (s *Service) tell(ctx context.Context, now time.Time) error {
	late, err := s.comeDue(ctx, StateOwed, now)
	if err != nil {
		return err
	}
	for i := range late {
		err = cmp.Or(err, s.tellOf(ctx, &late[i], now))
	}
	return err
}

// alone is a transaction that begins with the lock of a shipment and waits for none: what
// another holds is left to the next pass.
func (s *Service) alone(ctx context.Context, r *row, do func(ctx context.Context, tx *sqldb.Tx) error) error {
	err := s.cfg.DB.InTxOfMany(ctx, true, func(ctx context.Context, tx *sqldb.Tx) error {
		there, err := sqldb.Known(ctx, tx, `SELECT 1
FROM shipments
WHERE order_no = ?
FOR UPDATE`, r.OrderNo)
		if err != nil || !there {
			return err
		}
		return do(ctx, tx)
	})
	if errors.Is(err, sqldb.ErrLocked) {
		return nil
	}
	return err
}

// tellOf tells of one order that nobody has sent, or of which the rest is to come.
func (s *Service) tellOf(ctx context.Context, r *row, now time.Time) error {
	var due any = sqldb.Millis(now.Add(s.wait(tellEvery)))
	if now.Sub(r.PaidAt) > s.wait(giveUpAfter) {
		due = nil
	}
	told := int64(0)
	err := s.alone(ctx, r, func(ctx context.Context, tx *sqldb.Tx) error {
		gone, err := wentBack(ctx, tx, r.OrderNo)
		if err != nil {
			return err
		}
		state := StateOwed
		if gone {
			state, due = StateVoid, nil
		}
		told, err = tx.Update(ctx, `UPDATE shipments
SET state = ?, due_at = ?
WHERE order_no = ?
  AND state = 'owed'
  AND due_at = ?`, string(state), due, r.OrderNo, sqldb.Millis(r.DueAt))
		if gone {
			told = 0
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("tell of a shipment that is owed: %w", err)
	}
	if told == 1 {
		what := "shipping: a paid order is not sent"
		if r.Content.Partial {
			what = "shipping: the rest of a paid order is not sent"
		}
		s.alarm(what, r.OrderNo,
			fmt.Sprintf("paid at %s; WeChat wants it within 48 hours", r.PaidAt.UTC().Format(time.RFC3339)))
	}
	return nil
}

package bulk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/operators"
)

// Kind is what is done to each row.
type Kind string

// The kinds.
const (
	KindClose   Kind = "order.close"
	KindAsk     Kind = "order.ask"
	KindApprove Kind = "refund.approve"
)

// Kinds lists them.
func Kinds() []Kind { return []Kind{KindClose, KindAsk, KindApprove} }

// Role is what whoever starts, repeats or stops a run of a kind has to be: that of the act on one thing.
func (k Kind) Role() operators.Role {
	switch k {
	case KindClose, KindAsk:
		return operators.Operator
	case KindApprove:
		return operators.Finance
	}
	return operators.Admin
}

// Bounds of a run.
const (
	// MaxRows is how many things one run looks at: what is more is narrowed down by the filter.
	MaxRows = 10_000
	// shown is how many of the rows a person sees before.
	shown = 5
	// holdFor is how long a process has a run after its last sign of life, which it gives before each row, and once
	// more when it has waited for the right to call WeChat Pay.
	holdFor = time.Minute
	// actFor bounds one act, which may call WeChat Pay some times; less than holdFor, and than the time of a shutdown.
	actFor = 15 * time.Second
	// lookEvery is how often a process looks for runs that nobody works at.
	lookEvery = time.Second
	// maxFilter is the width of the column of Filter.Text, in bytes.
	maxFilter = 2000
	// turnRows is how many rows of a run are done before the next run has its turn.
	turnRows = 20
)

// Errors of a run.
var (
	// ErrTooMany: the filter finds more than MaxRows.
	ErrTooMany = fmt.Errorf("the filter finds more than %d: narrow it down, such as by a shorter time", MaxRows)
	// ErrNone: there is nothing that the act could be done to.
	ErrNone = errors.New("the filter finds nothing that this can be done to")
	// ErrNotFound: there is no such run.
	ErrNotFound = errors.New("there is no such bulk run")
	// ErrReused: the id is that of a run of something else, or of somebody else.
	ErrReused = errors.New("this id was used for another bulk run")
	// ErrChanged: the filter finds as many as before, and not the same or not as they were. Nothing was done.
	ErrChanged = errors.New("they are as many as were meant, and not the same any more: look again")
	// ErrSecond: what a run approves comes to a sum that takes two people, and whoever started it cannot be both.
	ErrSecond = errors.New("it comes to more than one person may approve: somebody else of finance has to have " +
		"it go on")
	// errLeft: whoever had a run go on that takes two people was let go, or is no second person any more.
	errLeft = errors.New("whoever had it go on is no second person any more: somebody else of finance has to have " +
		"it go on")
	// ErrID: an id is a ULID.
	ErrID = errors.New("the id of a bulk run is a ULID")
)

// CountError: the filter finds another number than the person has typed. Nothing was done.
type CountError struct{ Typed, Count int64 }

func (e *CountError) Error() string {
	return fmt.Sprintf("%d were meant and it is %d now: look again", e.Typed, e.Count)
}

// RowState is how far a row is.
type RowState string

// States of rows.
const (
	RowWaiting RowState = "waiting"
	RowDoing   RowState = "doing"
	RowDone    RowState = "done"
	RowChanged RowState = "changed" // it was not any more as it had been counted, and was left alone
	RowFailed  RowState = "failed"  // Detail says why
)

// RowStates lists them.
func RowStates() []RowState { return []RowState{RowWaiting, RowDoing, RowDone, RowChanged, RowFailed} }

// Row is a thing that the act is done to.
type Row struct {
	Seq     int64
	Ref     string // the number of the order, or of the refund
	Version int64  // when it was counted
	Amount  payment.Fen
	State   RowState
	Detail  string // why it was not done, or what it waits for
}

// State is how far a run is.
type State string

// States of runs.
const (
	StateRunning State = "running"
	StateStopped State = "stopped" // Note says by whom and why, or that it TakesTwo; Resume has it go on
	StateDone    State = "done"
)

// Ask is what a person asks for.
type Ask struct {
	ID     string // a ULID of the caller's: the same again is the same run
	Kind   Kind
	Filter Filter
	Count  int64  // how many the person has seen that there are
	Seen   string // Preview.Seen of what the person has seen
	Actor  string
	Reason string
}

// Run is what was asked for, and how far it is.
type Run struct {
	ID     string
	Kind   Kind
	Actor  string
	Reason string
	Filter string // Filter.Text
	Total  int64
	Sum    payment.Fen
	State  State
	Note   string // who stopped it last, or had it go on, and why
	// Done, Changed and Failed are rows; the rest of Total waits.
	Done, Changed, Failed int64
	CreatedAt, EndedAt    time.Time // EndedAt is zero while it runs
}

// Notes are what runs that stopped by themselves say, for who says it in another language.
func Notes() []string {
	return []string{operators.ErrNoLonger.Error(), ErrSecond.Error(), errLeft.Error()}
}

// Waits is how many rows have not had their turn.
func (r *Run) Waits() int64 { return r.Total - r.Done - r.Changed - r.Failed }

// Preview is what a person is shown before anything is done.
type Preview struct {
	Count int64
	Sum   payment.Fen
	First []Row
	// Seen stands for all of it: what is done, to which things in which order, their versions and amounts.
	Seen string
}

// Orders is what runs need of orders; *order.Service has it, and documents its errors.
type Orders interface {
	Select(ctx context.Context, f order.Filter, prepaid bool, most int) ([]order.Selected, bool, error)
	Find(ctx context.Context, orderNo string) (order.Order, error)
	Caused(ctx context.Context, orderNo, causeType, causeID, outRefundNo string) (bool, error)
	Cancel(ctx context.Context, r order.CancelRequest) (order.Order, error)
	Sync(ctx context.Context, orderNo string, cause order.Cause) (order.Order, error)
	FindRefund(ctx context.Context, outRefundNo string) (order.Refund, error)
	ListRefunds(ctx context.Context, f order.RefundFilter) ([]order.Refund, string, error)
	ApprovalsFor(sum payment.Fen) int
	DecideRefund(ctx context.Context, d order.RefundDecision) (order.Refund, error)
}

// Limiter is a rate that others share; scheduler.Limiter has it.
type Limiter interface {
	Take(ctx context.Context, n int) (got int, wait time.Duration, err error)
}

// Config is what Runs need. DB, Orders and Now are required.
type Config struct {
	DB     *sqldb.DB
	Orders Orders
	Now    func() time.Time // the database's clock
	Log    *slog.Logger     // nil: silent
	// Calls is the rate of calls to WeChat Pay; nil: there is no limit.
	Calls Limiter
	// Alarm is called with what must not happen unseen, for an operator, beside the log: such as a word of a second
	// person who is new. It is committed then. May be nil.
	Alarm func(what, detail string)
	// LookEvery is how often Run looks; default a second.
	LookEvery time.Duration
}

// Runs keeps runs and works at them. All methods are safe for concurrent use, by any number of processes on one
// database.
type Runs struct {
	cfg    Config
	db     *sqldb.DB
	holder string // names this one to the others
	rung   chan struct{}
	passed passed
}

// New keeps runs.
func New(c Config) (*Runs, error) {
	if c.DB == nil || c.Orders == nil || c.Now == nil {
		return nil, errors.New("bulk: Config needs DB, Orders and Now")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.LookEvery <= 0 {
		c.LookEvery = lookEvery
	}
	return &Runs{cfg: c, db: c.DB, holder: NewID(c.Now()), rung: make(chan struct{}, 1),
		passed: passed{after: map[string]int64{}}}, nil
}

// NewID makes an id for a run.
func NewID(now time.Time) string { return ulid.MustNew(ulid.Timestamp(now), rand.Reader).String() }

// check says what of an Ask is wrong.
func (a *Ask) check() error {
	if _, err := ulid.ParseStrict(a.ID); err != nil || a.ID == "" {
		return ErrID
	}
	if wrong := bounds.Reason.Check(a.Reason); wrong != nil {
		return &order.ValidationError{Fields: []order.FieldError{{Pointer: "#/reason", Code: wrong.Code,
			Detail: wrong.Detail}}}
	}
	if len(a.Filter.Text()) > maxFilter {
		return &order.ValidationError{Fields: []order.FieldError{{Pointer: "#/filter", Code: bounds.CodeLength,
			Detail: "its texts are longer than any number or name"}}}
	}
	return nil
}

// TakesTwo reports that a run of a kind that comes to a sum takes two people, by the limit of one refund: the first
// starts it, and the second has it go on (Resume).
func (r *Runs) TakesTwo(kind Kind, sum payment.Fen) bool {
	return kind == KindApprove && r.cfg.Orders.ApprovalsFor(sum) > 1
}

// Look says what would be done. Errors: ErrTooMany, *order.ValidationError, database errors.
func (r *Runs) Look(ctx context.Context, kind Kind, f *Filter) (Preview, error) {
	rows, err := r.find(ctx, kind, f)
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Count: int64(len(rows)), Sum: sum(rows), First: rows[:min(len(rows), shown)],
		Seen: digest(kind, rows)}
	return p, nil
}

// digest is Preview.Seen of rows.
func digest(kind Kind, rows []Row) string {
	all := sha256.New()
	fmt.Fprintf(all, "%q", string(kind))
	for i := range rows {
		fmt.Fprintf(all, ";%q,%d,%d", rows[i].Ref, rows[i].Version, int64(rows[i].Amount))
	}
	return hex.EncodeToString(all.Sum(nil))
}

// sum is what rows come to.
func sum(rows []Row) (all payment.Fen) {
	for i := range rows {
		all += rows[i].Amount
	}
	return all
}

// Start writes down a run and its rows, to be done by whoever runs Run or Work; or gives the run of this id that there
// is, as it is: whatever the filter finds by now, and stopped if it was stopped. One that TakesTwo is stopped at once.
// Errors: ErrID, ErrReused, ErrNone, ErrTooMany, *CountError, ErrChanged, operators.ErrShell (it takes two people),
// *order.ValidationError: nothing is done then.
func (r *Runs) Start(ctx context.Context, a *Ask) (Run, error) {
	if err := a.check(); err != nil {
		return Run{}, err
	}
	if was, err := r.begun(ctx, a); !errors.Is(err, ErrNotFound) {
		return was, err
	}
	rows, err := r.seen(ctx, a)
	if err != nil {
		if was, found := r.begun(ctx, a); found == nil { // by the same request, meanwhile
			return was, nil
		}
		return Run{}, err
	}
	if r.TakesTwo(a.Kind, sum(rows)) && (operators.Shell(a.Actor) || a.Actor == operators.Bootstrap) {
		return Run{}, operators.ErrShell
	}
	if err := r.insert(ctx, a, rows); err != nil {
		return Run{}, err
	}
	was, err := r.begun(ctx, a)
	if err != nil {
		return Run{}, err
	}
	r.ring()
	return was, nil
}

// begun gives the run of an Ask that was started already, or ErrNotFound.
func (r *Runs) begun(ctx context.Context, a *Ask) (Run, error) {
	was, err := r.Find(ctx, a.ID)
	if err == nil {
		err = a.isFor(&was)
	}
	if err != nil {
		return Run{}, err
	}
	return was, nil
}

// seen gives the rows of an Ask if they are those that the person has seen, each as it was then.
func (r *Runs) seen(ctx context.Context, a *Ask) ([]Row, error) {
	rows, err := r.find(ctx, a.Kind, &a.Filter)
	switch {
	case err != nil:
		return nil, err
	case int64(len(rows)) != a.Count:
		return nil, &CountError{a.Count, int64(len(rows))}
	case len(rows) == 0:
		return nil, ErrNone
	case digest(a.Kind, rows) != a.Seen:
		return nil, ErrChanged
	}
	return rows, nil
}

// isFor is ErrReused unless a run is what was asked for.
func (a *Ask) isFor(was *Run) error {
	if was.Kind != a.Kind || was.Filter != a.Filter.Text() || was.Actor != a.Actor || was.Reason != a.Reason ||
		was.Total != a.Count {
		return ErrReused
	}
	return nil
}

// ring has this process look for runs now.
func (r *Runs) ring() {
	select {
	case r.rung <- struct{}{}:
	default:
	}
}

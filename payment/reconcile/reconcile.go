package reconcile

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1" //nolint:gosec // WeChat's choice of a hash
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
)

// Gateway is the part of payment.Gateway that confirms what a bill says. It is asked
// about a bill that a person gave, which proves nothing by itself, and when a person
// applies a payment (ApplyPayment). A bill that WeChat Pay signed for needs no
// question.
type Gateway interface {
	// Query tells the state of a WeChat order. A number that WeChat Pay does not know
	// is payment.TradeNotFound and no error.
	Query(ctx context.Context, outTradeNo string) (payment.Trade, error)
	// QueryRefund tells the state of a refund, payment.RefundNotFound likewise.
	QueryRefund(ctx context.Context, outRefundNo string) (payment.Refund, error)
}

// Bills fetches bills; *wechat.Gateway does. The file is written to w as it comes, and only a
// nil error means that it is whole and WeChat's.
type Bills interface {
	FetchBill(ctx context.Context, date string, t payment.BillType, w io.Writer) (payment.Bill, error)
}

// Config is what a Reconciler works with. DB, Orders, Gateway, Bills, Now and MchID are
// required.
type Config struct {
	// DB has the tables of this package, which are written, and payments and refunds,
	// which are only read.
	DB      *sqldb.DB
	Orders  Orders
	Gateway Gateway
	Bills   Bills
	// Now decides which days are over and until when a run has its bill: processes that
	// share a database need clocks that agree within a fraction of leaseFor.
	Now   func() time.Time
	Log   *slog.Logger // nil for silence
	MchID string       // the merchant whose bills these are; rows of another are refused
	// AppIDs are the app ids that orders are paid in. A row of another is of another business
	// of the same merchant number, unless its number is one that was sent from here. Nil:
	// app ids are not looked at.
	AppIDs []string
	// TempDir is where bill and partitions are while a run works; "" for the system's.
	// It needs about twice the size of the bill. What lies there has the openids of
	// buyers; a run removes it at its end, a killed one leaves it behind.
	TempDir string
	// BoundaryWindow is how near to midnight a payment of ours that the bill lacks
	// waits for the next bill before it alarms: two clocks may put one payment on two
	// days. Default ten minutes.
	BoundaryWindow time.Duration
	// Finished is called after every run that ended well with a bill that counts, on the goroutine of Run, when
	// the result is committed: for metrics and alarms. May be nil.
	Finished func(Result)
	// Alarm is called with what must not happen unseen, for an operator, beside the log: such as
	// a word of a second person who is new. May be nil.
	Alarm func(what, detail string)
}

// Errors of reconciliation; ErrBadBill, payment.ErrBillNotReady and the
// gateway's are others.
var (
	// ErrRequest: the request cannot be understood.
	ErrRequest = errors.New("this cannot be reconciled")
	// ErrRunning: this bill is being reconciled now, perhaps by another process. Run
	// gives it too when it was so slow that another run has taken its bill over.
	ErrRunning = errors.New("this bill is being reconciled now")
	// ErrNotFound: no such reconciliation, bill or difference.
	ErrNotFound = errors.New("no such reconciliation or difference")
	// ErrSecondPerson: writing off takes two people, and the one who confirms is the
	// one who proposed.
	ErrSecondPerson = errors.New("a write-off needs a second person: somebody else has to confirm it")
	// ErrRefundWaits: the refund is proposed, and somebody else has to agree.
	ErrRefundWaits = errors.New("the refund waits for the approval of a second person")
	// ErrResolved: the difference is resolved already.
	ErrResolved = errors.New("this difference is resolved already")
)

// Bounds of a run.
const (
	// defaultWindow is far more than two clocks differ by, and little enough that
	// few payments of a day wait for the next bill.
	defaultWindow = 10 * time.Minute
	// leaseFor is how long a killed run keeps its bill from the next one.
	leaseFor = 30 * time.Second
	// renewEvery lets a run miss two renewals (a slow database, a pause) before
	// somebody else may take its bill.
	renewEvery = 8 * time.Second
	// catchUpDays is how far back WeChat gives bills: three months, by its document
	// of the application for a trade bill.
	catchUpDays = 89
	// grownDays is how far back a day that is done is looked at again for payments
	// that were recorded since. WeChat repeats a notification for a day, so nothing
	// but a healed fault comes later than that.
	grownDays = 7
	// billHour is when yesterday's bill is out, in Beijing: WeChat begins to make
	// bills at 9:00 and says to fetch them after 10:00.
	billHour = 10
	// billLate is how long after billHour a bill may still be in the making; then it is an
	// alarm, as often as it is asked for.
	billLate = 4 * time.Hour
	// askSoonest and askLatest bound the time between two questions for a bill that is in the
	// making, which grows with the time that it is late: WeChat says to ask every half hour.
	askSoonest = 30 * time.Minute
	askLatest  = 6 * time.Hour
	// healPage is how many differences are read at once while healing: each of them
	// is a transaction of its own, so a larger page saves nothing.
	healPage = 200
	// progressEvery is how many rows of a bill lie between two calls of Progress:
	// a few a second.
	progressEvery = 100_000
)

// Reconciler reconciles. All methods are safe for concurrent use, also in many
// processes: the row of a bill in table reconciliations has one holder at a time.
type Reconciler struct {
	cfg Config
	db  *sqldb.DB
	log *slog.Logger
	// proofMade is called between the making of a proof and the transaction that closes its day; nil but in tests.
	proofMade func()
}

// New makes a reconciler; it holds nothing that needs closing.
func New(cfg Config) (*Reconciler, error) {
	if cfg.DB == nil || cfg.Orders == nil || cfg.Gateway == nil || cfg.Bills == nil || cfg.Now == nil ||
		cfg.MchID == "" {
		return nil, errors.New("reconcile: Config needs DB, Orders, Gateway, Bills, Now and MchID")
	}
	if cfg.BoundaryWindow == 0 {
		cfg.BoundaryWindow = defaultWindow
	}
	r := &Reconciler{cfg: cfg, db: cfg.DB, log: cfg.Log}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r, nil
}

// RunRequest asks for one reconciliation. Only Date is required.
type RunRequest struct {
	Date string           // of Beijing
	Type payment.BillType // default BillAll
	// File is a bill that a person gives, plain or gzip; nil fetches it. It
	// carries no signature: what it has and we lack is recorded only after WeChat
	// itself, asked, says the same, and it ends no difference unless a second person
	// confirms it (Confirm).
	File io.Reader
	// By is who gives File: ByOperator. Required with it.
	By Cause
	// confirmedBy is whose confirmation of File this run is: Confirm.
	confirmedBy string
	// Progress is called with how far a stage is; total is 0 when it is not known.
	// May be nil.
	Progress func(stage string, done, total int64)
}

// run is one reconciliation under way. It belongs to the goroutine that runs it; the
// one that renews its lease only reads date, kind and holder, which do not change.
type run struct {
	date     string
	kind     payment.BillType
	holder   string                                // of the lease: a name that no other run has
	no       int64                                 // run_no of this pass: what it sees is marked with it
	fromFile bool                                  // a person gave the bill: it proves nothing by itself
	by       Cause                                 // who gave it
	was      standing                              // how the day stood before
	counts   bool                                  // the bill counts for its day: weigh
	sha1     string                                // of the bill, "" when the day has none
	onStage  func(stage string, done, total int64) // RunRequest.Progress
	// confirmedBy is who confirmed a bill from a file, "" for nobody.
	confirmedBy string
	// other is whether the bill of the day before and of the day after counts and is done.
	other map[string]bool
	pass  int // from 1; only the first heals
	// healed is how many differences the first pass has recorded.
	healed int
}

// progress reports how far a stage is, to whoever wants to know.
func (u *run) progress(stage string, done, total int64) {
	if u.onStage != nil {
		u.onStage(stage, done, total)
	}
}

// billTypes are the bills that can be reconciled.
var billTypes = []payment.BillType{payment.BillAll, payment.BillSuccess, payment.BillRefund, payment.BillFundFlow}

// Run reconciles one bill, whole. It may be repeated at any time, also after it was
// killed: it goes by what is there. A bad bill changes nothing but the state of its row
// in reconciliations.
//
// Errors: ErrRequest, ErrRunning, ErrBadBill, payment.ErrBillNotReady and the others of
// Bills, database errors. A gateway that does not answer a single question ends no run:
// that difference stays open.
func (r *Reconciler) Run(ctx context.Context, q RunRequest) (Result, error) {
	if q.Type == "" {
		q.Type = payment.BillAll
	}
	if !slices.Contains(billTypes, q.Type) {
		return Result{}, fmt.Errorf("%w: there is no bill type %.20q; ALL, SUCCESS, REFUND or FUNDFLOW", ErrRequest,
			q.Type)
	}
	if _, err := dayStart(q.Date); err != nil {
		return Result{}, err
	}
	if q.Date > Day(r.cfg.Now()) {
		return Result{}, fmt.Errorf("%w: %s has not come yet in Beijing", ErrRequest, q.Date)
	}
	if q.File != nil && q.By.ActorID == "" {
		return Result{}, fmt.Errorf("%w: who gives the file has to be known", ErrRequest)
	}
	if err := r.endWaiting(ctx); err != nil {
		return Result{}, err
	}
	u := &run{date: q.Date, kind: q.Type, holder: ulid.Make().String(), fromFile: q.File != nil, by: q.By,
		confirmedBy: q.confirmedBy, onStage: q.Progress}
	if err := r.acquire(ctx, u); err != nil {
		return Result{}, err
	}
	ctx, stop := r.renew(ctx, u)
	result, err := r.reconcile(ctx, u, q.File)
	stop()
	if err != nil {
		r.fail(context.WithoutCancel(ctx), u, err)
		return Result{}, err
	}
	failpoint.Hit("recon.done")
	if err := r.finish(ctx, u, result); err != nil {
		return Result{}, err
	}
	if r.cfg.Finished != nil && u.counts {
		r.cfg.Finished(result)
	}
	return result, nil
}

// reconcile does the work of a run that holds the lease. What it has on disk is gone
// when it returns.
//
// The order is what makes a bad bill harmless: the file is read to its last line, which
// alone proves that it is whole, before it is stored, and stored before anything is
// recorded because of it, so that there is no payment from a bill that nobody can look
// at.
func (r *Reconciler) reconcile(ctx context.Context, u *run, file io.Reader) (result Result, err error) {
	dir, err := os.MkdirTemp(r.cfg.TempDir, "orderd-reconcile-")
	if err != nil {
		return Result{}, fmt.Errorf("room for the bill: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bill, err := r.obtain(ctx, u, dir, file)
	if err != nil {
		return Result{}, err
	}
	defer bill.Close()
	st, err := bill.Stat()
	if err != nil {
		return Result{}, fmt.Errorf("read the bill: %w", err)
	}
	if u.kind == payment.BillFundFlow {
		return r.fundFlow(ctx, u, bill)
	}
	seed := maphash.MakeSeed()
	rows, err := newSpill(dir, "bill", seed, partitionsFor(st.Size()))
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = rows.close() }() // files that are thrown away
	totals, err := r.read(u, bill, rows)
	if err != nil {
		return Result{}, err
	}
	if u.sha1 != "" {
		u.progress("storing", 0, 0)
		if err := r.saveBill(ctx, u, bill); err != nil {
			return Result{}, err
		}
		failpoint.Hit("recon.saved")
	}
	if err := r.weigh(ctx, u); err != nil {
		return Result{}, err
	}
	return r.match(ctx, u, dir, seed, rows, totals)
}

// read reads the bill into partitions. A day without a bill has no rows.
func (r *Reconciler) read(u *run, bill *os.File, rows *spill) (Totals, error) {
	if u.sha1 == "" {
		return Totals{}, nil
	}
	if _, err := bill.Seek(0, io.SeekStart); err != nil {
		return Totals{}, fmt.Errorf("read the bill: %w", err)
	}
	n := int64(0)
	w := wanted{date: u.date, kind: u.kind, mchID: r.cfg.MchID, window: r.cfg.BoundaryWindow,
		own: func(outTradeNo string) bool { return r.cfg.Orders.OrderNoOf(outTradeNo) != "" }}
	return readTrade(bill, w, func(line *row) error {
		if n++; n%progressEvery == 0 {
			u.progress("bill", n, 0)
		}
		return rows.addRow(line)
	})
}

// match compares, heals, and compares again when anything was healed, so that the
// result is that of our rows and the bill as they are in the end. Two passes are the
// most: only the first heals, and what it could not heal stays open.
func (r *Reconciler) match(ctx context.Context, u *run, dir string, seed maphash.Seed, rows *spill,
	totals Totals) (Result, error) {
	for {
		u.pass++
		p, err := r.onePass(ctx, u, dir, seed, rows)
		if err != nil {
			return Result{}, err
		}
		payments, refunds, err := p.bridge(totals)
		if err != nil {
			return Result{}, err
		}
		if err := r.settleSeen(ctx, u); err != nil {
			return Result{}, err
		}
		if u.pass == 1 {
			if u.healed, err = r.heal(ctx, u); err != nil {
				return Result{}, err
			}
		}
		if u.pass > 1 || u.healed == 0 {
			return r.result(ctx, u, totals, payments, refunds)
		}
	}
}

// onePass reads our side again, because healing has added to it, and compares it with
// the bill that is on disk. The partitions of ours are removed with the folder of the
// run.
//
// Our side is read last, and not while the bill is: whoever is told of a payment, and a person who
// ends a difference, goes on meanwhile, and what was read before would undo it.
func (r *Reconciler) onePass(ctx context.Context, u *run, dir string, seed maphash.Seed, rows *spill) (*pass, error) {
	from, err := dayStart(u.date)
	if err != nil {
		return nil, err
	}
	ours, err := newSpill(dir, fmt.Sprintf("ours%d-", u.pass), seed, len(rows.files))
	if err != nil {
		return nil, err
	}
	defer func() { _ = ours.close() }() // files that are thrown away
	p := &pass{r: r, run: u, from: from, to: from.AddDate(0, 0, 1), bill: rows, ours: ours}
	if err := r.nextRun(ctx, u); err != nil {
		return nil, err
	}
	if u.other, err = r.doneNear(ctx, u.date, u.kind); err != nil {
		return nil, err
	}
	if err := p.spillOurs(ctx); err != nil {
		return nil, err
	}
	return p, p.join(ctx)
}

// obtain fetches the bill, or takes the one that was given, into a file of plain text,
// and notes its SHA-1: of the plain text in both cases, as WeChat's hash_value is, so
// that the same bill is stored once however it came. A day without a bill gives an
// empty file and no SHA-1. The caller closes the file.
func (r *Reconciler) obtain(ctx context.Context, u *run, dir string, given io.Reader) (*os.File, error) {
	f, err := os.Create(dir + "/bill")
	if err != nil {
		return nil, fmt.Errorf("room for the bill: %w", err)
	}
	if given == nil {
		u.progress("fetching", 0, 0)
		b, err := r.cfg.Bills.FetchBill(ctx, u.date, u.kind, f)
		if errors.Is(err, payment.ErrNoBill) {
			return f, nil
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		u.sha1 = b.SHA1
		return f, nil
	}
	hash := sha1.New() //nolint:gosec // see above
	plain, err := unpacked(given)
	if err == nil {
		var n int64
		n, err = io.Copy(io.MultiWriter(f, hash), io.LimitReader(plain, payment.MaxBillBytes+1))
		if n > payment.MaxBillBytes {
			err = fmt.Errorf("%w: it is larger than %d bytes", ErrBadBill, int64(payment.MaxBillBytes))
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	u.sha1 = hex.EncodeToString(hash.Sum(nil))
	return f, nil
}

// unpacked gunzips what is gzip, told by its two magic bytes (RFC 1952) and not by a
// name: people give bills either way, and the name does not come with them.
func unpacked(r io.Reader) (io.Reader, error) {
	head := make([]byte, 2)
	n, err := io.ReadFull(r, head)
	if err != nil {
		return nil, fmt.Errorf("%w: the file is empty", ErrBadBill)
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), r)
	if head[0] != 0x1f || head[1] != 0x8b {
		return whole, nil
	}
	packed := &counter{r: whole}
	z, err := gzip.NewReader(packed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadBill, err)
	}
	return &gunzipped{z: z, packed: packed}, nil
}

// counter counts the bytes that were read through it: how much of a compressed file its
// unpacked bytes were made of.
type counter struct {
	r io.Reader
	n int64
}

// Read reads and counts.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// gunzipped makes the errors of a broken gzip those of a bad bill, and ends one that grows as
// no bill does (payment.MaxInflation).
type gunzipped struct {
	z      io.Reader
	packed *counter
	n      int64
}

// Read unpacks, and refuses to go on when a few bytes become very many.
func (g *gunzipped) Read(p []byte) (int, error) {
	n, err := g.z.Read(p)
	if g.n += int64(n); g.n > payment.InflationSlack+payment.MaxInflation*g.packed.n {
		return n, fmt.Errorf("%w: gzip: it grows beyond all measure when it is unpacked", ErrBadBill)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: gzip: %w", ErrBadBill, err)
	}
	return n, err
}

// result counts what is open now and puts all together.
func (r *Reconciler) result(ctx context.Context, u *run, totals Totals, payments, refunds Bridge) (Result, error) {
	res := u.newResult()
	res.Totals, res.Payments, res.Refunds = totals, payments, refunds
	err := r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return countOpen(ctx, tx, &res) })
	return res, err
}

// newResult is the result of a run with what is known before it has compared anything.
func (u *run) newResult() Result {
	res := Result{Date: u.date, Type: u.kind, SHA1: u.sha1, Source: SourceWeChat, Differences: map[Kind]int64{}}
	if u.fromFile {
		res.Source, res.GivenBy, res.ConfirmedBy = SourceFile, u.by.ActorID, u.confirmedBy
		res.Uncounted = !u.counts
	}
	return res
}

// CatchUp reconciles every day whose bill is out and that is not done by WeChat Pay's own bill, from the first
// payment on, three months back at most; a day of the last week is done again when a
// payment of it was recorded since. A bill that is not ready is no error. Only the bill
// of all transactions is fetched. A day that fails does not hold back the others; all
// their errors come back joined.
func (r *Reconciler) CatchUp(ctx context.Context) error {
	if err := r.endWaiting(ctx); err != nil {
		return err
	}
	now := r.cfg.Now().In(beijing)
	last := now.AddDate(0, 0, -1)
	if now.Hour() < billHour {
		last = now.AddDate(0, 0, -2)
	}
	first, ok, err := r.firstDay(ctx)
	if err != nil || !ok {
		return err
	}
	if oldest := now.AddDate(0, 0, -catchUpDays); first.Before(oldest) {
		first = oldest
	}
	done, err := r.doneDays(ctx, Day(first), Day(now.AddDate(0, 0, -grownDays)))
	if err != nil {
		return err
	}
	making, err := r.inTheMaking(ctx, Day(first))
	if err != nil {
		return err
	}
	var errs []error
	for day := first; Day(day) <= Day(last); day = day.AddDate(0, 0, 1) {
		if done[Day(day)] || now.Before(making[Day(day)]) {
			continue
		}
		_, err := r.Run(ctx, RunRequest{Date: Day(day)})
		switch {
		case errors.Is(err, payment.ErrBillNotReady):
			if late := now.Sub(billDue(day)); late >= billLate {
				r.alarm("WeChat Pay does not make the bill of a day", "bill_date "+Day(day)+", late by "+
					late.Round(time.Minute).String())
			}
			continue
		case errors.Is(err, ErrRunning):
			continue
		case ctx.Err() != nil:
			return errors.Join(append(errs, ctx.Err())...)
		case err != nil:
			errs = append(errs, fmt.Errorf("reconcile %s: %w", Day(day), err))
			continue
		}
		r.log.Info("reconciled", "bill_date", Day(day))
	}
	return errors.Join(errs...)
}

// billDue is when the bill of a day should be out.
func billDue(day time.Time) time.Time {
	y, m, d := day.In(beijing).Date()
	return time.Date(y, m, d+1, billHour, 0, 0, 0, beijing)
}

// inTheMaking tells of the days from a date on whose bill was in the making when it was last
// asked for, when to ask again.
func (r *Reconciler) inTheMaking(ctx context.Context, from string) (map[string]time.Time, error) {
	next := map[string]time.Time{}
	err := r.decide(ctx, `SELECT bill_date, finished_at
FROM reconciliations
WHERE bill_type = 'ALL'
  AND state = 'waiting'
  AND problem = ?
  AND bill_date >= ?`, []any{payment.ErrBillNotReady.Error(), from}, func(rows *sql.Rows) error {
		var date string
		var asked int64
		if err := rows.Scan(&date, &asked); err != nil {
			return err
		}
		day, err := dayStart(date)
		at := time.UnixMilli(asked)
		next[date] = at.Add(min(max(at.Sub(billDue(day)), askSoonest), askLatest))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the bills that are in the making: %w", err)
	}
	return next, nil
}

// encode writes a result so that equal ones are equal bytes: encoding/json sorts the
// keys of the one map in it.
func encode(res Result) (string, error) {
	b, err := json.Marshal(res)
	if err != nil {
		return "", fmt.Errorf("encode the result: %w", err)
	}
	return string(b), nil
}

package reconcile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment/operators"
)

// A bill that WeChat Pay gives is proven by a signed hash. A bill that a person gives is
// proven by nothing: what it lacks says as little as what it has. So it may add
// differences and never ends one, until a second person confirms it, and a bill that
// WeChat Pay signed is never replaced by it.

// Source is where the bill came from that a result rests on: a word of the API.
type Source string

// The sources of a bill.
const (
	// SourceWeChat: fetched, and its hash came in a signed answer; also the signed word
	// that a day has no bill.
	SourceWeChat Source = "wechat"
	// SourceFile: a person gave it. It counts for its day only when there is no bill of
	// WeChat Pay and a second person has confirmed it.
	SourceFile Source = "file"
)

// What was done with a bill: words of bill_hands.act, never changed.
const (
	actFetched   = "fetched"
	actGave      = "gave"
	actConfirmed = "confirmed"
)

// BillFile is a bill that came here, and who is behind it.
type BillFile struct {
	SHA1       string    `json:"sha1"` // of the plain text
	Source     Source    `json:"source"`
	Size       int64     `json:"size_bytes"`
	ReceivedAt time.Time `json:"received_at"`
	// GivenBy are the people who gave it, the first one first; ConfirmedBy is who said that
	// it counts, "" for nobody.
	GivenBy      []string `json:"given_by,omitempty"`
	ConfirmedBy  string   `json:"confirmed_by,omitempty"`
	ConfirmedWhy string   `json:"confirmed_why,omitempty"`
}

// Confirmation is a second person's word that a bill that somebody gave is WeChat Pay's.
type Confirmation struct {
	ID     string // of the reconciliation
	SHA1   string // of the file: what is confirmed is what was looked at
	Reason string // 1–200 characters
	Cause  Cause  // of a person: ByOperator
}

// Confirm makes a bill that a person gave count for its day, by the word of a second
// person, and reconciles the day with it. Money is still recorded only where WeChat Pay,
// asked, says the same. It may be repeated. Errors: ErrNotFound, ErrSecondPerson,
// those of operators.Second, ErrRequest with a reason (such as that WeChat Pay's own bill is here, which counts),
// and those of Run.
func (r *Reconciler) Confirm(ctx context.Context, q Confirmation) (Result, error) {
	if wrong := bounds.Reason.Check(q.Reason); wrong != nil {
		return Result{}, fmt.Errorf("%w: %s", ErrRequest, wrong.Detail)
	}
	s, err := r.showNow(ctx, q.ID)
	if err != nil {
		return Result{}, err
	}
	f, err := r.given(ctx, &s, q.SHA1)
	switch {
	case err != nil:
		return Result{}, err
	case s.Source == SourceWeChat:
		return Result{}, fmt.Errorf("%w: WeChat Pay's own bill of this day is here, and it counts; write off what "+
			"you do not believe in it, with a second person", ErrRequest)
	case len(f.GivenBy) == 0:
		return Result{}, fmt.Errorf("%w: nobody knows who gave this file; give it again", ErrRequest)
	}
	if err := r.confirm(ctx, &run{date: s.Date, kind: s.Type, sha1: f.SHA1}, f.GivenBy, q); err != nil {
		return Result{}, err
	}
	s.SHA1 = f.SHA1
	file, err := r.openStored(ctx, s)
	if err != nil {
		return Result{}, err
	}
	res, err := r.Run(ctx, RunRequest{Date: s.Date, Type: s.Type, File: file,
		By: Cause{ActorType: ActorOperator, ActorID: f.GivenBy[0]}, confirmedBy: q.Cause.ActorID})
	return res, errors.Join(err, file.Close())
}

// confirm writes a second person's word down: of one who is another than each of those who
// gave the file, by the rule of package operators, in the transaction that writes it.
func (r *Reconciler) confirm(ctx context.Context, u *run, givers []string, q Confirmation) error {
	if slices.Contains(givers, q.Cause.ActorID) {
		return ErrSecondPerson
	}
	var fresh bool
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if fresh, err = operators.Second(ctx, tx, r.cfg.Now(), q.Cause.ActorID, givers...); err != nil {
			return err
		}
		known, err := operators.Find(ctx, tx, givers...)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(givers, func(who string) bool { return known.May(who, operators.Finance) }) {
			return fmt.Errorf("%w: whoever gave this file was let go since; give it again", ErrRequest)
		}
		return r.insertHand(ctx, tx, u, actConfirmed, q.Cause, q.Reason)
	})
	if err == nil && fresh {
		r.freshActed("a bill was confirmed", u.date+", "+u.sha1, q.Cause.ActorID, givers...)
	}
	return err
}

// given finds a bill of a day by its hash.
func (r *Reconciler) given(ctx context.Context, s *Stored, sha1 string) (BillFile, error) {
	all, err := r.Files(ctx, s.ID())
	if err != nil {
		return BillFile{}, err
	}
	if i := slices.IndexFunc(all, func(f BillFile) bool { return f.SHA1 == sha1 }); i >= 0 {
		return all[i], nil
	}
	return BillFile{}, ErrNotFound
}

// Files gives the bills that came for a day, in the order in which they came.
func (r *Reconciler) Files(ctx context.Context, id string) ([]BillFile, error) {
	if len(id) < 12 || id[10] != '-' {
		return nil, ErrNotFound
	}
	all := []BillFile{}
	err := r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all = all[:0]
		return filesOf(ctx, tx, []any{id[:10], id[11:]}, &all)
	})
	if err != nil {
		return nil, fmt.Errorf("list the bills of a day: %w", err)
	}
	return all, nil
}

// filesOf reads the bills of a day and type, and whose hands they went through.
func filesOf(ctx context.Context, tx *sqldb.Tx, of []any, all *[]BillFile) error {
	at := map[string]int{}
	err := sqldb.Each(ctx, tx, `SELECT sha1, source, size_bytes, received_at
FROM bill_files
WHERE bill_date = ?
  AND bill_type = ?
ORDER BY received_at, sha1`, of, func(rows *sql.Rows) error {
		var f BillFile
		var received int64
		err := rows.Scan(&f.SHA1, &f.Source, &f.Size, &received)
		f.ReceivedAt = sqldb.FromMillis(received)
		at[f.SHA1] = len(*all)
		*all = append(*all, f)
		return err
	})
	if err != nil {
		return err
	}
	return sqldb.Each(ctx, tx, `SELECT sha1, act, who, why
FROM bill_hands
WHERE bill_date = ?
  AND bill_type = ?
ORDER BY at, act, who`, of, func(rows *sql.Rows) error {
		var sha1, act, who, why string
		err := rows.Scan(&sha1, &act, &who, &why)
		i, ok := at[sha1]
		if err != nil || !ok {
			return err
		}
		switch f := &(*all)[i]; act {
		case actFetched:
			f.Source = SourceWeChat
		case actGave:
			f.GivenBy = append(f.GivenBy, who)
		case actConfirmed:
			f.ConfirmedBy, f.ConfirmedWhy = who, why
		}
		return nil
	})
}

// saveHand writes down what somebody did with a bill, once.
func (r *Reconciler) saveHand(ctx context.Context, u *run, act string, who Cause) error {
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return r.insertHand(ctx, tx, u, act, who, "")
	})
}

// insertHand is saveHand in a transaction.
func (r *Reconciler) insertHand(ctx context.Context, tx *sqldb.Tx, u *run, act string, who Cause, why string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO bill_hands
  (bill_date, bill_type, sha1, act, who, how, why, at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, u.date, string(u.kind), u.sha1, act, bounds.Operator.Cut(who.ActorID),
		who.Type, why, r.cfg.Now().UnixMilli())
	if err != nil && !sqldb.IsDuplicate(err) {
		return fmt.Errorf("write down who a bill is from: %w", err)
	}
	return nil
}

// signedRow is the condition that the result of a row of reconciliations, here r, rests
// on WeChat Pay's word: a bill that was fetched, or the word that there is none.
const signedRow = `r.result <> ''
  AND (r.sha1 = '' OR EXISTS (
    SELECT 1
    FROM bill_files f
    WHERE f.bill_date = r.bill_date
      AND f.bill_type = r.bill_type
      AND f.sha1 = r.sha1
      AND f.source = 'wechat') OR EXISTS (
    SELECT 1
    FROM bill_hands h
    WHERE h.bill_date = r.bill_date
      AND h.bill_type = r.bill_type
      AND h.sha1 = r.sha1
      AND h.act = 'fetched'))`

// countingRow is the condition that the result of a row of reconciliations, here r,
// counts for its day: it is signed, or two people stand behind its file.
const countingRow = `r.result <> ''
  AND (` + signedRow + ` OR EXISTS (
    SELECT 1
    FROM bill_hands c
    WHERE c.bill_date = r.bill_date
      AND c.bill_type = r.bill_type
      AND c.sha1 = r.sha1
      AND c.act = 'confirmed'))`

// standing is how a day stands before a run.
type standing struct {
	sha1              string // of the bill that its result rests on
	signed, counts    bool
	state, problem    string
	started, finished int64
}

// standingOf reads how the day of a run stands.
func standingOf(ctx context.Context, tx *sqldb.Tx, u *run) (s standing, holder string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT r.sha1, r.state, r.problem, r.started_at, r.finished_at, r.holder,
  CASE WHEN `+signedRow+` THEN 1 ELSE 0 END, CASE WHEN `+countingRow+` THEN 1 ELSE 0 END
FROM reconciliations r
WHERE r.bill_date = ?
  AND r.bill_type = ?`, u.date, string(u.kind)).Scan(&s.sha1, &s.state, &s.problem, &s.started, &s.finished,
		&holder, &s.signed, &s.counts)
	if err == nil && s.state == "running" {
		s.state, s.problem = "failed", "the run before did not end"
	}
	return s, holder, err
}

// weigh says whether a bill counts for its day: WeChat Pay's does, a file when two people
// stand behind it and WeChat Pay's is not here. That is the file which this run is the
// confirmation of, or the one that the day rests on already: one that was confirmed and
// then replaced by another takes two people again, or one could go back to it.
func (r *Reconciler) weigh(ctx context.Context, u *run) error {
	if !u.fromFile {
		u.counts = true
		return r.saveHand(ctx, u, actFetched, Cause{ActorID: string(SourceWeChat)})
	}
	if err := r.saveHand(ctx, u, actGave, u.by); err != nil {
		return err
	}
	if u.was.signed {
		return nil
	}
	if u.confirmedBy == "" {
		if u.was.sha1 != u.sha1 {
			return nil
		}
		err := r.decideRow(ctx, `SELECT who
FROM bill_hands
WHERE bill_date = ?
  AND bill_type = ?
  AND sha1 = ?
  AND act = 'confirmed'
ORDER BY at DESC
LIMIT 1`, []any{u.date, string(u.kind), u.sha1}, &u.confirmedBy)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return fmt.Errorf("find who confirmed the bill: %w", err)
		}
	}
	u.counts = true
	return nil
}

// Hands says in few words where the bill of a day came from, for lists: wechat, or who
// gave the file and who confirmed it.
func (s *Stored) Hands() string {
	switch {
	case s.Source != SourceFile || s.Result == nil:
		return string(s.Source)
	case s.Counts:
		return "file by " + s.Result.GivenBy + ", confirmed by " + s.Result.ConfirmedBy
	}
	return "file by " + s.Result.GivenBy + ", not confirmed"
}

// source is where the bill of a run came from.
func (u *run) source() Source {
	if u.fromFile {
		return SourceFile
	}
	return SourceWeChat
}

// giver is who gave the bill of a run, "" for WeChat Pay.
func (u *run) giver() string {
	if u.fromFile {
		return u.by.ActorID
	}
	return ""
}

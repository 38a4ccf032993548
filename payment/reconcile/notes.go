package reconcile

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment/operators"
)

// What a note says: words of difference_notes.what and of the API, never changed.
const (
	NoteComment = "comment" // Text is what somebody says
	NoteAssign  = "assign"  // Word is who works on it from then on, "" for nobody
	NoteAct     = "act"     // Word is the Action that was done or proposed, Text the reason
)

// Note is something that a person said or did about a difference. Notes stay: none is ever
// changed or taken back, and none is written by a run.
type Note struct {
	DifferenceID string    `json:"difference_id"`
	What         string    `json:"what"`
	Word         string    `json:"word,omitempty"`
	Text         string    `json:"text,omitempty"`
	Who          string    `json:"who"`
	At           time.Time `json:"at"`

	ref, how string
}

// newNote is a note that is written now. key is what keeps it from being written twice, ""
// for none.
func (r *Reconciler) newNote(id, what, word, text, key string, who Cause) Note {
	return Note{DifferenceID: id, What: what, Word: word, Text: text, Who: bounds.Operator.Cut(who.ActorID),
		At: r.cfg.Now(), ref: cmp.Or(key, ulid.Make().String()), how: who.Type}
}

// acted is the note of an act.
func (r *Reconciler) acted(d *Difference, q Resolve) Note {
	return r.newNote(d.ID, NoteAct, string(q.Action), q.Reason, q.Key, q.Cause)
}

// keyOf makes a key of what is the same when it comes twice.
func keyOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// insertNote writes a note down, once.
func insertNote(ctx context.Context, tx *sqldb.Tx, n Note) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO difference_notes
  (difference_id, ref, what, word, body, who, how, at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, n.DifferenceID, n.ref, n.What, n.Word, n.Text, n.Who, n.how, n.At.UnixMilli())
	if err != nil && !sqldb.IsDuplicate(err) {
		return fmt.Errorf("write a note: %w", err)
	}
	return nil
}

// noted reports that a note with this key is written.
func (r *Reconciler) noted(ctx context.Context, id, key string) (found bool, err error) {
	err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		found, err = isNoted(ctx, tx, id, key)
		return err
	})
	return found, err
}

// isNoted is noted in a transaction; nothing has the key "".
func isNoted(ctx context.Context, tx *sqldb.Tx, id, key string) (bool, error) {
	if key == "" {
		return false, nil
	}
	return sqldb.Known(ctx, tx, `SELECT ref
FROM difference_notes
WHERE difference_id = ?
  AND ref = ?`, id, key)
}

// Comment is what a person says about a difference.
type Comment struct {
	ID    string
	Text  string // 1–500 characters
	Cause Cause  // of a person: ByOperator
	Key   string // as that of Resolve
}

// ErrKeyReused: the key was used for another comment.
var ErrKeyReused = errors.New("this idempotency key was used for another comment")

// Comment writes down what a person says, of a difference that is open and of one that has
// ended; with a key once. Errors: ErrNotFound, ErrRequest with a reason, ErrKeyReused.
func (r *Reconciler) Comment(ctx context.Context, q Comment) (Note, error) {
	if wrong := bounds.Comment.Check(q.Text); wrong != nil {
		return Note{}, fmt.Errorf("%w: comment: %s", ErrRequest, wrong.Detail)
	}
	n := r.newNote(q.ID, NoteComment, "", q.Text, q.Key, q.Cause)
	return n, r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := assigneeOf(ctx, tx, q.ID); err != nil {
			return err
		}
		if err := insertNote(ctx, tx, n); err != nil || q.Key == "" {
			return err
		}
		var said string
		err := tx.QueryRowContext(ctx, `SELECT body
FROM difference_notes
WHERE difference_id = ?
  AND ref = ?`, q.ID, n.ref).Scan(&said)
		if err == nil && said != q.Text {
			err = ErrKeyReused
		}
		return err
	})
}

// KeyOf makes the key of a note of one that a person has given: another's is another.
func KeyOf(person, key string) string { return keyOf(person, key) }

// Assign gives a difference to somebody.
type Assign struct {
	ID string
	To string // "" for nobody
	// From is who works on it now, as whoever assigns has seen it; nil: whoever it is.
	From  *string
	Cause Cause  // of a person: ByOperator
	Key   string // as that of Resolve
}

// Assign gives a difference that is open to a person of finance, or to nobody. It may be
// repeated. Errors: ErrNotFound, ErrResolved, ErrRequest with a reason, such as that somebody
// else was given it meanwhile.
func (r *Reconciler) Assign(ctx context.Context, q Assign) (Difference, error) {
	if wrong := bounds.Operator.Check(q.To); q.To != "" && wrong != nil {
		return Difference{}, fmt.Errorf("%w: assignee: %s", ErrRequest, wrong.Detail)
	}
	n := r.newNote(q.ID, NoteAssign, q.To, "", q.Key, q.Cause)
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := assigneeOf(ctx, tx, q.ID)
		if err != nil {
			return err
		}
		done, err := isNoted(ctx, tx, q.ID, q.Key)
		switch {
		case err != nil:
			return err
		case done || now.who == q.To:
			return nil
		case now.status == StatusResolved || now.status == StatusWrittenOff:
			return ErrResolved
		case q.From != nil && *q.From != now.who:
			return fmt.Errorf("%w: it was given to %s meanwhile", ErrRequest, cmp.Or(bounds.Shown(now.who), "nobody"))
		}
		if q.To != "" {
			if err := mayHave(ctx, tx, q.To); err != nil {
				return err
			}
		}
		if _, err := tx.Update(ctx, `UPDATE differences
SET assignee = ?
WHERE id = ?`, q.To, q.ID); err != nil {
			return fmt.Errorf("assign a difference: %w", err)
		}
		return insertNote(ctx, tx, n)
	})
	if err != nil {
		return Difference{}, err
	}
	return r.Difference(ctx, q.ID)
}

// mayHave wants an assignee to be somebody who can do something about it: who has an account or
// a token, and the role.
func mayHave(ctx context.Context, tx *sqldb.Tx, who string) error {
	known, err := operators.Find(ctx, tx, who)
	if err != nil {
		return err
	}
	if !known.Has(who) || !known.May(who, operators.Finance) {
		return fmt.Errorf("%w: %s has no account with the role finance", ErrRequest, bounds.Shown(who))
	}
	return nil
}

// working is who works on a difference, and where it stands.
type working struct {
	who    string
	status Status
}

// assigneeOf locks a difference and tells who works on it; ErrNotFound without it.
func assigneeOf(ctx context.Context, tx *sqldb.Tx, id string) (now working, err error) {
	found := false
	err = sqldb.Each(ctx, tx, `SELECT assignee, status
FROM differences
WHERE id = ?
FOR UPDATE`, []any{id}, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(&now.who, &now.status)
	})
	if err == nil && !found {
		err = ErrNotFound
	}
	return now, err
}

// Notes gives what was said and done about differences, oldest first, by their IDs: at most
// lookups of them.
func (r *Reconciler) Notes(ctx context.Context, ids ...string) (all map[string][]Note, err error) {
	err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		all, err = notesOf(ctx, tx, ids)
		return err
	})
	return all, err
}

// notesOf reads the notes of differences.
func notesOf(ctx context.Context, tx *sqldb.Tx, ids []string) (map[string][]Note, error) {
	all := map[string][]Note{}
	if len(ids) == 0 {
		return all, nil
	}
	err := sqldb.Each(ctx, tx, `SELECT difference_id, ref, what, word, body, who, how, at
FROM difference_notes
WHERE difference_id IN (`+sqldb.In(len(ids))+`)`, sqldb.Args(ids), func(rows *sql.Rows) error {
		var n Note
		var at int64
		err := rows.Scan(&n.DifferenceID, &n.ref, &n.What, &n.Word, &n.Text, &n.Who, &n.how, &at)
		n.At = sqldb.FromMillis(at)
		all[n.DifferenceID] = append(all[n.DifferenceID], n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read notes: %w", err)
	}
	for _, notes := range all {
		slices.SortFunc(notes, func(a, b Note) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ref, b.ref)) })
	}
	return all, nil
}

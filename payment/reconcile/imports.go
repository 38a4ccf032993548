package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment/operators"
	"orderd/payment/sheet"
)

// MaxImport bounds a workbook that is given back, in bytes: importRows rows have some 400 KB.
const MaxImport = 4 << 20

// importMost bounds what is read of it. A cell may have what a comment may, and more, so that who
// wrote too much is told so.
var importMost = sheet.Most{Rows: importRows + 1, Columns: 64, Bytes: 16 << 20, Cell: 8 << 10}

// Outcome is what became of a wish of a row, or would become of it: a word of the API.
type Outcome string

// The outcomes.
const (
	OutcomePlanned Outcome = "planned" // a dry run: it would be done
	OutcomeDone    Outcome = "done"
	OutcomeWaits   Outcome = "waits"   // proposed: a second person has to do the same
	OutcomeAlready Outcome = "already" // this file has done it before, or it is so
	OutcomeRefused Outcome = "refused" // it is not done; Why says why
	OutcomeFailed  Outcome = "failed"  // it went wrong; the same file again goes on
)

// Outcomes are all of them.
func Outcomes() []Outcome {
	return []Outcome{OutcomePlanned, OutcomeDone, OutcomeWaits, OutcomeAlready, OutcomeRefused, OutcomeFailed}
}

// ImportStep is one wish of a row: to assign, to comment or to act. Why is for people.
type ImportStep struct {
	What    string  `json:"what"` // as that of a Note
	Word    string  `json:"word,omitempty"`
	Text    string  `json:"text,omitempty"`
	Outcome Outcome `json:"outcome"`
	Why     string  `json:"why,omitempty"`
}

// ImportRow is a row that wishes something.
type ImportRow struct {
	Row   int          `json:"row"` // of the sheet, from 2
	ID    string       `json:"id"`
	Date  string       `json:"bill_date,omitempty"`
	Kind  Kind         `json:"type,omitempty"`
	Steps []ImportStep `json:"steps"`
}

// Imported is what became of a workbook, or would.
type Imported struct {
	DryRun bool            `json:"dry_run"`
	SHA256 string          `json:"sha256"` // of the file
	Rows   []ImportRow     `json:"rows"`
	Idle   int             `json:"idle_rows"` // that wish nothing
	Counts map[Outcome]int `json:"counts"`    // of steps
}

// Import is a workbook of WriteWork that somebody has filled in.
type Import struct {
	File  []byte // at most MaxImport
	Apply bool   // false: nothing is done, and the answer says what would be
	Cause Cause  // of a person: ByOperator
	// Progress is called with how many rows are done. May be nil.
	Progress func(done, total int)
}

// ErrChanged: the difference is not as it was when it was shown.
var ErrChanged = errors.New("it has changed since then")

// Import does what a filled workbook wishes, row by row, by the same methods as single acts
// (Assign, Comment, Resolve), with their rules: or says what it would do. A row that is refused
// holds back no other. The same file of the same person does nothing twice, and goes on where it
// was interrupted. Errors: ErrRequest, those of sheet.ReadXLSX, those of the database; what
// goes wrong with a row is in the answer.
func (r *Reconciler) Import(ctx context.Context, q Import) (Imported, error) {
	done := Imported{DryRun: !q.Apply, Rows: []ImportRow{}, Counts: map[Outcome]int{}, SHA256: sum256(q.File)}
	if len(q.File) > MaxImport {
		return done, fmt.Errorf("%w: the file has more than %d bytes", ErrRequest, MaxImport)
	}
	rows, err := sheet.ReadXLSX(q.File, workSheet, importMost)
	if err != nil {
		return done, err
	}
	wishes, err := wishesOf(rows)
	if err != nil {
		return done, err
	}
	for len(wishes) > 0 {
		n := min(lookups, len(wishes))
		if err := r.importPage(ctx, q, wishes[:n], &done); err != nil {
			return done, err
		}
		wishes = wishes[n:]
		if q.Progress != nil {
			q.Progress(len(rows)-1-len(wishes), len(rows)-1)
		}
	}
	return done, nil
}

// wish is a row of the workbook.
type wish struct {
	row     int
	id      string
	version string // whole: with the time of the export
	from    string // who worked on it then
	to      string
	comment string
	action  string
	reason  string
	wrong   string // why nothing of it is done
}

// empty reports that a row wishes nothing.
func (w *wish) empty() bool {
	return w.to == w.from && w.comment == "" && w.action == "" && w.reason == "" && w.wrong == ""
}

// columnsOf finds the columns by the last word of their titles, each of them once: of two with one
// name nobody knows which of them was filled in.
func columnsOf(rows [][]sheet.Read) (map[string]int, error) {
	at, times := map[string]int{}, map[string]int{}
	if len(rows) > 0 {
		for i, c := range rows[0] {
			if words := strings.Fields(c.Text); len(words) > 0 {
				name := words[len(words)-1]
				at[name] = i
				times[name]++
			}
		}
	}
	for _, name := range []string{colID, colVersion, colAssigned, colAssignee, colComment, colAction, colReason} {
		switch times[name] {
		case 0:
			return nil, fmt.Errorf("%w: the sheet %s has no column %s; export it again", ErrRequest, workSheet, name)
		case 1:
		default:
			return nil, fmt.Errorf("%w: the sheet %s has the column %s twice; take one away", ErrRequest, workSheet,
				name)
		}
	}
	return at, nil
}

// wishesOf reads the rows.
func wishesOf(rows [][]sheet.Read) ([]wish, error) {
	at, err := columnsOf(rows)
	if err != nil {
		return nil, err
	}
	var all []wish
	seen := map[string]int{}
	for i, row := range rows[1:] {
		w := wish{row: i + 2}
		cell := func(name string) string {
			if at[name] >= len(row) {
				return ""
			}
			c := row[at[name]]
			if c.Formula && w.wrong == "" {
				w.wrong = "the column " + name + " has a formula; put the value there"
			}
			return strings.TrimSpace(c.Text)
		}
		w.id, w.version, w.from, w.to = cell(colID), cell(colVersion), cell(colAssigned), cell(colAssignee)
		w.comment, w.action, w.reason = cell(colComment), cell(colAction), cell(colReason)
		if words := strings.Fields(w.action); len(words) > 0 {
			w.action = words[len(words)-1]
		}
		if w.id == "" && w.version == "" && w.empty() {
			continue
		}
		switch first, twice := seen[w.id]; {
		case w.wrong != "":
		case !bounds.DifferenceID.Fits(w.id):
			w.wrong = "the id is no number of a difference"
		case twice:
			w.wrong = fmt.Sprintf("row %d is of the same difference", first)
		}
		seen[w.id] = w.row
		all = append(all, w)
	}
	return all, nil
}

// importPage does some rows, at most lookups.
func (r *Reconciler) importPage(ctx context.Context, q Import, wishes []wish, done *Imported) error {
	var ids []string
	for i := range wishes {
		if w := &wishes[i]; !w.empty() && w.wrong == "" {
			ids = append(ids, w.id)
		}
	}
	known := map[string]*Difference{}
	notes := map[string][]Note{}
	if len(ids) > 0 {
		r.endWaitingIfCan(ctx)
		err := r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			all, err := r.readDifferences(ctx, tx, `WHERE id IN (`+sqldb.In(len(ids))+`)`, sqldb.Args(ids)...)
			for i := range all {
				known[all[i].ID] = &all[i]
			}
			if err == nil {
				notes, err = notesOf(ctx, tx, ids)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for i := range wishes {
		w := &wishes[i]
		if w.empty() {
			done.Idle++
			continue
		}
		row := ImportRow{Row: w.row, ID: w.id}
		d := known[w.id]
		if d != nil {
			row.Date, row.Kind = d.Date, d.Kind
		} else {
			w.wrong = cmp.Or(w.wrong, "there is no such difference")
		}
		var err error
		if row.Steps, err = r.importRow(ctx, q, w, d, notes[w.id]); err != nil {
			return err
		}
		for _, s := range row.Steps {
			done.Counts[s.Outcome]++
		}
		done.Rows = append(done.Rows, row)
	}
	return nil
}

// importRow plans and does the wishes of a row, each by itself. Its error is that of ctx or of a
// database that is away: with it the import ends.
func (r *Reconciler) importRow(ctx context.Context, q Import, w *wish, d *Difference,
	notes []Note) (steps []ImportStep, err error) {
	had := func(key string) bool { return slices.ContainsFunc(notes, func(n Note) bool { return n.ref == key }) }
	for _, s := range []struct {
		step ImportStep
		key  string
		plan func(s *ImportStep) error
		do   func(s *ImportStep, key string) error
	}{
		{ImportStep{What: NoteAssign, Word: w.to}, keyOf("import assign", w.id, w.version, w.from, w.to),
			func(s *ImportStep) error { return r.planAssign(ctx, w, d, s) },
			func(_ *ImportStep, key string) error {
				_, err := r.Assign(ctx, Assign{ID: w.id, To: w.to, From: &w.from, Cause: q.Cause, Key: key})
				return err
			}},
		{ImportStep{What: NoteComment, Text: w.comment}, keyOf("import comment", w.id, w.version, w.comment),
			func(*ImportStep) error { return planComment(w) },
			func(_ *ImportStep, key string) error {
				_, err := r.Comment(ctx, Comment{ID: w.id, Text: w.comment, Cause: q.Cause, Key: key})
				return err
			}},
		{ImportStep{What: NoteAct, Word: w.action, Text: w.reason},
			keyOf("import act", w.id, w.version, w.action, w.reason, q.Cause.ActorID),
			func(s *ImportStep) error { return r.planAct(ctx, q.Cause.ActorID, w, d, s) },
			func(s *ImportStep, key string) error { return r.importAct(ctx, q.Cause, w, s, key) }},
	} {
		step := s.step
		switch {
		case s.step.What == NoteAssign && w.to == w.from, s.step.What == NoteComment && w.comment == "",
			s.step.What == NoteAct && w.action == "" && w.reason == "":
			continue
		case w.wrong != "":
			step.Outcome, step.Why = OutcomeRefused, w.wrong
		case had(s.key):
			step.Outcome, step.Why = OutcomeAlready, "this file has done it"
		default:
			step.Outcome = OutcomePlanned
			err := s.plan(&step)
			if err == nil && q.Apply && step.Outcome == OutcomePlanned {
				step.Outcome = OutcomeDone
				err = s.do(&step, s.key)
			}
			if err := outcomeOf(ctx, &step, err); err != nil {
				return steps, err
			}
		}
		steps = append(steps, step)
	}
	if len(steps) == 0 { // a row that is wrong and wishes nothing
		steps = []ImportStep{{What: "row", Outcome: OutcomeRefused, Why: w.wrong}}
	}
	return steps, nil
}

// outcomeOf says of an error whether a step is refused or has failed; one that ends the import is
// given back. A call to WeChat Pay that took too long is of its row alone.
func outcomeOf(ctx context.Context, s *ImportStep, err error) error {
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, sqldb.ErrUnavailable): // ErrUnknown is that, too
		return err
	case errors.Is(err, ErrRequest), errors.Is(err, ErrResolved), errors.Is(err, ErrSecondPerson),
		errors.Is(err, ErrChanged), errors.Is(err, ErrNotFound), errors.Is(err, operators.ErrShell),
		errors.Is(err, operators.ErrNoLonger), errors.As(err, new(*operators.SameError)):
		s.Outcome, s.Why = OutcomeRefused, err.Error()
	default:
		s.Outcome, s.Why = OutcomeFailed, err.Error()
	}
	return nil
}

// planAssign judges an assignment.
func (r *Reconciler) planAssign(ctx context.Context, w *wish, d *Difference, s *ImportStep) error {
	switch {
	case d.Assignee == w.to:
		s.Outcome, s.Why = OutcomeAlready, "it is so"
		return nil
	case d.Status == StatusResolved || d.Status == StatusWrittenOff:
		return ErrResolved
	case d.Assignee != w.from:
		return fmt.Errorf("%w: it was given to %s meanwhile", ErrChanged, cmp.Or(d.Assignee, "nobody"))
	case w.to == "":
		return nil
	}
	if wrong := bounds.Operator.Check(w.to); wrong != nil {
		return fmt.Errorf("%w: assignee: %s", ErrRequest, wrong.Detail)
	}
	return r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return mayHave(ctx, tx, w.to) })
}

// planComment judges a comment.
func planComment(w *wish) error {
	if wrong := bounds.Comment.Check(w.comment); wrong != nil {
		return fmt.Errorf("%w: comment: %s", ErrRequest, wrong.Detail)
	}
	return nil
}

// planAct judges an act, and says what it will come to.
func (r *Reconciler) planAct(ctx context.Context, who string, w *wish, d *Difference, s *ImportStep) error {
	a := Action(w.action)
	version, _, _ := strings.Cut(w.version, ".")
	wrong := bounds.Reason.Check(w.reason)
	switch {
	case w.action == "":
		return fmt.Errorf("%w: there is a reason and no action", ErrRequest)
	case d.Status == StatusResolved || d.Status == StatusWrittenOff:
		return fmt.Errorf("%w: %s, by %s", ErrResolved, d.Resolution, d.ResolvedBy)
	case d.Version() != version:
		return fmt.Errorf("%w: export it again", ErrChanged)
	case w.reason == "":
		return fmt.Errorf("%w: the reason is missing", ErrRequest)
	case wrong != nil:
		return fmt.Errorf("%w: reason: %s", ErrRequest, wrong.Detail)
	}
	if err := r.refused(d, a); err != nil {
		return err
	}
	s.Why = a.Does()
	if a != WriteOff {
		return nil
	}
	switch d.ProposedBy {
	case "":
		s.Why = "you propose it; a second person has to do the same"
		return nil
	case who:
		s.Outcome, s.Why = OutcomeWaits, "you have proposed it; a second person has to do the same"
		return nil
	}
	s.Why = "it ends: " + d.ProposedBy + " has proposed it: " + d.ProposedWhy
	return r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := operators.Second(ctx, tx, r.cfg.Now(), who, d.ProposedBy)
		return err
	})
}

// importAct does an act, and says when it waits for a second person.
func (r *Reconciler) importAct(ctx context.Context, cause Cause, w *wish, s *ImportStep, key string) error {
	version, _, _ := strings.Cut(w.version, ".")
	d, err := r.Resolve(ctx, Resolve{ID: w.id, Action: Action(w.action), Reason: w.reason, Cause: cause, Key: key,
		Version: version})
	if err == nil && d.Status == StatusOpen {
		s.Outcome, s.Why = OutcomeWaits, "a second person has to do the same"
	}
	return err
}

package stock

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// Bounds of an import.
const (
	// maxImport is in bytes of a file, which is read into memory: about a million lines.
	maxImport = 64 << 20
	// importLines is how many lines one transaction applies: few enough to be done
	// within the time that InTx has on a database a few milliseconds away.
	importLines = 500
	// maxProblems is how many bad lines are reported before the reading stops: a wrong
	// file has as many as it has lines.
	maxProblems = 1000
)

// Mode says what the quantity of an existing SKU means in an import: a word of the CLI.
type Mode string

// The modes. A new SKU starts with its quantity in both.
const (
	// ModeSet makes the shelf hold the quantity, by an adjust flow. What is in buckets
	// is called back first; what is promised in a queue counts.
	ModeSet Mode = "set"
	// ModeAdd puts the quantity on the shelf, by a replenish flow.
	ModeAdd Mode = "add"
)

// ImportOptions shape an import.
type ImportOptions struct {
	Mode   Mode
	DryRun bool   // validate only
	Actor  string // who imports
	Reason string // of its flows, at most bounds.Reason; "" for "import"
	// Seen are the SKUs of the lines as somebody has read them by PlanImport: a line whose SKU has changed since, or
	// is not among them, is passed by and is in the report. nil: whatever is there.
	Seen     []Seen
	seen     map[string]Seen       // Seen by their SKUs, made by Import
	Progress func(done, total int) // called after every transaction, in lines; may be nil
}

// ImportReport says what an import did.
type ImportReport struct {
	Lines    int      `json:"lines"`    // of the file, without its header
	Created  int      `json:"created"`  // new SKUs
	Updated  int      `json:"updated"`  // existing SKUs: title, price, stock
	Repeated int      `json:"repeated"` // lines that this very file had applied before
	Problems []string `json:"problems"` // "line 7: …"; nothing is written when there is one
	// Changed are the lines that were passed by: their SKUs have changed since they were read (ImportOptions.Seen).
	Changed []int       `json:"changed,omitempty"`
	Rows    []ImportRow `json:"rows,omitempty"` // of PlanImport alone
}

// Left is how many lines are not in, nor passed by because their SKUs have changed: the import has ended before them,
// or somebody else holds their SKUs. The same file again brings them in.
func (r *ImportReport) Left() int {
	return r.Lines - r.Created - r.Updated - r.Repeated - len(r.Changed)
}

// ErrImport: the file has bad lines; they are in the report.
var ErrImport = errors.New("nothing imported, the file has problems")

// importLine is a line of the file, whose first has the number 1.
type importLine struct {
	Put
	line int
}

// Import reads a CSV file with the header sku_id,title,price_fen,quantity (in
// any order) and creates or changes SKUs. All lines are validated first and
// every bad one is reported; then nothing is written. Lines are applied 500 a
// transaction. The same file may be imported again, also after a crash in the
// middle: a line's stock moves once per file, recognised by the file's SHA-256.
// To apply the same numbers twice on purpose, change a byte. A line whose SKU somebody
// else holds locked is passed by: the error names it and is sqldb.ErrLocked.
func (a *Admin) Import(ctx context.Context, r io.Reader, o ImportOptions) (ImportReport, error) {
	var report ImportReport
	o.Reason = cmp.Or(o.Reason, "import")
	if wrong := bounds.Reason.Check(o.Reason); wrong != nil {
		return report, &InvalidError{wrongs(wrong)}
	}
	if o.Actor != "" && !bounds.Operator.Fits(o.Actor) {
		return report, &InvalidError{wrongs(bounds.Operator.Check(o.Actor))}
	}
	file, err := io.ReadAll(io.LimitReader(r, maxImport+1))
	if err != nil {
		return report, fmt.Errorf("read the file: %w", err)
	}
	if len(file) > maxImport {
		return report, fmt.Errorf("the file is larger than %d MiB: split it", maxImport>>20)
	}
	lines, problems, err := a.readImport(ctx, file, o.Mode)
	if err != nil {
		return report, err
	}
	report.Lines, report.Problems = len(lines), problems
	if len(problems) > 0 {
		return report, ErrImport
	}
	if o.DryRun {
		return report, nil
	}
	ref := importRef(file)
	o.seen = seenByID(o.Seen)
	var locked []error
	for batch := range slices.Chunk(lines, importLines) {
		err := a.importPart(ctx, batch, o, ref, func(part ImportReport) {
			report.Created += part.Created
			report.Updated += part.Updated
			report.Repeated += part.Repeated
			report.Changed = append(report.Changed, part.Changed...)
			if o.Progress != nil {
				o.Progress(report.Created+report.Updated+report.Repeated+len(report.Changed), len(lines))
			}
		})
		if err == nil {
			continue
		}
		if locked = append(locked, err); !errors.Is(err, sqldb.ErrLocked) || len(locked) > maxLockedParts {
			break
		}
	}
	return report, errors.Join(locked...)
}

// readImport reads a file and lists what is wrong with it; it looks at the SKUs that exist once all lines can be
// read.
func (a *Admin) readImport(ctx context.Context, file []byte, mode Mode) (lines []importLine, problems []string,
	err error) {
	if mode != ModeSet && mode != ModeAdd {
		return nil, nil, &InvalidError{[]string{"mode must be set or add"}}
	}
	if lines, problems = parseImport(file); problems == nil {
		problems, err = a.conflicts(ctx, lines)
	}
	return lines, problems, err
}

// importRef is by what the flows of a file are known.
func importRef(file []byte) string {
	sum := sha256.Sum256(file)
	return "import-" + hex.EncodeToString(sum[:16])
}

// maxLockedParts is in how many parts of a file a locked line is passed by; beyond it
// somebody works on all of them, and the import ends there.
const maxLockedParts = 10

// importPart applies lines in one transaction, and tells done of each that was
// committed. Where a SKU is locked by somebody else, as by a forgotten session, its
// halves are applied by themselves and wait for nobody: at the end all lines are in but
// those, whose error names them.
func (a *Admin) importPart(ctx context.Context, batch []importLine, o ImportOptions, ref string,
	done func(ImportReport)) error {
	var locked []error
	err := sqldb.Apart(batch, false, 0, func(batch []importLine, noWait bool) error {
		var part ImportReport
		err := a.db.InTxOfMany(ctx, noWait, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			part, err = a.importBatch(ctx, tx, batch, o, ref)
			return err
		})
		if err == nil {
			done(part)
		}
		return err
	}, func(alone []importLine, err error) error {
		locked = append(locked, fmt.Errorf("line %d is not imported, import the same file again: SKU %s: %w",
			alone[0].line, alone[0].SkuID, err))
		return nil
	})
	if err != nil {
		return err // of the database: what is locked counts no more
	}
	return errors.Join(locked...)
}

// importBatch applies lines in one transaction. It reads and inserts by the set, so
// that a database a few milliseconds away still does 500 lines within the time that
// InTx has. ref is the import's: it names the flow of every line, by which a repeat of
// the file is known.
func (a *Admin) importBatch(
	ctx context.Context, tx *sqldb.Tx, batch []importLine, o ImportOptions, ref string,
) (part ImportReport, err error) {
	kind := o.Mode.kind()
	shelf, err := lockSKUs(ctx, tx, batch)
	if err != nil {
		return part, err
	}
	before, err := appliedBefore(ctx, tx, batch, kind, ref)
	if err != nil {
		return part, err
	}
	batch, part.Changed = o.asSeen(batch, shelf, before)
	if o.Mode == ModeSet {
		if err := callBackLines(ctx, tx, batch, before, shelf, a.now()); err != nil {
			return part, err
		}
	}
	at := sqldb.Millis(a.now())
	var fresh, flows []any
	for _, l := range batch {
		if before[l.SkuID] {
			part.Repeated++
			continue
		}
		delta := int64(0)
		sku, exists := shelf[l.SkuID]
		switch {
		case !exists:
			part.Created++
			unlimited := *l.Quantity == unlimitedQuantity
			fresh = append(fresh, l.SkuID, l.Title, l.PriceFen, max(*l.Quantity, 0), unlimited, 1, at, at)
			if !unlimited {
				flows = append(flows, "", string(KindInitial), "", l.SkuID, *l.Quantity, o.Actor, o.Reason, at)
			}
		case l.conflict(sku) != "":
			return part, fmt.Errorf("line %d: %s", l.line, l.conflict(sku))
		default:
			part.Updated++
			delta = l.delta(o.Mode, sku)
			err := updateSKU(ctx, tx, l, sku, delta, at)
			if err == nil {
				err = judge(ctx, tx, a.tell, sku, sku.Free()+delta, a.now())
			}
			if err != nil {
				return part, fmt.Errorf("line %d: %w", l.line, err)
			}
		}
		// A line that moved nothing leaves a flow of 0 units, so that a repeat knows it too.
		flows = append(flows, "", string(kind), ref, l.SkuID, delta, o.Actor, o.Reason, at)
	}
	const cols = 8 // of both tables, as named below
	err = tx.InsertRows(ctx, `INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
VALUES`, cols, fresh)
	if err == nil {
		err = tx.InsertRows(ctx, `INSERT INTO stock_flows
  (order_no, kind, ref, sku_id, delta, actor, reason, created_at)
VALUES`, cols, flows)
	}
	if sqldb.IsDuplicate(err) {
		err = sqldb.ErrLostRace // a neighbour was faster: the next run finds what it wrote
	}
	return part, err
}

// callBackLines calls back what is in buckets of the SKUs whose lines were not applied
// before.
func callBackLines(ctx context.Context, tx *sqldb.Tx, batch []importLine, before map[string]bool,
	shelf map[string]*SKU, at time.Time) error {
	var skus []*SKU
	for _, l := range batch {
		if sku := shelf[l.SkuID]; sku != nil && !before[l.SkuID] {
			skus = append(skus, sku)
		}
	}
	return callBack(ctx, tx, skus, at)
}

// updateSKU applies a line to a SKU that exists and was read as sku; sqldb.ErrLostRace
// when its shelf has moved since.
func updateSKU(ctx context.Context, tx *sqldb.Tx, l importLine, sku *SKU, delta, at int64) error {
	if err := sku.bears(delta); err != nil {
		return err
	}
	n, err := tx.Update(ctx, `UPDATE skus
SET title = ?, price_fen = ?, available = available + ?, version = version + 1, updated_at = ?
WHERE sku_id = ?
  AND available = ?`, l.Title, l.PriceFen, delta, at, l.SkuID, sku.Available)
	if err == nil && n != 1 {
		err = sqldb.ErrLostRace
	}
	return err
}

// conflict says why the line cannot be applied to the SKU that exists, "" when it can.
// The flows of an unlimited SKU add up to no counter, so that nothing can change one
// kind into the other.
func (l importLine) conflict(sku *SKU) string {
	if sku.Unlimited == (*l.Quantity == unlimitedQuantity) {
		return ""
	}
	return "SKU " + l.SkuID + " cannot change between limited and unlimited"
}

// delta is what the line moves on the shelf of an existing SKU.
func (l importLine) delta(mode Mode, sku *SKU) int64 {
	switch {
	case sku.Unlimited:
		return 0
	case mode == ModeSet:
		return *l.Quantity - sku.Free()
	}
	return *l.Quantity
}

// lockSKUs reads those SKUs of the batch that exist and locks them and their buckets, in
// ascending order as everywhere in this package.
func lockSKUs(ctx context.Context, tx *sqldb.Tx, batch []importLine) (map[string]*SKU, error) {
	found, err := lockRows(ctx, tx, batch)
	if err != nil || len(found) == 0 {
		return found, err
	}
	allocated, err := lockAllocated(ctx, tx, slices.Collect(maps.Keys(found)))
	for id, n := range allocated {
		found[id].Allocated = n
	}
	return found, err
}

// lockRows reads those SKUs of the batch that exist and locks them.
func lockRows(ctx context.Context, tx *sqldb.Tx, batch []importLine) (map[string]*SKU, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+skuColumns+`
FROM skus /*! FORCE INDEX (PRIMARY) */
WHERE sku_id IN (`+sqldb.In(len(batch))+`)
ORDER BY sku_id
FOR UPDATE`, sqldb.Args(idsOf(batch))...)
	if err != nil {
		return nil, fmt.Errorf("lock SKUs: %w", err)
	}
	defer rows.Close()
	found := make(map[string]*SKU, len(batch))
	for rows.Next() {
		s, err := scanSKU(rows)
		if err != nil {
			return nil, fmt.Errorf("lock SKUs: %w", err)
		}
		found[s.SkuID] = &s
	}
	return found, rows.Err()
}

// appliedBefore names the SKUs of the batch whose line has left its flow: the whole of
// the line was committed with it.
func appliedBefore(
	ctx context.Context, q sqldb.Querier, batch []importLine, kind Kind, ref string,
) (map[string]bool, error) {
	rows, err := q.QueryContext(ctx, `SELECT sku_id
FROM stock_flows
WHERE order_no = ''
  AND kind = ?
  AND ref = ?
  AND sku_id IN (`+sqldb.In(len(batch))+`)`, append([]any{string(kind), ref}, sqldb.Args(idsOf(batch))...)...)
	if err != nil {
		return nil, fmt.Errorf("read flows of the import: %w", err)
	}
	defer rows.Close()
	before := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read flows of the import: %w", err)
		}
		before[id] = true
	}
	return before, rows.Err()
}

// idsOf gives the SKUs of lines.
func idsOf(batch []importLine) []string {
	ids := make([]string, len(batch))
	for i, l := range batch {
		ids[i] = l.SkuID
	}
	return ids
}

// conflicts lists the lines that cannot be applied to the SKUs that exist. It looks
// before anything is written; importBatch looks again, under the lock.
func (a *Admin) conflicts(ctx context.Context, lines []importLine) (problems []string, err error) {
	for batch := range slices.Chunk(lines, importLines) {
		found, err := a.FindMany(ctx, idsOf(batch))
		if err != nil {
			return nil, err
		}
		shelf := make(map[string]SKU, len(found))
		for _, s := range found {
			shelf[s.SkuID] = s
		}
		for _, l := range batch {
			if s, exists := shelf[l.SkuID]; exists && l.conflict(&s) != "" && len(problems) < maxProblems {
				problems = append(problems, fmt.Sprintf("line %d: %s", l.line, l.conflict(&s)))
			}
		}
	}
	return problems, nil
}

// importColumns are the columns of the file, in the order in which Export has them.
var importColumns = []string{"sku_id", "title", "price_fen", "quantity"}

// parseImport reads all lines and lists everything that is wrong, with the number of
// the line in the file. A BOM, which spreadsheets write, is passed over.
func parseImport(file []byte) (lines []importLine, problems []string) {
	if why := noText(file); why != "" {
		return nil, []string{why}
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(file, []byte("\ufeff"))))
	r.FieldsPerRecord = -1
	column, problems := parseHeader(r)
	if problems != nil {
		return nil, problems
	}
	seen := map[string]int{}
	for len(problems) < maxProblems {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var quoting *csv.ParseError
		if errors.As(err, &quoting) { // the reader goes on with the next line
			problems = append(problems, fmt.Sprintf("line %d: %v", quoting.StartLine, quoting.Err))
			continue
		}
		line, _ := r.FieldPos(0)
		l, bad := parseImportLine(record, column, line)
		if before, twice := seen[l.SkuID]; twice && l.SkuID != "" {
			bad = append(bad, fmt.Sprintf("SKU %s is on line %d already", l.SkuID, before))
		}
		seen[l.SkuID] = line
		for _, b := range bad {
			problems = append(problems, fmt.Sprintf("line %d: %s", line, b))
		}
		lines = append(lines, l)
	}
	if len(lines) == 0 && problems == nil {
		problems = []string{"the file has no lines below its header"}
	}
	return lines, problems
}

// noText says what a file is that is no text in UTF-8, and how to make it one; "" when it is.
// Chinese Excel saves "CSV" in GBK: read as UTF-8, each of its lines would be wrong for
// another reason than the one that there is.
func noText(file []byte) string {
	const save = "in Excel or WPS save it as \"CSV UTF-8\""
	switch {
	case bytes.HasPrefix(file, []byte("PK\x03\x04")):
		return "the file is an .xlsx workbook or a ZIP archive, not CSV: " + save
	case bytes.HasPrefix(file, []byte("\xd0\xcf\x11\xe0")):
		return "the file is an .xls workbook, not CSV: " + save
	case bytes.HasPrefix(file, []byte("\xff\xfe")), bytes.HasPrefix(file, []byte("\xfe\xff")):
		return "the file is in UTF-16: " + save
	case utf8.Valid(file):
		return ""
	}
	line := 1 + bytes.Count(file[:invalidAt(file)], []byte("\n"))
	return fmt.Sprintf("line %d: the file is not in UTF-8, but in GBK, as Chinese Excel saves CSV, or in another "+
		"encoding: %s, or convert it (iconv -f GBK -t UTF-8)", line, save)
}

// invalidAt gives the place of the first byte that is not UTF-8, len(file) without one.
func invalidAt(file []byte) int {
	at := 0
	for at < len(file) {
		r, size := utf8.DecodeRune(file[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return at
}

// parseHeader gives the place of each column. A column that is not known is refused: it
// may be a misspelt one.
func parseHeader(r *csv.Reader) (column map[string]int, problems []string) {
	header, err := r.Read()
	if err != nil {
		return nil, []string{"line 1: want the header " + strings.Join(importColumns, ",")}
	}
	column = map[string]int{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if _, twice := column[name]; twice || !slices.Contains(importColumns, name) {
			problems = append(problems, fmt.Sprintf("line 1: column %q is unknown or there twice; want %s", name,
				strings.Join(importColumns, ",")))
		}
		column[name] = i
	}
	for _, name := range importColumns {
		if _, ok := column[name]; !ok {
			problems = append(problems, "line 1: column "+name+" is missing")
		}
	}
	return column, problems
}

// parseImportLine reads one line and tells what is wrong with it.
func parseImportLine(record []string, column map[string]int, line int) (importLine, []string) {
	l := importLine{line: line}
	if len(record) != len(column) {
		return l, []string{fmt.Sprintf("%d fields, the header has %d", len(record), len(column))}
	}
	var bad []string
	number := func(name string) int64 {
		n, err := strconv.ParseInt(strings.TrimSpace(record[column[name]]), 10, 64)
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s %q is not a whole number", name, record[column[name]]))
		}
		return n
	}
	quantity := number("quantity")
	l.Put = Put{SkuID: strings.TrimSpace(record[column["sku_id"]]), Title: strings.TrimSpace(record[column["title"]]),
		PriceFen: number("price_fen"), Quantity: &quantity}
	if bad != nil {
		return l, bad
	}
	var invalid *InvalidError
	if errors.As(l.validate(), &invalid) {
		bad = invalid.Problems
	}
	return l, bad
}

// Export writes all SKUs as a file that Import reads; what is allocated counts.
func (a *Admin) Export(ctx context.Context, w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(importColumns); err != nil {
		return err
	}
	for cursor := ""; ; {
		page, err := a.List(ctx, cursor, maxPage)
		if err != nil {
			return err
		}
		for _, s := range page {
			quantity := s.Free()
			if s.Unlimited {
				quantity = unlimitedQuantity
			}
			if err := out.Write([]string{s.SkuID, s.Title, strconv.FormatInt(s.PriceFen, 10),
				strconv.FormatInt(quantity, 10)}); err != nil {
				return err
			}
			cursor = s.SkuID
		}
		if len(page) == 0 {
			out.Flush()
			return out.Error()
		}
	}
}

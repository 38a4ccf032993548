package stock

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"orderd/migrations/sqldb"
)

// Bounds of an import.
const (
	maxImport   = 64 << 20 // bytes of a file
	importBatch = 500      // lines per transaction
	maxProblems = 1000     // lines that are reported before we stop counting
)

// Mode says what the quantity of an existing SKU means in an import.
type Mode string

// The modes. A new SKU starts with its quantity in both.
const (
	// ModeSet makes the shelf hold the quantity, by an adjust flow.
	ModeSet Mode = "set"
	// ModeAdd puts the quantity on the shelf, by a replenish flow.
	ModeAdd Mode = "add"
)

// ImportOptions shape an import.
type ImportOptions struct {
	Mode     Mode
	DryRun   bool // validate only
	Actor    string
	Progress func(done, total int) // may be nil
}

// ImportReport says what an import did.
type ImportReport struct {
	Lines    int      `json:"lines"`
	Created  int      `json:"created"`
	Updated  int      `json:"updated"`  // existing SKUs: title, price, stock
	Repeated int      `json:"repeated"` // lines that this very file had applied before
	Problems []string `json:"problems"` // "line 7: …"; nothing is written when there is one
}

// ErrImport: the file has bad lines; they are in the report.
var ErrImport = errors.New("nothing imported, the file has problems")

type importLine struct {
	Put
	line int
}

// Import reads a CSV file with the header sku_id,title,price_fen,quantity (in
// any order) and creates or changes SKUs. All lines are validated first and
// every bad one is reported; then nothing is written. Lines are applied 500 a
// transaction. The same file may be imported again, also after a crash in the
// middle: a line's stock moves once per file, recognised by the file's SHA-256.
// To apply the same numbers twice on purpose, change a byte.
func (a *Admin) Import(ctx context.Context, r io.Reader, o ImportOptions) (ImportReport, error) {
	var report ImportReport
	if o.Mode != ModeSet && o.Mode != ModeAdd {
		return report, &InvalidError{[]string{"mode must be set or add"}}
	}
	file, err := io.ReadAll(io.LimitReader(r, maxImport+1))
	if err != nil {
		return report, fmt.Errorf("read the file: %w", err)
	}
	if len(file) > maxImport {
		return report, fmt.Errorf("the file is larger than %d MiB: split it", maxImport>>20)
	}
	lines, problems := parseImport(file)
	report.Lines, report.Problems = len(lines), problems
	if len(problems) > 0 {
		return report, ErrImport
	}
	if o.DryRun {
		return report, nil
	}
	sum := sha256.Sum256(file)
	ref := "import-" + hex.EncodeToString(sum[:16])
	for batch := range slices.Chunk(lines, importBatch) {
		var part ImportReport
		err := a.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			part = ImportReport{}
			for _, l := range batch {
				if err := a.importOne(ctx, tx, l, o, ref, &part); err != nil {
					return fmt.Errorf("line %d: %w", l.line, err)
				}
			}
			return nil
		})
		if err != nil {
			return report, err
		}
		report.Created += part.Created
		report.Updated += part.Updated
		report.Repeated += part.Repeated
		if o.Progress != nil {
			o.Progress(report.Created+report.Updated+report.Repeated, len(lines))
		}
	}
	return report, nil
}

func (a *Admin) importOne(ctx context.Context, tx *sqldb.Tx, l importLine, o ImportOptions, ref string, part *ImportReport) error {
	c := Change{SkuID: l.SkuID, Key: ref, Actor: o.Actor, Reason: "import"}
	kind := KindReplenish
	if o.Mode == ModeSet {
		kind = KindAdjust
	}
	// A line that moved nothing leaves a flow of nothing, so that it is known too.
	if _, err := flowDelta(ctx, tx, kind, c); err == nil {
		part.Repeated++
		return nil
	} else if !errors.Is(err, errNoFlow) {
		return err
	}
	created, err := a.put(ctx, tx, l.Put)
	if err != nil {
		return err
	}
	if created {
		part.Created++
	} else {
		part.Updated++
		sku, err := scanSKU(tx.QueryRowContext(ctx, `SELECT `+skuColumns+`
FROM skus
WHERE sku_id = ?
FOR UPDATE`, l.SkuID))
		if err != nil {
			return err
		}
		if sku.Unlimited != (*l.Quantity == -1) {
			return fmt.Errorf("SKU %s cannot change between limited and unlimited", l.SkuID)
		}
		if !sku.Unlimited {
			c.Delta = *l.Quantity
			if o.Mode == ModeSet {
				c.Delta -= sku.Available
			}
		}
	}
	if c.Delta != 0 {
		var done Changed
		return a.move(ctx, tx, kind, c, &done)
	}
	return insertOperatorFlow(ctx, tx, flow{kind: kind, ref: ref, skuID: l.SkuID}, o.Actor, "import", a.now())
}

var errNoFlow = errors.New("no such flow")

func flowDelta(ctx context.Context, tx *sqldb.Tx, kind Kind, c Change) (int64, error) {
	rows, err := tx.QueryContext(ctx, `SELECT delta
FROM stock_flows
WHERE order_no = ''
  AND kind = ?
  AND ref = ?
  AND sku_id = ?`, string(kind), c.Key, c.SkuID)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	if !rows.Next() {
		return 0, errors.Join(errNoFlow, rows.Err())
	}
	var delta int64
	return delta, rows.Scan(&delta)
}

var importColumns = []string{"sku_id", "title", "price_fen", "quantity"}

// parseImport reads all lines and lists everything that is wrong.
func parseImport(file []byte) (lines []importLine, problems []string) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(file, []byte("\ufeff"))))
	r.FieldsPerRecord = -1
	header, err := r.Read()
	if err != nil {
		return nil, []string{"line 1: want the header " + strings.Join(importColumns, ",")}
	}
	column := map[string]int{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if _, twice := column[name]; twice || !slices.Contains(importColumns, name) {
			problems = append(problems, fmt.Sprintf("line 1: column %q is unknown or there twice; want %s", name, strings.Join(importColumns, ",")))
		}
		column[name] = i
	}
	for _, name := range importColumns {
		if _, ok := column[name]; !ok {
			problems = append(problems, "line 1: column "+name+" is missing")
		}
	}
	if problems != nil {
		return nil, problems
	}
	seen := map[string]int{}
	for len(problems) < maxProblems {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		line, _ := r.FieldPos(0)
		if err != nil {
			return lines, append(problems, err.Error())
		}
		l, bad := parseImportLine(record, column, line, len(header))
		if before, twice := seen[l.SkuID]; twice {
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

func parseImportLine(record []string, column map[string]int, line, width int) (importLine, []string) {
	l := importLine{line: line}
	if len(record) != width {
		return l, []string{fmt.Sprintf("%d fields, the header has %d", len(record), width)}
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

// Export writes all SKUs as a file that Import reads.
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
			quantity := s.Available
			if s.Unlimited {
				quantity = -1
			}
			if err := out.Write([]string{s.SkuID, s.Title, strconv.FormatInt(s.PriceFen, 10), strconv.FormatInt(quantity, 10)}); err != nil {
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

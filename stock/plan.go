package stock

import (
	"context"
	"errors"
	"slices"
)

// ImportMost is how many lines PlanImport takes: as many as a person can look through. A longer file is imported
// by the verb, which shows nothing line by line.
const ImportMost = 2000

// ErrImportLong: the file has more lines than ImportMost.
var ErrImportLong = errors.New("the file has more lines than can be looked through")

// Seen is a SKU as somebody has read it before they import a line about it.
type Seen struct {
	SkuID   string `json:"sku_id"`
	Version int64  `json:"version"` // 0: there was none
	Units   int64  `json:"units"`   // on the shelf, with what is allocated; 0 for an unlimited one
}

// ImportWhat is what a line comes to.
type ImportWhat string

// What lines come to.
const (
	ImportNew    ImportWhat = "new"    // the SKU is made
	ImportChange ImportWhat = "change" // its title, price or stock becomes another
	ImportSame   ImportWhat = "same"   // it is so already
	ImportBefore ImportWhat = "before" // this very file has done it
)

// ImportWhats are all of them.
func ImportWhats() []ImportWhat {
	return []ImportWhat{ImportNew, ImportChange, ImportSame, ImportBefore}
}

// ImportRow is what a line would do.
type ImportRow struct {
	Line      int        `json:"line"` // of the file, whose first is 1
	What      ImportWhat `json:"what"`
	Title     string     `json:"title"`
	TitleWas  string     `json:"title_was"` // "" for a new SKU
	PriceFen  int64      `json:"price_fen"`
	PriceWas  int64      `json:"price_fen_was"`
	Delta     int64      `json:"delta"` // units, on a shelf that had Seen.Units
	Unlimited bool       `json:"unlimited"`
	Seen      Seen       `json:"seen"` // for ImportOptions.Seen
}

// PlanImport says line by line what Import of the same file would do now, and writes nothing. Problems of the file
// are in the report, with ErrImport, as from Import; ErrImportLong is a file of more than ImportMost lines.
func (a *Admin) PlanImport(ctx context.Context, file []byte, mode Mode) (report ImportReport, err error) {
	lines, problems, err := a.readImport(ctx, file, mode)
	report.Lines, report.Problems = len(lines), problems
	if err != nil {
		return report, err
	}
	if len(lines) > ImportMost {
		return report, ErrImportLong
	}
	if len(problems) > 0 {
		return report, ErrImport
	}
	ref := importRef(file)
	for batch := range slices.Chunk(lines, importLines) {
		found, err := a.FindMany(ctx, idsOf(batch))
		if err != nil {
			return report, err
		}
		before, err := appliedBefore(ctx, a.db, batch, mode.kind(), ref)
		if err != nil {
			return report, err
		}
		shelf := map[string]*SKU{}
		for i := range found {
			shelf[found[i].SkuID] = &found[i]
		}
		for _, l := range batch {
			report.plan(l, mode, shelf[l.SkuID], before[l.SkuID])
		}
	}
	return report, nil
}

// plan adds a line to a report that has done nothing.
func (r *ImportReport) plan(l importLine, mode Mode, sku *SKU, before bool) {
	row := ImportRow{Line: l.line, What: ImportNew, Title: l.Title, PriceFen: l.PriceFen, Delta: *l.Quantity,
		Unlimited: *l.Quantity == unlimitedQuantity, Seen: Seen{SkuID: l.SkuID}}
	switch {
	case before:
		row.What, row.Delta = ImportBefore, 0
		r.Repeated++
	case sku == nil:
		r.Created++
	default:
		row.What, row.Delta = ImportChange, l.delta(mode, sku)
		if sku.Title == l.Title && sku.PriceFen == l.PriceFen && row.Delta == 0 {
			row.What = ImportSame
		}
		r.Updated++
	}
	if sku != nil {
		row.TitleWas, row.PriceWas, row.Seen = sku.Title, sku.PriceFen, seen(sku)
	}
	if row.Unlimited {
		row.Delta = 0
	}
	r.Rows = append(r.Rows, row)
}

// seen is a SKU as a plan shows it.
func seen(s *SKU) Seen { return Seen{SkuID: s.SkuID, Version: s.Version, Units: s.Free()} }

// asSeen parts the lines of a batch whose SKUs are still as somebody has read them from those that have changed
// since. Lines that were applied before are of the first: they do nothing. What is added to a shelf is the same
// whatever has been sold since; what it is set to is not.
func (o *ImportOptions) asSeen(batch []importLine, shelf map[string]*SKU, before map[string]bool) (
	still []importLine, changed []int) {
	if o.seen == nil {
		return batch, nil
	}
	for _, l := range batch {
		was, known := o.seen[l.SkuID]
		now := Seen{SkuID: l.SkuID}
		if sku := shelf[l.SkuID]; sku != nil {
			now = seen(sku)
		}
		same := known && was.Version == now.Version && (o.Mode == ModeAdd || was.Units == now.Units)
		if same || before[l.SkuID] {
			still = append(still, l)
		} else {
			changed = append(changed, l.line)
		}
	}
	return still, changed
}

// seenByID gives what was seen by its SKUs; nil for nil.
func seenByID(all []Seen) map[string]Seen {
	if all == nil {
		return nil
	}
	read := make(map[string]Seen, len(all))
	for _, s := range all {
		read[s.SkuID] = s
	}
	return read
}

// kind is that of the flows of an import.
func (m Mode) kind() Kind {
	if m == ModeSet {
		return KindAdjust
	}
	return KindReplenish
}

// Then is what is on the shelf after the line.
func (r *ImportRow) Then() int64 { return r.Seen.Units + r.Delta }

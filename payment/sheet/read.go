package sheet

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrNoWorkbook: what was given cannot be read as a workbook; the text says what it is, and what
// to do.
var ErrNoWorkbook = errors.New("this is no workbook (.xlsx)")

// Read is a cell of a workbook that people have filled in. Formula says that it is computed, by its
// own formula or as a part of what another one gives: what stands in Text then is what some program
// has made of it last.
type Read struct {
	Text    string
	Formula bool
}

// Most bounds what is read of a workbook, so that a small file cannot become a large one.
type Most struct {
	Rows    int // of the sheet, with the header, up to the last one with something in it
	Columns int // further ones are passed over
	Bytes   int // of what is unpacked, of each part of the file that is read
	Cell    int // bytes of the text of a cell
}

// ReadXLSX reads a sheet of a workbook, by its name, row by row from the first: texts as they are,
// numbers and times as the file has them. Rows that are empty, and cells, are given as such up to the
// last one in which something stands: the index of a row is its number less 1. Only what is needed is
// unpacked, as a stream, and within most. Errors match ErrNoWorkbook or ErrTooLong.
func ReadXLSX(file []byte, name string, most Most) ([][]Read, error) {
	if err := looksLike(file); err != nil {
		return nil, err
	}
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be unpacked: %w", ErrNoWorkbook, err)
	}
	b := &reading{parts: map[string]*zip.File{}, most: most}
	for _, f := range z.File {
		if _, twice := b.parts[f.Name]; twice || len(b.parts) > mostParts {
			return nil, fmt.Errorf("%w: it has a part twice, or more than %d", ErrNoWorkbook, mostParts)
		}
		b.parts[f.Name] = f
	}
	at, texts, err := b.find(name)
	if err != nil {
		return nil, err
	}
	if texts != "" {
		if err := b.shared(texts); err != nil {
			return nil, err
		}
	}
	return b.sheet(at)
}

const (
	// mostParts is how many files a workbook may be packed of; one of ours has a dozen.
	mostParts = 1000
	// mostDepth is how deep elements may lie in each other; in a sheet of Excel it is eleven.
	mostDepth = 16
	// mostToken bounds a tag with its attributes, and a text between two tags, in bytes: each
	// attribute takes many times its bytes of memory. The longest text of a cell has 32,767 characters
	// of at most three.
	mostToken = 256 << 10
	// mostAreas is how many formulas may fill more than their cell: each cell is held against each.
	mostAreas = 1000
	// mostTexts is how many texts cells may share, those of other sheets among them: an empty one is five bytes of
	// XML, and many times that in memory.
	mostTexts = 1 << 18
	// lastRow is the last row that a sheet can have (Excel specifications and limits).
	lastRow = 1 << 20
	// sheetsNamed is how many sheets are named to whoever gives a workbook without ours.
	sheetsNamed = 10
)

// looksLike says of what is no ZIP what it is.
func looksLike(file []byte) error {
	switch {
	case len(file) == 0:
		return fmt.Errorf("%w: the file is empty", ErrNoWorkbook)
	case bytes.HasPrefix(file, []byte("PK\x03\x04")):
		return nil
	case bytes.HasPrefix(file, []byte("\xd0\xcf\x11\xe0")):
		return fmt.Errorf("%w: it is an old .xls, or has a password: save it as .xlsx without one", ErrNoWorkbook)
	case bytes.HasPrefix(file, []byte("%PDF")):
		return fmt.Errorf("%w: it is a PDF", ErrNoWorkbook)
	case bytes.IndexByte(file, 0) < 0 && !utf8.Valid(file):
		return fmt.Errorf("%w: it is text in GBK, such as a CSV that Excel has saved: fill in the workbook itself, "+
			"and save it as .xlsx", ErrNoWorkbook)
	case bytes.IndexByte(file, 0) < 0:
		return fmt.Errorf("%w: it is text, such as a CSV: fill in the workbook itself, and save it as .xlsx",
			ErrNoWorkbook)
	}
	return fmt.Errorf("%w: it is another kind of file", ErrNoWorkbook)
}

// reading is a workbook that is being read.
type reading struct {
	parts map[string]*zip.File
	most  Most
	texts []string // those that cells share, by their numbers
	areas []area   // that formulas of other cells fill
}

// area is a rectangle of cells, from 0 on, with its last row and column.
type area struct{ row, column, lastRow, lastColumn int }

// areaOf reads a reference such as B2:C9; a cell alone is no area.
func areaOf(ref string) (area, bool) {
	from, to, two := strings.Cut(ref, ":")
	digits := func(name string) int {
		n, err := strconv.Atoi(strings.TrimLeft(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
		if err != nil {
			return -1
		}
		return n - 1
	}
	a := area{digits(from), columnOf(from, -1), digits(to), columnOf(to, -1)}
	return a, two && from != to && a.row >= 0 && a.column >= 0
}

// stream is the tokens of a part.
type stream struct {
	*xml.Decoder
	from  *bufio.Reader
	left  int // bytes that the token may still have
	depth int
}

// ReadByte gives the next byte of a token that is not too long.
func (s *stream) ReadByte() (byte, error) {
	if s.left--; s.left < 0 {
		return 0, fmt.Errorf("%w: a tag or a text has more than %d bytes", ErrTooLong, mostToken)
	}
	return s.from.ReadByte()
}

// Read is what xml.NewDecoder asks for; it reads by ReadByte.
func (s *stream) Read(p []byte) (int, error) { return s.from.Read(p) }

// Token gives the next token, within bounds.
func (s *stream) Token() (xml.Token, error) {
	s.left = mostToken
	t, err := s.Decoder.Token()
	switch t.(type) {
	case xml.StartElement:
		s.depth++
	case xml.EndElement:
		s.depth--
	}
	if err == nil && s.depth > mostDepth {
		err = fmt.Errorf("%w: elements lie more than %d deep", ErrTooLong, mostDepth)
	}
	return t, err
}

// open unpacks a part as a stream of XML, no more of it than is allowed.
func (b *reading) open(name string) (*stream, func(), error) {
	f := b.parts[name]
	if f == nil {
		return nil, nil, fmt.Errorf("%w: it lacks %s", ErrNoWorkbook, name)
	}
	if f.UncompressedSize64 > uint64(b.most.Bytes) { //nolint:gosec // G115: a bound of ours
		return nil, nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLong, name, b.most.Bytes)
	}
	r, err := f.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s cannot be unpacked: %w", ErrNoWorkbook, name, err)
	}
	s := &stream{from: bufio.NewReader(io.LimitReader(r, int64(b.most.Bytes)))}
	s.Decoder = xml.NewDecoder(s)
	s.Strict = true
	return s, func() { _ = r.Close() }, nil
}

// each gives the start of every element of a part to do, until it says to stop.
func (b *reading) each(name string, do func(*stream, xml.StartElement) error) error {
	d, done, err := b.open(name)
	if err != nil {
		return err
	}
	defer done()
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %s cannot be read: %w", ErrNoWorkbook, name, err)
		}
		if start, ok := t.(xml.StartElement); ok {
			if err := do(d, start); err != nil {
				return err
			}
		}
	}
}

// attr is an attribute by its local name.
func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// find gives the parts of a sheet and of the shared texts, "" without any.
func (b *reading) find(name string) (at, texts string, err error) {
	const book, rels = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
	id, names, sheets := "", []string{}, 0
	err = b.each(book, func(_ *stream, e xml.StartElement) error {
		if e.Name.Local == "sheet" {
			if sheets++; sheets <= sheetsNamed {
				names = append(names, attr(e, "name"))
			}
			if attr(e, "name") == name {
				id = attr(e, "id")
			}
		}
		return nil
	})
	if err == nil && id == "" {
		err = fmt.Errorf("%w of ours: it has no sheet named %s, but %d, such as %.100q", ErrNoWorkbook, name, sheets,
			names)
	}
	if err != nil {
		return "", "", err
	}
	err = b.each(rels, func(_ *stream, e xml.StartElement) error {
		target := attr(e, "Target")
		if !strings.HasPrefix(target, "/") {
			target = path.Join("xl", target)
		}
		target = strings.TrimPrefix(target, "/")
		switch {
		case e.Name.Local != "Relationship":
		case attr(e, "Id") == id:
			at = target
		case strings.HasSuffix(attr(e, "Type"), "/sharedStrings"):
			texts = target
		}
		return nil
	})
	return at, texts, err
}

// shared reads the texts that cells share.
func (b *reading) shared(name string) error {
	return b.each(name, func(d *stream, e xml.StartElement) error {
		if e.Name.Local != "si" {
			return nil
		}
		if len(b.texts) == mostTexts {
			return fmt.Errorf("%w: %s has more than %d texts", ErrTooLong, name, mostTexts)
		}
		text, err := b.text(d)
		b.texts = append(b.texts, text)
		return err
	})
}

// text reads the text of the element that d is in: all of its t, but for those of how it is
// pronounced.
func (b *reading) text(d *stream) (string, error) {
	var text strings.Builder
	depth, in, spoken := 1, false, 0
	for depth > 0 {
		t, err := d.Token()
		if err != nil {
			return "", fmt.Errorf("%w: a text cannot be read: %w", ErrNoWorkbook, err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			depth++
			if in = t.Name.Local == "t"; t.Name.Local == "rPh" || spoken > 0 {
				spoken++
			}
		case xml.EndElement:
			depth--
			in, spoken = false, max(0, spoken-1)
		case xml.CharData:
			if in && spoken == 0 {
				text.Write(t)
			}
		}
		if text.Len() > b.most.Cell {
			return "", fmt.Errorf("%w: a cell has more than %d bytes", ErrTooLong, b.most.Cell)
		}
	}
	return text.String(), nil
}

// sheet reads the rows. One in which nothing stands, such as one that somebody has only coloured,
// is none.
func (b *reading) sheet(name string) (rows [][]Read, err error) {
	row, next := 0, 0 // the number of the row, from 1, and the column after the last one
	var cells []Read
	err = b.each(name, func(d *stream, e xml.StartElement) error {
		switch e.Name.Local {
		case "row":
			n, err := row+1, error(nil)
			if text := attr(e, "r"); text != "" {
				n, err = strconv.Atoi(text)
			}
			if err != nil || n <= row || n > lastRow {
				return fmt.Errorf("%w: a row is numbered %.20q", ErrNoWorkbook, attr(e, "r"))
			}
			row, next, cells = n, 0, nil
		case "c":
			if row == 0 {
				return fmt.Errorf("%w: a cell is in no row", ErrNoWorkbook)
			}
			column := columnOf(attr(e, "r"), next)
			cell, err := b.cell(d, attr(e, "t"))
			if err != nil || column < next || column >= b.most.Columns {
				return err
			}
			next = column + 1
			cell.Formula = cell.Formula || b.filled(row-1, column)
			if cell == (Read{}) {
				return nil
			}
			if row > b.most.Rows {
				return fmt.Errorf("%w: the sheet has more than %d rows", ErrTooLong, b.most.Rows-1)
			}
			for len(rows) < row {
				rows = append(rows, nil)
			}
			for len(cells) < column {
				cells = append(cells, Read{})
			}
			cells = append(cells, cell)
			rows[row-1] = cells
		}
		return nil
	})
	return rows, err
}

// filled reports that the formula of another cell fills a cell.
func (b *reading) filled(row, column int) bool {
	return slices.ContainsFunc(b.areas, func(a area) bool {
		return a.row <= row && row <= a.lastRow && a.column <= column && column <= a.lastColumn
	})
}

// columnOf gives the column of a cell, from 0, by its name such as AB12; next without one.
func columnOf(name string, next int) int {
	n := 0
	for _, c := range []byte(name) {
		if c < 'A' || c > 'Z' || n > 1<<20 {
			break
		}
		n = n*26 + int(c-'A') + 1
	}
	if n == 0 {
		return next
	}
	return n - 1
}

// cell reads a cell of a type (ECMA-376, 18.18.11). A formula that fills an area (18.3.1.40: an array,
// a table of data) stands in its first cell alone; the others have what it gives.
func (b *reading) cell(d *stream, kind string) (c Read, err error) {
	for {
		t, err := d.Token()
		if err != nil {
			return c, fmt.Errorf("%w: a cell cannot be read: %w", ErrNoWorkbook, err)
		}
		switch t := t.(type) {
		case xml.EndElement:
			return c, nil
		case xml.StartElement:
			text, err := b.inner(d, t.Name.Local)
			if err != nil {
				return c, err
			}
			switch t.Name.Local {
			case "f":
				c.Formula = true
				if a, is := areaOf(attr(t, "ref")); is && attr(t, "t") != "shared" {
					b.areas = append(b.areas, a)
				}
				if len(b.areas) > mostAreas {
					return c, fmt.Errorf("%w: more than %d formulas fill areas", ErrTooLong, mostAreas)
				}
			case "is":
				c.Text = text
			case "v":
				if c.Text = text; kind == "s" {
					n, err := strconv.Atoi(text)
					if err != nil || n < 0 || n >= len(b.texts) {
						return c, fmt.Errorf("%w: a cell has a text that is not there", ErrNoWorkbook)
					}
					c.Text = b.texts[n]
				}
			}
		}
	}
}

// inner reads what stands in an element of a cell: text in pieces, or the one value.
func (b *reading) inner(d *stream, name string) (string, error) {
	if name == "is" {
		return b.text(d)
	}
	var text strings.Builder
	for depth := 1; depth > 0; {
		t, err := d.Token()
		if err != nil {
			return "", fmt.Errorf("%w: a cell cannot be read: %w", ErrNoWorkbook, err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			text.Write(t)
		}
		if text.Len() > b.most.Cell {
			return "", fmt.Errorf("%w: a cell has more than %d bytes", ErrTooLong, b.most.Cell)
		}
	}
	return text.String(), nil
}

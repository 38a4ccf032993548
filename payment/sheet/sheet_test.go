package sheet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"
)

// numbered is a table of n rows of some text.
func numbered(n int, text func(i int) string) Table {
	return Table{Name: "Orders", Header: []string{"number", "text"}, Rows: func(yield func([]Cell, error) bool) {
		for i := range n {
			if !yield([]Cell{Count(int64(i)), Text(text(i))}, nil) {
				return
			}
		}
	}}
}

// heap is what lives on the heap, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// peak looks at the heap now and then while a workbook is written.
type peak struct {
	wrote, looked int64
	most          int64
}

func (p *peak) look() { p.most = max(p.most, heap()) }

// Write looks at the first piece and after every 16 MiB.
func (p *peak) Write(b []byte) (int, error) {
	if p.wrote == 0 || p.wrote-p.looked > 16<<20 {
		p.looked = p.wrote
		p.look()
	}
	p.wrote += int64(len(b))
	return len(b), nil
}

// A workbook of a big shop was made in memory, rows and archive, and a few of them at once ended the process with all
// that it did beside. 200,000 rows are 40 MB of archive here, because little in them can be packed.
func TestAWorkbookIsNotMadeInMemory(t *testing.T) {
	const rows, most = 200_000, 40 << 20
	random := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	p := &peak{}
	table := numbered(rows, func(i int) string {
		if i%50_000 == 0 {
			p.look()
		}
		text.Reset()
		for range 25 {
			fmt.Fprintf(&text, "%016x", random.Uint64())
		}
		return text.String()
	})
	before := heap()
	if err := WriteXLSX(p, table); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows, %d MB of archive, %d MB of heap", rows, p.wrote>>20, (p.most-before)>>20)
	if p.wrote < 32<<20 || p.most-before > most {
		t.Errorf("%d bytes of archive were made in %d bytes of heap", p.wrote, p.most-before)
	}
}

// What a sheet cannot hold would be a file that no program opens, or opens in part. It is said before the first byte.
func TestASheetHasAnEnd(t *testing.T) {
	word := func(int) string { return "word" }
	for name, tt := range map[string]struct {
		most limits
		rows int
		long bool
	}{
		"it fits":          {limits{rows: 5, bytes: 1 << 20}, 4, false},
		"a row more":       {limits{rows: 5, bytes: 1 << 20}, 5, true},
		"too much of text": {limits{rows: 5, bytes: 500}, 3, true},
	} {
		var b bytes.Buffer
		if err := writeXLSX(&b, tt.most, []Table{numbered(tt.rows, word)}); errors.Is(err, ErrTooLong) != tt.long ||
			tt.long != (b.Len() == 0) || !tt.long && err != nil {
			t.Errorf("%s: %v, %d bytes", name, err, b.Len())
		}
	}
	if sheetLimits.rows != 1<<20 || sheetLimits.bytes >= 1<<32 || sheetLimits.spill >= sheetLimits.rows {
		t.Errorf("%+v", sheetLimits)
	}
}

// The archive goes straight to its reader, who must be able to read it, and hears of every sheet.
func TestAWorkbookIsWhole(t *testing.T) {
	var b bytes.Buffer
	other := numbered(3, func(int) string { return "<&>" })
	other.Name = "Other"
	if err := WriteXLSX(&b, numbered(2, func(i int) string { return fmt.Sprint("row ", i) }), other); err != nil {
		t.Fatal(err)
	}
	book, err := excelize.OpenReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	for name, want := range map[string]string{"Orders": "[[number text] [0 row 0] [1 row 1]]",
		"Other": "[[number text] [0 <&>] [1 <&>] [2 <&>]]"} {
		if rows, err := book.GetRows(name); err != nil || fmt.Sprint(rows) != want {
			t.Errorf("%s: %v %v", name, rows, err)
		}
	}
}

// Without room for temporary files the library keeps all rows in memory and says nothing.
func TestNoRoomForTemporaryFilesIsSaid(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/none")
	most := sheetLimits
	most.spill = 3
	var b bytes.Buffer
	word := func(int) string { return "word" }
	if err := writeXLSX(&b, most, []Table{numbered(1, word)}); err != nil || b.Len() == 0 {
		t.Errorf("a short one: %v", err)
	}
	b.Reset()
	if err := writeXLSX(&b, most, []Table{numbered(9, word)}); !errors.Is(err, os.ErrNotExist) || b.Len() > 0 {
		t.Errorf("a long one: %v, %d bytes", err, b.Len())
	}
}

// What stops taking the file stops the work.
func TestAWriterThatFailsIsHeard(t *testing.T) {
	r, w := io.Pipe()
	_ = r.CloseWithError(io.ErrClosedPipe)
	if err := WriteXLSX(w, numbered(3, func(int) string { return "" })); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

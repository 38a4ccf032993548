package screen

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file, a pipe and /dev/null are no terminals; the near end of a pseudo-terminal is one.
func TestIsTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, f := range map[string]*os.File{"a file": file, "a pipe": w, "its end": r, "/dev/null": null} {
		if IsTerminal(f) {
			t.Errorf("%s counts as a terminal", name)
		}
	}
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Logf("no pseudo-terminal here, so only what is none was asked: %v", err)
		return
	}
	defer tty.Close()
	if !IsTerminal(tty) {
		t.Error("a pseudo-terminal is none")
	}
}

// Elsewhere than on a terminal a line comes every few seconds, the first after as long, and no control code ever.
func TestPlainProgress(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, false)
	start := p.said
	for ms := 0; ms <= 12_000; ms += 100 {
		p.now = func() time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
		p.Show("%d ms", ms)
		if ms == 7_000 {
			p.Print("a line of its own\n")
		}
	}
	p.End()
	p.Keep()
	if want := "5000 ms\na line of its own\n10000 ms\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// On a terminal the line moves, what is printed stands above it, and the end leaves an empty line.
func TestMovingProgress(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, true)
	p.End() // nothing was shown: nothing is to be removed
	p.Show("one")
	p.Print("stays\n")
	p.Show("two")
	p.End()
	p.Print("alone\n")
	p.Show("three")
	p.Keep()
	want := strings.ReplaceAll("<one<stays\none<two<alone\n<three\n", "<", "\r\033[K")
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

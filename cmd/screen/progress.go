package screen

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
)

// plainEvery is how often progress is said where no line can move: in a log of a build, a
// line every few seconds is read, and ten a second bury all else. What takes less than it
// says nothing.
const plainEvery = 5 * time.Second

// clearLine takes the cursor to the start of the terminal's line and empties it.
const clearLine = "\r\033[K"

// IsTerminal reports that a file is a terminal: somebody looks, and a line may move.
// /dev/null is a character device too, and none.
func IsTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// Progress says how far something is: on a terminal in one line that moves, elsewhere in
// plain lines, of which no more than one is written in plainEvery. Its methods may be
// called at the same time.
type Progress struct {
	out   io.Writer
	moves bool
	now   func() time.Time // time.Now; tests have a clock of their own

	mu   sync.Mutex
	last string    // the moving line, drawn again after each Print; "" without one
	said time.Time // when the last plain line was written, at first when this was made
}

// NewProgress makes one; terminal says that out is one (IsTerminal).
func NewProgress(out io.Writer, terminal bool) *Progress {
	return &Progress{out: out, moves: terminal, now: time.Now, said: time.Now()}
}

// Show says how far it is, instead of what was shown before.
func (p *Progress) Show(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.moves {
		if now := p.now(); now.Sub(p.said) >= plainEvery {
			p.said = now
			p.write(sprintf(format, args) + "\n")
		}
		return
	}
	p.last = sprintf(format, args)
	p.write(clearLine + p.last)
}

// Print writes a line that stays, above the one that moves. The format has its newline.
func (p *Progress) Print(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := sprintf(format, args)
	if p.last != "" {
		line = clearLine + line + p.last
	}
	p.write(line)
}

// End removes the moving line, so that what follows starts at the edge. Progress may be
// shown again after it.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != "" {
		p.write(clearLine)
		p.last = ""
	}
}

// Keep ends the moving line where it is: the last word of something stays to be read.
func (p *Progress) Keep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != "" {
		p.write("\n")
		p.last = ""
	}
}

// write writes; a terminal that is gone takes nothing with it.
func (p *Progress) write(s string) { _, _ = io.WriteString(p.out, s) }

// Yellow is text in yellow, for terminals that have colours.
func Yellow(text string) string { return "\033[33m" + text + "\033[0m" }

package screen

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf16"

	"orderd/migrations/bounds"
)

// setIn begins the lines after the first, so that none of them can be taken for another
// message.
const setIn = "  "

// Lines is text of several lines, each of which is a line of its own where it is printed:
// those after the first are set in. Any other argument is one line, whatever it has.
type Lines string

// Printf prints for people. The format is ours, and may have newlines and tabs; every
// argument is somebody else's word and passes bounds.Shown, an error line by line. What
// cannot be written is lost, as with every word to a terminal.
func Printf(out io.Writer, format string, args ...any) {
	for i, arg := range args {
		args[i] = safe(arg)
	}
	_, _ = fmt.Fprintf(out, format, args...)
}

// sprintf is Printf into a string.
func sprintf(format string, args []any) string {
	var b strings.Builder
	Printf(&b, format, args...)
	return b.String()
}

// safe is an argument that prints itself by bounds.Shown. Numbers stay, because a width
// that is an argument has to be one.
func safe(arg any) any {
	switch arg.(type) {
	case nil, bool, int, int64, uint64, shown:
		return arg
	}
	return shown{arg}
}

// shown formats its value by the verb that it is given, and shows the result.
type shown struct{ of any }

// Format implements fmt.Formatter.
func (s shown) Format(f fmt.State, verb rune) {
	text := fmt.Sprintf(fmt.FormatString(f, verb), s.of)
	switch s.of.(type) {
	case error, Lines:
		text = bounds.ShownLines(text, setIn)
	default:
		text = bounds.Shown(text)
	}
	_, _ = io.WriteString(f, text)
}

// Table prints a table: write prints its rows with Printf, their columns separated by tabs.
func Table(out io.Writer, write func(w io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	write(w)
	return w.Flush()
}

// Copy prints a file of somebody else byte for byte, and on a terminal each of its lines by
// bounds.Shown: what it could do there it does not.
func Copy(out io.Writer, terminal bool, from io.Reader) error {
	if !terminal {
		_, err := io.Copy(out, from)
		return err
	}
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			Printf(out, "%s\n", strings.TrimRight(line, "\r\n"))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// JSON prints a value for programs, indented. It is the same value for them as encoding/json
// makes; what cannot be seen is escaped in it, because people read it in terminals too.
func JSON(out io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := out.Write(escaped(b.Bytes()))
	return err
}

// escaped writes as \u what is hidden in JSON. Outside of its strings there is nothing that
// is, but the newlines of the indentation.
func escaped(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch high, low := utf16.EncodeRune(r); {
		case r == '\n' || !bounds.Hidden(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

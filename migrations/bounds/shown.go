package bounds

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Shown makes a word of somebody else's safe to show, in a terminal, a table, a page: what
// cannot be seen is written as Go writes it in a string, \n or \u202e. Such a word could
// otherwise end the line and forge the next one, turn the text around it, move the cursor,
// or look like another word. It is the one rule of that; package screen of cmd and the
// operators' pages put every word through it.
//
// A backslash stays as it is: it forges nothing, and a word that is shown twice does not
// grow.
func Shown(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, Hidden) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case Hidden(r):
			quoted := fmt.Sprintf("%+q", r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

// ShownLines is Shown for text that has lines of its own, such as an error that has joined
// others. Those after the first begin with setIn, by which a reader knows them.
func ShownLines(s, setIn string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, line := range lines {
		lines[i] = Shown(line)
	}
	return strings.Join(lines, "\n"+setIn)
}

// wideBlank is the blank of Chinese text, as wide as a character: it is seen.
const wideBlank = '\u3000'

// brailleBlank is a sign of braille without a dot.
const brailleBlank = '\u2800'

// Hidden reports that a character is not seen where it stands: controls, ends of lines and
// paragraphs, marks of direction, joiners and other marks of no width, fillers, and blanks
// that are not the two that everybody types.
func Hidden(r rune) bool {
	switch {
	case r == ' ' || r == wideBlank:
		return false
	case r == brailleBlank:
		return true
	}
	return !unicode.IsPrint(r) ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// blank reports that nothing of a text is seen: blanks, and what has no width.
func blank(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsSpace(r) && !Hidden(r) })
}

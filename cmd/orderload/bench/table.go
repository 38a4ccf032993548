package bench

import (
	"fmt"
	"os"
	"strings"
	"time"

	"orderd/cmd/screen"
)

// Header prints the head of a Markdown table to standard output.
func Header(columns ...string) { fmt.Print(formatHeader(columns)) }

// formatHeader is the head, with the line of dashes.
func formatHeader(columns []string) string {
	var b strings.Builder
	b.WriteString("|")
	for _, c := range columns {
		if c != "" {
			c = " " + c
		}
		b.WriteString(c + " |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(columns)) + "\n")
	return b.String()
}

// Row prints one line of a Markdown table to standard output: fractions without
// decimals, durations as Round leaves them, everything else as fmt prints it.
func Row(cells ...any) { fmt.Print(formatRow(cells)) }

// formatRow is the line, with its end.
func formatRow(cells []any) string {
	var b strings.Builder
	b.WriteString("|")
	for _, c := range cells {
		switch v := c.(type) {
		case float64:
			fmt.Fprintf(&b, " %.0f |", v)
		case time.Duration:
			fmt.Fprintf(&b, " %s |", Round(v))
		default:
			fmt.Fprintf(&b, " %v |", v)
		}
	}
	b.WriteString("\n")
	return b.String()
}

// Times is a ratio as the tables write it, in bold: "**14.1 ×**".
func Times(ratio float64) string { return fmt.Sprintf("**%.1f ×**", ratio) }

// Megabytes is a number of bytes as the tables write it: "80 MB", of 2^20 bytes.
func Megabytes(bytes int64) string { return fmt.Sprintf("%d MB", bytes>>20) }

// Progress is on standard error: tables are on standard output and stay whole.
var Progress = screen.NewProgress(os.Stderr, screen.IsTerminal(os.Stderr))

package migrations

import (
	"bytes"
	"io"
	"io/fs"
	"regexp"
	"strings"
)

// reserved are the names of columns that are words of TiDB's language and stand unquoted in migrations that are out.
var reserved = regexp.MustCompile(`\buntil\b`)

// quoted are the migrations with those names quoted, for TiDB: what they make is the same.
type quoted struct{ fs.FS }

// Open opens a file or folder.
func (q quoted) Open(name string) (fs.File, error) {
	file, err := q.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	return quotedFile{file, bytes.NewReader(reserved.ReplaceAll(text, []byte("`$0`")))}, nil
}

// quotedFile is an open one.
type quotedFile struct {
	fs.File
	text *bytes.Reader
}

// Read reads it.
func (f quotedFile) Read(p []byte) (int, error) { return f.text.Read(p) }

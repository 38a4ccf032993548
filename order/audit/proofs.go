package audit

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"orderd/migrations/sqldb"
)

// The list of a proof's files, and the file in it that is not kept with a closing: it goes by its own hash.
const (
	proofList = "SHA256SUMS"
	proofBill = "bill.csv"
)

// closed is a closing of a day, and the SHA-256 of the list of its proof.
type closed struct {
	date     string
	seq      int64
	manifest string
}

// checkProofs makes the hashes of the files that were kept with every closing, those of one at a time, and tells found
// of each closing whose files are not those that were closed. It shares nothing with whoever writes them.
func checkProofs(ctx context.Context, tx *sqldb.Tx, found func(row string)) error {
	var all []closed
	err := sqldb.Each(ctx, tx, `SELECT bill_date, seq, manifest_sha256
FROM day_closings
ORDER BY bill_date, seq`, nil, func(rows *sql.Rows) error {
		var c closed
		err := rows.Scan(&c.date, &c.seq, &c.manifest)
		all = append(all, c)
		return err
	})
	for i := 0; err == nil && i < len(all); i++ {
		var why string
		if why, err = all[i].wrong(ctx, tx); why != "" {
			found(fmt.Sprintf("bill_date=%s seq=%d why=%s", all[i].date, all[i].seq, why))
		}
	}
	return err
}

// wrong says which file of a proof is not the one that was closed, "" for none.
func (c *closed) wrong(ctx context.Context, tx *sqldb.Tx) (string, error) {
	packed := map[string][]byte{}
	err := sqldb.Each(ctx, tx, `SELECT name, body
FROM day_closing_parts
WHERE bill_date = ?
  AND seq = ?
ORDER BY name, part`, []any{c.date, c.seq}, func(rows *sql.Rows) error {
		var name string
		var body []byte
		err := rows.Scan(&name, &body)
		packed[name] = append(packed[name], body...)
		return err
	})
	if err != nil {
		return "", err
	}
	sums, list := map[string]string{}, ""
	for name, body := range packed {
		plain, err := gzip.NewReader(bytes.NewReader(body))
		var text []byte
		if err == nil {
			text, err = io.ReadAll(io.LimitReader(plain, mostProof))
		}
		if err != nil {
			return name + " cannot be unpacked", nil
		}
		sum := sha256.Sum256(text)
		if sums[name] = hex.EncodeToString(sum[:]); name == proofList {
			list = string(text)
		}
	}
	if len(packed) > 0 && sums[proofList] != c.manifest {
		return "the closing names another list", nil
	}
	for line := range strings.Lines(list) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if name != proofBill && sums[name] != sum {
			return name + " is another", nil
		}
	}
	return "", nil
}

// mostProof bounds a file of a proof, unpacked, in bytes: a million differences have some 400 MB.
const mostProof = 1 << 30

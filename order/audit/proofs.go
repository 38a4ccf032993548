package audit

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/sqldb"
)

// The list of a proof's files, who closed the day, what it follows, and the file in the list that is not kept with a
// closing: it goes by its own hash.
const (
	proofList    = "SHA256SUMS"
	proofClosing = "closing.json"
	proofChain   = "chain.txt"
	proofBill    = "bill.csv"
)

const (
	// mostProof bounds a file of a proof, unpacked, in bytes: a million differences have some 400 MB. Of those no more
	// is in memory than what is packed.
	mostProof = 1 << 30
	// mostRead bounds one that is read and not only summed, in bytes: it has some lines.
	mostRead = 64 << 10
)

// closed is a closing of a day as its row has it, with the SHA-256 of the list of its proof and of that of the day
// before.
type closed struct {
	date               string
	seq                int64
	who, how, why      string
	at                 int64
	sha1               string
	manifest, previous string
}

// checkProofs makes the hashes of the files that were kept with every closing, one at a time, and tells found of each
// closing whose files are not those that were closed, or whose row says something else than they do. It shares nothing
// with whoever writes them.
func checkProofs(ctx context.Context, q sqldb.Querier, found func(row string)) error {
	var all []closed
	err := sqldb.Each(ctx, q, `SELECT bill_date, seq, who, how, why, at, sha1, manifest_sha256, previous_sha256
FROM day_closings
ORDER BY bill_date, seq`, nil, func(rows *sql.Rows) error {
		var c closed
		err := rows.Scan(&c.date, &c.seq, &c.who, &c.how, &c.why, &c.at, &c.sha1, &c.manifest, &c.previous)
		all = append(all, c)
		return err
	})
	for i := 0; err == nil && i < len(all); i++ {
		var why string
		if why, err = all[i].wrong(ctx, q); why != "" {
			found(fmt.Sprintf("bill_date=%s seq=%d why=%s", all[i].date, all[i].seq, why))
		}
	}
	return err
}

// wrong says which file of a proof is not the one that was closed, or says something else than the row; "" for none.
func (c *closed) wrong(ctx context.Context, q sqldb.Querier) (string, error) {
	sums, texts := map[string]string{}, map[string]string{}
	var name string
	var packed bytes.Buffer
	end := func() (err error) { // of a file
		if name != "" {
			sums[name], texts[name], err = summed(name, &packed)
		}
		packed.Reset()
		return err
	}
	var broken error
	err := sqldb.Each(ctx, q, `SELECT name, body
FROM day_closing_parts
WHERE bill_date = ?
  AND seq = ?
ORDER BY name, part`, []any{c.date, c.seq}, func(rows *sql.Rows) error {
		var next string
		var body []byte
		if err := rows.Scan(&next, &body); err != nil {
			return err
		}
		if next != name {
			broken = errors.Join(broken, end())
		}
		name = next
		packed.Write(body)
		return nil
	})
	switch broken = errors.Join(broken, end()); {
	case err != nil:
		return "", err
	case broken != nil:
		return strings.ReplaceAll(broken.Error(), "\n", ", "), nil
	case len(sums) == 0:
		return "", nil
	case sums[proofList] != c.manifest:
		return "the closing names another list", nil
	}
	for line := range strings.Lines(texts[proofList]) {
		sum, file, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if file != proofBill && sums[file] != sum {
			return file + " is another", nil
		}
	}
	return c.differs(texts[proofClosing], texts[proofChain]), nil
}

// summed gives the SHA-256 of a packed file, and its text where that is read.
func summed(name string, packed io.Reader) (sum, text string, err error) {
	h := sha256.New()
	var read bytes.Buffer
	plain, err := gzip.NewReader(packed)
	if err == nil && (name == proofList || name == proofClosing || name == proofChain) {
		_, err = io.Copy(io.MultiWriter(h, &read), io.LimitReader(plain, mostRead))
	}
	if err == nil {
		_, err = io.Copy(h, io.LimitReader(plain, mostProof))
	}
	if err != nil {
		return "", "", errors.New(name + " cannot be unpacked")
	}
	return hex.EncodeToString(h.Sum(nil)), read.String(), nil
}

// differs says what of the row is not what the proof says of the closing, "" for nothing.
func (c *closed) differs(closing, chain string) string {
	var kept struct {
		Date string    `json:"bill_date"`
		Seq  int64     `json:"seq"`
		Who  string    `json:"closed_by"`
		At   time.Time `json:"closed_at"`
		How  string    `json:"how"`
		Why  string    `json:"reason"`
		SHA1 string    `json:"bill_sha1"`
	}
	if json.Unmarshal([]byte(closing), &kept) != nil {
		return proofClosing + " cannot be read"
	}
	previous := ""
	for line := range strings.Lines(chain) {
		if sum, ok := strings.CutPrefix(line, "previous_sha256 "); ok {
			previous = strings.TrimSuffix(sum, "\n")
		}
	}
	for _, f := range []struct{ what, row, proof string }{
		{"bill_date", c.date, kept.Date}, {"seq", strconv.FormatInt(c.seq, 10), strconv.FormatInt(kept.Seq, 10)},
		{"who", c.who, kept.Who}, {"how", c.how, kept.How}, {"why", c.why, kept.Why},
		{"at", strconv.FormatInt(c.at, 10), strconv.FormatInt(kept.At.UnixMilli(), 10)}, {"sha1", c.sha1, kept.SHA1},
		{"previous_sha256", c.previous, previous},
	} {
		if f.row != f.proof {
			return fmt.Sprintf("%s is %q, the proof says %q", f.what, f.row, f.proof)
		}
	}
	return ""
}

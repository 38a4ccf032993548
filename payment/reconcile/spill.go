package reconcile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"orderd/payment"
)

// Bounds of the partitions.
const (
	// perPartition is how many bytes of a bill make a partition: some twenty thousand
	// rows, which with ours are a few megabytes in memory. Larger ones would save
	// nothing but files.
	perPartition = 6 << 20
	// minPartitions lets a small bill go the same way as a large one.
	minPartitions = 4
	// maxPartitions keeps open files, two each, below usual limits.
	maxPartitions = 200
	// spillBuffer is the write buffer of one partition, in bytes: 200 of them are 3 MiB.
	spillBuffer = 16 << 10
)

// facts are what a row is matched by, beside its number and state.
type facts struct {
	refund  bool
	amount  payment.Fen
	foreign payment.Fen // Facts.Foreign of the bill
	line    int64       // of the bill; 0 of ours
	at      int64       // milliseconds
}

// item is a payment or refund of one side that is looked at more closely than most, which have
// their counterpart and are not kept.
type item struct {
	facts
	// key is the transaction id of a payment, the out_refund_no of a refund, and the refund
	// id of one that has none.
	key   string
	state string
	rest  []byte // of the bill: what else it says, as addRow wrote it
	again bool   // of the bill: an earlier row has its number
}

// Facts is what a bill says of a row, beside its amount and state: what it is shown and
// healed by. It is stored as JSON in differences.facts, so a field may be added, none
// renamed. The openid is left out: nobody needs it there, and it is personal data.
type Facts struct {
	At            time.Time `json:"at,omitzero"`
	OutTradeNo    string    `json:"out_trade_no,omitempty"`
	TransactionID string    `json:"transaction_id,omitempty"`
	AppID         string    `json:"appid,omitempty"`
	MchID         string    `json:"mchid,omitempty"`
	SubMchID      string    `json:"sub_mchid,omitempty"` // for whom MchID, then a partner, took it
	TradeType     string    `json:"trade_type,omitempty"`
	Currency      string    `json:"currency,omitempty"`
	// Foreign is the amount of a row whose Currency is not the yuan, in hundredths of it; its
	// amount in fen is 0.
	Foreign     payment.Fen `json:"foreign_amount,omitempty"`
	Coupon      payment.Fen `json:"coupon_fen,omitempty"`
	RefundID    string      `json:"refund_id,omitempty"`
	OutRefundNo string      `json:"out_refund_no,omitempty"`
}

// spill keeps the rows of one side on disk, in partitions by the hash of their
// key: equal keys of both sides meet in the partition of the same number, and
// only one partition is in memory at a time. So memory depends on the size of a
// partition and not on that of the day (a grace hash join).
//
// A record is its length and then, in order: kind (0 payment, 1 refund), key,
// amount, state, line, time, and, of the bill, foreign amount, coupon and eight texts. Numbers
// are varints, texts have their length before them. Only the process that wrote
// a file reads it, so the form may change at any time.
type spill struct {
	// seed is of the run, so that both sides put a key into the same partition; a new
	// one for every run, so that nobody can make a bill whose rows all fall into one.
	seed  maphash.Seed
	files []*os.File
	out   []*bufio.Writer
	rows  []int // in each
	// buf is the record in the making and size its length, used again for each.
	buf  []byte
	size [binary.MaxVarintLen64]byte
}

// newSpill makes the empty partitions of one side. Both sides of a run have the same seed and
// number of partitions.
func newSpill(dir, side string, seed maphash.Seed, partitions int) (*spill, error) {
	s := &spill{seed: seed}
	for i := range partitions {
		f, err := os.Create(filepath.Join(dir, side+strconv.Itoa(i)))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("partition on disk: %w", err), s.close())
		}
		s.files, s.out = append(s.files, f), append(s.out, bufio.NewWriterSize(f, spillBuffer))
	}
	s.rows = make([]int, partitions)
	return s, nil
}

// partitionsFor gives how many partitions a bill of so many bytes needs.
func partitionsFor(size int64) int {
	return int(min(max(size/perPartition, minPartitions), maxPartitions))
}

// close closes the files; reconcile removes them with their folder.
func (s *spill) close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// text appends a string with its length.
func text[T ~[]byte | ~string](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// begin begins the next record, with its kind and key; what is appended to it, end writes.
func (s *spill) begin(refund bool, key []byte) []byte {
	kind := byte(0)
	if refund {
		kind = 1
	}
	return text(append(s.buf[:0], kind), key)
}

// end writes the record that begin began, into the partition of its key.
func (s *spill) end(key, record []byte) error {
	s.buf = record
	part := maphash.Bytes(s.seed, key) % uint64(len(s.out))
	s.rows[part]++
	w := s.out[part]
	size := binary.AppendUvarint(s.size[:0], uint64(len(record)))
	if _, err := w.Write(size); err != nil {
		return fmt.Errorf("partition on disk: %w", err)
	}
	if _, err := w.Write(record); err != nil {
		return fmt.Errorf("partition on disk: %w", err)
	}
	return nil
}

// addRow writes a row of the bill.
func (s *spill) addRow(r *row) error {
	key, state := r.transactionID, r.state
	if r.refund {
		key, state = r.outRefundNo, r.refundState
		if len(key) == 0 { // made without one, at the merchant platform
			key = r.refundID
		}
	}
	b := binary.AppendVarint(s.begin(r.refund, key), int64(r.amount))
	b = text(b, state)
	b = binary.AppendVarint(b, int64(r.line))
	b = binary.AppendVarint(b, r.at.UnixMilli())
	b = binary.AppendVarint(b, int64(r.foreign))
	b = binary.AppendVarint(b, int64(r.coupon))
	sub := r.subMch
	if len(sub) == 1 && sub[0] == '0' { // a bill's word for none
		sub = nil
	}
	for _, v := range [...][]byte{r.outTradeNo, r.transactionID, r.appID, r.mchID, sub, r.tradeType, r.currency,
		r.refundID} {
		b = text(b, v)
	}
	return s.end(key, b)
}

// addOurs writes a payment or refund of ours.
func (s *spill) addOurs(refund bool, key, state []byte, amount, at int64) error {
	b := binary.AppendVarint(s.begin(refund, key), amount)
	b = text(b, state)
	b = binary.AppendVarint(b, 0)
	return s.end(key, binary.AppendVarint(b, at))
}

// whole is the content of a partition, once the writing is over, in buf if that is large enough.
func (s *spill) whole(i int, buf []byte) ([]byte, error) {
	if err := s.out[i].Flush(); err != nil {
		return nil, fmt.Errorf("partition on disk: %w", err)
	}
	size, err := s.files[i].Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("partition on disk: %w", err)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size+size/8) // the next one may be a little larger
	}
	buf = buf[:size]
	if _, err := s.files[i].ReadAt(buf, 0); err != nil { // of an empty one it reads nothing
		return nil, fmt.Errorf("partition on disk: %w", err)
	}
	return buf, nil
}

// eachRecord gives the records of a partition and where they begin. One that is longer than what
// is left is of a file that somebody else has changed, and ends the run.
func eachRecord(partition []byte, do func(at int, r record)) error {
	for at := 0; at < len(partition); {
		size, n := binary.Uvarint(partition[at:])
		if n <= 0 || size == 0 || size > uint64(len(partition)-at-n) { //nolint:gosec // Uvarint read n bytes of it
			return fmt.Errorf("partition on disk is damaged: %w", io.ErrUnexpectedEOF)
		}
		end := at + n + int(size) //nolint:gosec // at most len(partition)
		do(at, partition[at+n:end])
		at = end
	}
	return nil
}

// recordAt is the record that begins at a place that eachRecord gave.
func recordAt(partition []byte, at int) record {
	size, n := binary.Uvarint(partition[at:])
	return partition[at+n : at+n+int(size)] //nolint:gosec // eachRecord has seen it
}

// record is a row as begin and end wrote it, in a buffer that is used again: what is kept of it is its item.
type record []byte

func (r record) isRefund() bool { return r[0] == 1 }

// key is the number by which it is matched.
func (r record) key() []byte {
	rest := reader(r[1:])
	return rest.text()
}

// facts takes a record apart; bill says of which side it is. rest is what the bill says besides.
func (r record) facts(bill bool) (f facts, state, rest []byte) {
	in := reader(r[1:])
	_ = in.text()
	f.refund, f.amount, state = r.isRefund(), payment.Fen(in.number()), in.text()
	f.line, f.at = in.number(), in.number()
	if bill {
		f.foreign, rest = payment.Fen(in.number()), in
	}
	return f, state, rest
}

// item is what is kept of a record.
func (r record) item(bill bool) item {
	f, state, rest := r.facts(bill)
	return item{facts: f, key: string(r.key()), state: string(state), rest: bytes.Clone(rest)}
}

// said is what the bill says of a row; nothing of a row of ours.
func (it *item) said() (f Facts) {
	if len(it.rest) == 0 {
		return f
	}
	in := reader(it.rest)
	f.Foreign, f.Coupon = it.foreign, payment.Fen(in.number())
	for _, into := range []*string{&f.OutTradeNo, &f.TransactionID, &f.AppID, &f.MchID, &f.SubMchID, &f.TradeType,
		&f.Currency, &f.RefundID} {
		*into = string(in.text())
	}
	f.At = time.UnixMilli(it.at).UTC()
	if it.refund && it.key != f.RefundID {
		f.OutRefundNo = it.key
	}
	return f
}

// reader takes apart what text and the varints of encoding/binary have written: by this
// process, so that nothing is checked.
type reader []byte

func (r *reader) number() int64 {
	n, used := binary.Varint(*r)
	*r = (*r)[used:]
	return n
}

func (r *reader) text() []byte {
	n, used := binary.Uvarint(*r)
	end := used + int(n) //nolint:gosec // the length of a text of this process
	v := (*r)[used:end]
	*r = (*r)[end:]
	return v
}

package reconcile

import (
	"bufio"
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
	// readBuffer is the read buffer of the one partition that is read.
	readBuffer = 256 << 10
)

// item is a payment or refund of one side, as it is matched. Of the bill, it has all
// that a difference says of it; of ours, only key, amount, state and time.
type item struct {
	refund bool
	// key is the transaction id of a payment, the out_refund_no of a refund, and the refund
	// id of one that has none.
	key    string
	amount payment.Fen
	state  string
	line   int64 // of the bill; 0 of ours
	at     int64 // milliseconds
	facts  Facts // of the bill
	again  bool  // of the bill: an earlier row has its number
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
// amount, state, line, time, and, of the bill, coupon, foreign amount and eight texts. Numbers
// are varints, texts have their length before them. Only the process that wrote
// a file reads it, so the form may change at any time.
type spill struct {
	// seed is of the run, so that both sides put a key into the same partition; a new
	// one for every run, so that nobody can make a bill whose rows all fall into one.
	seed  maphash.Seed
	files []*os.File
	out   []*bufio.Writer
	// buf is the record in the making, used again for each.
	buf []byte
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

// add writes one record whose first text is its key. rest appends everything after it
// to b and gives the longer b, as append does.
func (s *spill) add(refund bool, key []byte, rest func(b []byte) []byte) error {
	kind := byte(0)
	if refund {
		kind = 1
	}
	b := append(s.buf[:0], kind)
	b = text(b, key)
	b = rest(b)
	s.buf = b
	w := s.out[maphash.Bytes(s.seed, key)%uint64(len(s.out))]
	var size [binary.MaxVarintLen64]byte
	if _, err := w.Write(size[:binary.PutUvarint(size[:], uint64(len(b)))]); err != nil {
		return fmt.Errorf("partition on disk: %w", err)
	}
	if _, err := w.Write(b); err != nil {
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
	return s.add(r.refund, key, func(b []byte) []byte {
		b = binary.AppendVarint(b, int64(r.amount))
		b = text(b, state)
		b = binary.AppendVarint(b, int64(r.line))
		b = binary.AppendVarint(b, r.at.UnixMilli())
		b = binary.AppendVarint(b, int64(r.coupon))
		b = binary.AppendVarint(b, int64(r.foreign))
		sub := r.subMch
		if len(sub) == 1 && sub[0] == '0' { // a bill's word for none
			sub = nil
		}
		for _, v := range [][]byte{r.outTradeNo, r.transactionID, r.appID, r.mchID, sub, r.tradeType, r.currency,
			r.refundID} {
			b = text(b, v)
		}
		return b
	})
}

// addOurs writes a payment or refund of ours.
func (s *spill) addOurs(refund bool, key, state []byte, amount, at int64) error {
	return s.add(refund, key, func(b []byte) []byte {
		b = binary.AppendVarint(b, amount)
		b = text(b, state)
		b = binary.AppendVarint(b, 0)
		return binary.AppendVarint(b, at)
	})
}

// each reads a partition back, once the writing is over. The item's bill facts are
// decoded by bill alone. A record longer than any line can make is a file that somebody
// else has changed, and ends the run instead of taking all memory.
func (s *spill) each(i int, bill bool, do func(item) error) error {
	if err := s.out[i].Flush(); err != nil {
		return fmt.Errorf("partition on disk: %w", err)
	}
	if _, err := s.files[i].Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("partition on disk: %w", err)
	}
	in := bufio.NewReaderSize(s.files[i], readBuffer)
	var record []byte
	for {
		size, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil || size > 4*maxLine {
			return fmt.Errorf("partition on disk is damaged: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		if uint64(cap(record)) < size {
			record = make([]byte, size)
		}
		record = record[:size]
		if _, err := io.ReadFull(in, record); err != nil {
			return fmt.Errorf("partition on disk is damaged: %w", err)
		}
		if err := do(decodeItem(record, bill)); err != nil {
			return err
		}
	}
}

// decodeItem reads a record that this process wrote.
func decodeItem(b []byte, bill bool) item {
	number := func() int64 {
		n, used := binary.Varint(b)
		b = b[used:]
		return n
	}
	word := func() string {
		n, used := binary.Uvarint(b)
		end := used + int(n) //nolint:gosec // the length of a string of this process
		v := string(b[used:end])
		b = b[end:]
		return v
	}
	it := item{refund: b[0] == 1}
	b = b[1:]
	it.key, it.amount, it.state, it.line, it.at = word(), payment.Fen(number()), word(), number(), number()
	if !bill {
		return it
	}
	f := &it.facts
	f.Coupon, f.Foreign = payment.Fen(number()), payment.Fen(number())
	f.OutTradeNo, f.TransactionID, f.AppID, f.MchID, f.SubMchID = word(), word(), word(), word(), word()
	f.TradeType, f.Currency, f.RefundID = word(), word(), word()
	f.At = time.UnixMilli(it.at).UTC()
	if it.refund && it.key != f.RefundID {
		f.OutRefundNo = it.key
	}
	return it
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// billDate is the day of the bill, in Beijing as all of WeChat Pay's days.
const billDate = "2026-11-20"

var billFrom = time.Date(2026, 11, 20, 0, 0, 0, 0, time.FixedZone("Beijing", 8*60*60))

const (
	// seededEvery is how many rows there are for a difference of each kind: with twelve
	// kinds a thousandth of the rows differs.
	seededEvery = 10_000
	// refundEvery is how many payments there are for a refund.
	refundEvery = 50
	// refundFen is of the payment's 100 and more; maxOverFen: amounts are 1 yuan and up
	// to so much more.
	refundFen  = 50      // of the payment's 100 and more
	maxOverFen = 100_000 // amounts are 1 yuan and up to so much more
	// otherDay is how much earlier ours is of a row that is in the bill of a distant day.
	otherDay = 72 * time.Hour
)

// billDay is a day of payments and refunds, and a bill that differs here and there.
// Payment i has number, amount and time by i alone: nothing has to be kept.
type billDay struct {
	rows int
	// seeded has every difference as "KIND ref", the form in which judge finds it.
	seeded map[string]bool
	// odd is the difference of a payment by its number, oddRefunds of its refund by the
	// payment's number.
	odd        map[int]reconcile.Kind
	oddRefunds map[int]reconcile.Kind
}

// newBillDay draws the differences, as many of every kind, each in a payment of its own;
// the same seed draws the same ones.
func newBillDay(rows int, seed uint64) *billDay {
	d := &billDay{rows: rows, seeded: map[string]bool{},
		odd: map[int]reconcile.Kind{}, oddRefunds: map[int]reconcile.Kind{}}
	rnd := rand.New(rand.NewPCG(seed, 3))
	each := max(rows/seededEvery, 1)
	for _, kind := range kindsOfOneBill() {
		for range each {
			i := rnd.IntN(rows)
			if strings.Contains(string(kind), "REFUND") {
				i -= i % refundEvery
				for d.oddRefunds[i] != "" {
					i = rnd.IntN(rows/refundEvery) * refundEvery
				}
				d.oddRefunds[i] = kind
				d.seeded[string(kind)+" "+refundNoOf(i)] = true
				continue
			}
			for d.odd[i] != "" {
				i = rnd.IntN(rows)
			}
			d.odd[i] = kind
			d.seeded[string(kind)+" "+transactionOf(i)] = true
		}
	}
	return d
}

// kindsOfOneBill are the kinds of differences that one bill can show: for the others a
// number has to stand in two.
func kindsOfOneBill() []reconcile.Kind {
	return slices.DeleteFunc(reconcile.Kinds(), func(k reconcile.Kind) bool {
		return k == reconcile.TwoBills || k == reconcile.RefundTwoBills
	})
}

// The numbers of payment i, of the length of real ones.
func transactionOf(i int) string { return fmt.Sprintf("42000012342026112%011d", i) }
func orderNoOf(i int) string     { return fmt.Sprintf("01JD4Z%020d", i) }
func refundNoOf(i int) string    { return orderNoOf(i) + "-R01" }
func fenOf(i int) int64          { return int64(100 + i%maxOverFen) }

// at spreads the payments over the day, an hour away from midnight: no bill of the
// day before or after could explain a difference.
func (d *billDay) at(i int) time.Time {
	return billFrom.Add(time.Hour + time.Duration(i)*(22*time.Hour/time.Duration(d.rows))).Truncate(time.Second)
}

// fill writes our side: rows of payments and refunds, without orders, which reconciling
// does not read.
func (d *billDay) fill(ctx context.Context, db *sqldb.DB) error {
	const page = 5_000 // payments of one transaction
	for from := 0; from < d.rows; from += page {
		var pays, backs []any
		for i := from; i < min(from+page, d.rows); i++ {
			at, paid := d.at(i).UnixMilli(), d.at(i).UnixMilli()
			if d.odd[i] == reconcile.OtherDay {
				paid -= otherDay.Milliseconds()
			}
			if d.odd[i] != reconcile.BillOnly {
				pays = append(pays, transactionOf(i), orderNoOf(i), orderNoOf(i)+"-01", fenOf(i), fenOf(i), "CNY",
					"NATIVE", bench.AppID, bench.MchID, paid, paid, "notification", "applied", "")
			}
			if d.oddRefunds[i] == reconcile.RefundOtherDay {
				at -= otherDay.Milliseconds()
			}
			if i%refundEvery == 0 && d.oddRefunds[i] != reconcile.RefundBillOnly {
				backs = append(backs, refundNoOf(i), orderNoOf(i), transactionOf(i), refundFen, "success", "aftersale",
					at, at, at)
			}
		}
		err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return errors.Join(tx.InsertRows(ctx, `INSERT INTO payments
  (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, appid, mchid,
   paid_at, received_at, source, outcome, reason)
VALUES`, 14, pays), tx.InsertRows(ctx, `INSERT INTO refunds
  (out_refund_no, order_no, transaction_id, amount_fen, state, reason, created_at, accepted_at, updated_at)
VALUES`, 9, backs))
		})
		if err != nil {
			return err
		}
		bench.Progress.Show("filling %d of %d", from, d.rows)
	}
	return nil
}

// The head of a trade bill and of its summary, as WeChat Pay writes them.
const (
	// The columns, in WeChat Pay's order, begin with a byte order mark, as its files do.
	billHead = "\ufeff交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包," +
		"手续费,费率,订单金额,申请退款金额,费率备注\r\n"
	summaryHead = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n"
)

// bill is a bill while it is written, in the format that WeChat Pay documents for trade
// bills: a head, rows, a head of the summary, the summary.
type bill struct {
	d                *billDay
	w                io.Writer
	rows, paid, back int64 // of the summary; the sums in fen
}

// pay writes a payment. Bills are in yuan, with a point; fen are what we keep.
func (b *bill) pay(i int, fen int64, state string) {
	b.rows, b.paid = b.rows+1, b.paid+fen
	yuan := payment.Fen(fen).String()
	fmt.Fprintf(b.w, "`%s,`%s,`%s,`0,`,`%s,`%s-01,`oUpF8uMuAJO_M2pxb1Q9zNjWeS6o,`NATIVE,`%s,`OTHERS,`CNY,"+
		"`%s,`0.00,`0,`0,`0.00,`0.00,`,`,`Blue mug, large,`shop-7,`0.00000,`0.60%%,`%s,`0.00,`\r\n",
		b.d.at(i).Format(time.DateTime), bench.AppID, bench.MchID, transactionOf(i), orderNoOf(i),
		state, yuan, yuan)
}

// refund writes the refund of a payment. Its row has the payment's numbers too.
func (b *bill) refund(i int, fen int64, state string) {
	b.rows, b.back = b.rows+1, b.back+fen
	yuan := payment.Fen(fen).String()
	fmt.Fprintf(b.w, "`%s,`%s,`%s,`0,`,`%s,`%s-01,`o,`NATIVE,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`5030%024d,"+
		"`%s,`%s,`0.00,`ORIGINAL,`%s,`mug,`shop-7,`0.00000,`0.60%%,`0.00,`%s,`\r\n",
		b.d.at(i).Format(time.DateTime), bench.AppID, bench.MchID, transactionOf(i), orderNoOf(i), i, refundNoOf(i),
		yuan, state, yuan)
}

// write writes the bill, in an order that has nothing to do with ours: matching must not
// depend on it.
func (d *billDay) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprint(w, billHead)
	b := &bill{d: d, w: w}
	const stride = 7_919 // prime: every number once, in no order
	for s, i := 0, 0; s < d.rows; s, i = s+1, (i+stride)%d.rows {
		b.payment(i)
		if i%refundEvery == 0 {
			b.refundOf(i)
		}
	}
	fmt.Fprintf(w, summaryHead+"`%d,`%s,`%s,`0.00,`0.00000,`%s,`%s\r\n",
		b.rows, payment.Fen(b.paid), payment.Fen(b.back), payment.Fen(b.paid), payment.Fen(b.back))
	return errors.Join(w.Flush(), f.Close())
}

// payment writes payment i as its difference wants it: no row, another amount or state,
// or two rows.
func (b *bill) payment(i int) {
	switch b.d.odd[i] {
	// No row: only we have it.
	case reconcile.LocalOnly:
	case reconcile.AmountMismatch:
		b.pay(i, fenOf(i)+1, "SUCCESS")
	case reconcile.StateMismatch:
		b.pay(i, fenOf(i), "REVOKED")
	case reconcile.Duplicate:
		b.pay(i, fenOf(i), "SUCCESS")
		b.pay(i, fenOf(i), "SUCCESS")
	case "", reconcile.BillOnly, reconcile.RefundBillOnly, reconcile.RefundLocalOnly, reconcile.RefundAmountMismatch,
		reconcile.RefundStateMismatch, reconcile.DuplicateRefund, reconcile.OtherDay, reconcile.RefundOtherDay,
		reconcile.TwoBills, reconcile.RefundTwoBills:
		b.pay(i, fenOf(i), "SUCCESS")
	}
}

// refundOf writes the refund of payment i as its difference wants it, likewise.
func (b *bill) refundOf(i int) {
	switch b.d.oddRefunds[i] {
	// No row: only we have it.
	case reconcile.RefundLocalOnly:
	case reconcile.RefundAmountMismatch:
		b.refund(i, refundFen+1, "SUCCESS")
	case reconcile.RefundStateMismatch:
		b.refund(i, refundFen, "FAIL")
	case reconcile.DuplicateRefund:
		b.refund(i, refundFen, "SUCCESS")
		b.refund(i, refundFen, "SUCCESS")
	case "", reconcile.RefundBillOnly, reconcile.BillOnly, reconcile.LocalOnly, reconcile.AmountMismatch,
		reconcile.StateMismatch, reconcile.Duplicate, reconcile.OtherDay, reconcile.RefundOtherDay,
		reconcile.TwoBills, reconcile.RefundTwoBills:
		b.refund(i, refundFen, "SUCCESS")
	}
}

// judge compares what was found with what was seeded: found once is found, anything else
// was invented.
func (d *billDay) judge(ctx context.Context, r *reconcile.Reconciler) (found, invented int, err error) {
	const page = 500 // the most that Differences gives at once
	seen := map[string]bool{}
	for cursor := ""; ; {
		differences, err := r.Differences(ctx, reconcile.DifferenceFilter{Date: billDate, Status: reconcile.StatusOpen,
			Cursor: cursor, Limit: page})
		if err != nil {
			return found, invented, err
		}
		for _, x := range differences {
			cursor = x.ID
			name := string(x.Kind) + " " + x.Ref
			if d.seeded[name] && !seen[name] {
				seen[name] = true
				found++
			} else {
				invented++
			}
		}
		if len(differences) < page {
			return found, invented, nil
		}
	}
}

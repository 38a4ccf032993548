package payment

import "errors"

// BillType names a bill of WeChat's.
type BillType string

// The bills that orderd reads: three trade bills and the fund flow of the
// basic account.
const (
	BillAll      BillType = "ALL"      // payments and refunds
	BillSuccess  BillType = "SUCCESS"  // payments
	BillRefund   BillType = "REFUND"   // refunds
	BillFundFlow BillType = "FUNDFLOW" // movements of the account (fundflowbill, account_type BASIC)
)

// Bill is a bill that was fetched whole and whose hash fits.
type Bill struct {
	Date string // YYYY-MM-DD, a day of Beijing
	Type BillType
	SHA1 string // of the uncompressed file, 40 lower-case hex digits, as WeChat announced it
	Size int64  // bytes, uncompressed
}

// Bounds of a bill, whoever brings it. They keep a broken or hostile file from
// filling the disk.
const (
	// MaxBillBytes bounds a bill, uncompressed. A row has some 330 bytes: this is
	// thirteen million payments on one day.
	MaxBillBytes = 4 << 30
	// MaxInflation bounds how many bytes a compressed byte may become, beyond the
	// first InflationSlack bytes. Rows of a bill compress to a tenth of their size,
	// zeros to a thousandth, so 200 is far from both.
	MaxInflation   = 200
	InflationSlack = 16 << 20
)

// Why there is no bill. Everything else is a *GatewayError.
var (
	// ErrNoBill: NO_STATEMENT_EXIST. Nothing happened on that day.
	ErrNoBill = errors.New("WeChat Pay has no bill of that day: nothing happened on it")
	// ErrBillNotReady: STATEMENT_CREATING. Ask again after 10:00 in Beijing.
	ErrBillNotReady = errors.New("WeChat Pay is still making the bill: ask again after 10:00 in Beijing")
	// ErrBillDamaged: what came is not the file that WeChat announced: cut, of
	// another hash, not gzip, or larger than a bill can be.
	ErrBillDamaged = errors.New("the bill that came is not the one that WeChat Pay announced")
)

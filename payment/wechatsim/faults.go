package wechatsim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxFaults bounds the list that every request walks, and the outcomes of refunds
	// that wait for their refunds.
	maxFaults = 1_000
	// maxFaultDelay bounds how long a fault keeps a request's goroutine; no client
	// waits longer.
	maxFaultDelay = time.Minute
)

// Kinds of faults.
const (
	// FaultDelay: wait delay_ms, then handle the request.
	FaultDelay = "delay"
	// FaultTimeout: handle the request, then say nothing until the client gives up
	// (a minute at most).
	FaultTimeout = "timeout"
	// FaultCutBefore: cut the connection, nothing happens; a callback is not delivered.
	FaultCutBefore = "cut_before"
	// FaultCutAfter: handle the request, cut the connection; a callback is delivered,
	// its answer lost.
	FaultCutAfter = "cut_after"
	// FaultStatus: answer status and code, nothing happens; take a callback's answer
	// for that status. The code CodeNone is an error without a code.
	FaultStatus = "status"
	CodeNone    = "_"

	FaultBadSignature  = "bad_signature"  // sign another text
	FaultNoSignature   = "no_signature"   // leave the signature headers out
	FaultOldTimestamp  = "old_timestamp"  // sign rightly, with a time-stamp an hour old
	FaultUnknownSerial = "unknown_serial" // sign with a key that nobody has heard of
	FaultPaidFirst     = "paid_first"     // close, query: the buyer pays in the instant before
	FaultPaying        = "paying"         // close: the password was given just before, the payment takes delay_ms
	FaultNotClosed     = "not_closed"     // close: answer 204 and leave the trade open
	FaultDrop          = "drop"           // notify: the callback is lost with all its repeats
)

// Kinds of faults of a bill: they take effect on the file of the next application.
const (
	FaultWrongHash     = "wrong_hash"      // the hash of another file
	FaultTruncated     = "truncated"       // the file ends in the middle
	FaultBig           = "big"             // more than 12 MiB, all of it right
	FaultLostColumns   = "missing_columns" // without the last three columns: no layout of WeChat's
	FaultEarlyColumns  = "early_columns"   // ALL: the early layout, with 总金额 and 企业红包金额
	FaultCommas        = "commas"          // commas, quotes and back-ticks in the free text
	FaultDuplicateRow  = "duplicate_row"   // one row twice; the summary follows
	FaultMissingRow    = "missing_row"     // one row less; the summary follows
	FaultOneFenOff     = "one_fen_off"     // one row a fen more; the summary follows
	FaultExtraRow      = "extra_row"       // a payment under a number that is not the client's
	FaultOtherBusiness = "other_business"  // two rows more, of a payment code that was paid and reversed
	FaultOtherAddress  = "other_address"   // the download's other host and path
	FaultEmptyDay      = "empty_day"       // NO_STATEMENT_EXIST
	FaultNotReady      = "not_ready"       // STATEMENT_CREATING
	FaultHTML          = "html"            // a web page instead of the file
	FaultBomb          = "gzip_bomb"       // gigabytes of zeros, packed
	FaultOtherMerchant = "other_merchant"  // another merchant's number in every row
	FaultOtherDay      = "other_day"       // the rows are of the day before
	FaultBadSummary    = "bad_summary"     // the summary does not fit the rows
)

// billKinds lists the faults of a bill's file.
func billKinds() []string {
	return []string{FaultWrongHash, FaultTruncated, FaultBig, FaultLostColumns, FaultEarlyColumns, FaultCommas,
		FaultDuplicateRow, FaultMissingRow, FaultOneFenOff, FaultExtraRow, FaultEmptyDay, FaultNotReady, FaultHTML,
		FaultBomb, FaultOtherMerchant, FaultOtherDay, FaultBadSummary, FaultOtherBusiness, FaultOtherAddress}
}

// Fault is one thing to do wrong, for requests of one endpoint that name one trade (or
// any). All faults that match a request apply to it together. Those with a count are
// used up in the order in which they were armed. The JSON is that of POST
// /control/faults.
type Fault struct {
	Endpoint   string  `json:"endpoint"`           // prepay, query, close, refund, refund_query, bill, echo, notify
	OutTradeNo string  `json:"out_trade_no"`       // "*" or empty: every trade; a refund's number is matched too
	Kind       string  `json:"kind"`               // see the Fault… constants
	DelayMS    int     `json:"delay_ms,omitempty"` // delay, paying (required), timeout (0: until the client gives up)
	Status     int     `json:"status,omitempty"`   // status (required): 201 to 599, no 204; 502 and 503 come as HTML
	Code       string  `json:"code,omitempty"`     // status: WeChat's code; empty: the usual one of the status
	Count      int     `json:"count,omitempty"`    // how many times; 0: until cleared
	Percent    float64 `json:"percent,omitempty"`  // share of the matching requests; 0: all
}

// faultEndpoints lists where faults can be armed. certificates and the control surface have
// none.
func faultEndpoints() []string {
	return []string{"prepay", "query", "close", "refund", "refund_query", "bill", "echo", "notify", shippingEndpoint}
}

// faultKinds lists what can be done to an endpoint. A callback has no timeout: who
// waits there is the simulator, and it gives up by itself.
func faultKinds(endpoint string) []string {
	common := []string{FaultDelay, FaultCutBefore, FaultCutAfter, FaultStatus, FaultBadSignature, FaultNoSignature,
		FaultOldTimestamp, FaultUnknownSerial}
	switch endpoint {
	case shippingEndpoint: // nothing there is signed; the code of a status is its errcode
		return []string{FaultDelay, FaultCutBefore, FaultCutAfter, FaultStatus, FaultTimeout}
	case "notify":
		return append(common, FaultDrop)
	case "bill":
		return append(append(common, FaultTimeout), billKinds()...)
	case "close":
		return append(common, FaultTimeout, FaultPaidFirst, FaultPaying, FaultNotClosed)
	case "query":
		return append(common, FaultTimeout, FaultPaidFirst)
	}
	return append(common, FaultTimeout)
}

// check refuses a fault that could not do anything; the error says what is allowed.
func (f Fault) check() error {
	if !slices.Contains(faultEndpoints(), f.Endpoint) {
		return fmt.Errorf("fault: unknown endpoint %q, one of %s is needed", f.Endpoint,
			strings.Join(faultEndpoints(), ", "))
	}
	if kinds := faultKinds(f.Endpoint); !slices.Contains(kinds, f.Kind) {
		return fmt.Errorf("fault: %s cannot do %q, one of %s is needed", f.Endpoint, f.Kind, strings.Join(kinds, ", "))
	}
	delay := time.Duration(f.DelayMS) * time.Millisecond
	if delay < 0 || delay > maxFaultDelay || ((f.Kind == FaultDelay || f.Kind == FaultPaying) && delay == 0) {
		return fmt.Errorf("fault %s=%s: a delay above 0 and up to %v is needed", f.Endpoint, f.Kind, maxFaultDelay)
	}
	// 200 and 204 would be success without its content: of that there are faults of their own.
	if f.Kind == FaultStatus && (f.Status <= http.StatusOK || f.Status == http.StatusNoContent || f.Status > 599) {
		return fmt.Errorf("fault %s=status: status 201 to 599 but 204 is needed, not %d", f.Endpoint, f.Status)
	}
	if f.Count < 0 || f.Percent < 0 || f.Percent > 100 {
		return fmt.Errorf("fault %s=%s: count cannot be negative, percent is 0 to 100", f.Endpoint, f.Kind)
	}
	return nil
}

// ParseFault reads a fault as a command line gives it:
//
//	ENDPOINT=KIND[:PART]...
//
// where the parts, in any order, are a duration (250ms, 3s: for delay, paying and
// timeout), a status (429: for status), a WeChat code in capitals
// (FREQUENCY_LIMITED: for status), a share (10%), a count (x3) and a number
// of a trade (@ORDER1-01). Examples: close=timeout:10%, notify=drop:5%,
// prepay=delay:300ms:x2, close=status:429:FREQUENCY_LIMITED:20%.
func ParseFault(text string) (Fault, error) {
	endpoint, rest, ok := strings.Cut(text, "=")
	if !ok {
		return Fault{}, fmt.Errorf("fault %q: ENDPOINT=KIND[:PART]... is needed, such as close=timeout:10%%", text)
	}
	parts := strings.Split(rest, ":")
	f := Fault{Endpoint: endpoint, Kind: parts[0], OutTradeNo: "*"}
	for _, part := range parts[1:] {
		if err := f.parsePart(part); err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w", text, err)
		}
	}
	if err := f.check(); err != nil {
		return Fault{}, fmt.Errorf("%q: %w", text, err)
	}
	return f, nil
}

// parsePart reads one part of a fault; what it means depends on its form and on the kind.
func (f *Fault) parsePart(part string) error {
	if share, ok := strings.CutSuffix(part, "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p > 0 && p <= 100) {
			return fmt.Errorf("%q is not a share above 0%% and up to 100%%", part)
		}
		f.Percent = p
		return nil
	}
	if no, ok := strings.CutPrefix(part, "@"); ok && no != "" {
		f.OutTradeNo = no
		return nil
	}
	if count, ok := strings.CutPrefix(part, "x"); ok {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a count such as x3", part)
		}
		f.Count = n
		return nil
	}
	if n, err := strconv.Atoi(part); err == nil && f.Kind == FaultStatus {
		f.Status = n
		return nil
	}
	timed := f.Kind == FaultDelay || f.Kind == FaultTimeout || f.Kind == FaultPaying
	if d, err := time.ParseDuration(part); err == nil && timed {
		f.DelayMS = int(d.Milliseconds())
		return nil
	}
	if part != "" && strings.Trim(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == "" && f.Kind == FaultStatus {
		f.Code = part
		return nil
	}
	return fmt.Errorf("part %q does not fit %s: a share (10%%), a count (x3), a trade (@NUMBER), "+
		"for delay and timeout a duration (250ms), for status a status (429) and a code (FREQUENCY_LIMITED)", part,
		f.Kind)
}

// AddFault arms a fault. The error says what is allowed.
func (s *Sim) AddFault(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if len(s.faults.list) >= maxFaults {
		return fmt.Errorf("fault: %d are armed already, clear them first", maxFaults)
	}
	s.faults.list = append(s.faults.list, f)
	s.log.add(Entry{Kind: KindControl, Event: "fault_added", Endpoint: f.Endpoint, OutTradeNo: f.OutTradeNo,
		Faults: []string{f.Kind}})
	return nil
}

// ClearFaults disarms all faults.
func (s *Sim) ClearFaults() {
	s.faults.mu.Lock()
	s.faults.list = nil
	s.faults.mu.Unlock()
	s.log.add(Entry{Kind: KindControl, Event: "faults_cleared"})
}

// Faults returns what is armed, with the counts that are left.
func (s *Sim) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return slices.Clone(s.faults.list)
}

// faults are the armed ones, in the order in which they were added.
type faults struct {
	mu   sync.Mutex
	list []Fault
}

// plan is what goes wrong with one request or one delivery. Its zero value is that
// nothing does.
type plan struct {
	names []string // for the log
	// delay is waited before anything is handled.
	delay time.Duration
	// cutBefore and cutAfter are the two sides of the effect: the merchant sees the
	// same broken connection and cannot know which it was.
	cutBefore bool
	cutAfter  bool
	hold      time.Duration // answer nothing for so long, then cut
	// status and code are answered instead of the truth, and nothing is done.
	status int
	code   string
	// seal is how the answer or callback is signed; sealGood is 0.
	seal sealMode
	// paidFirst, paying, notClosed and drop: see FaultPaidFirst, FaultPaying,
	// FaultNotClosed, FaultDrop.
	paidFirst bool
	paying    time.Duration
	notClosed bool
	drop      bool
	bill      []string // what is wrong with the bill
}

// takeFaults uses up one count of each armed fault that matches, under one lock: of two
// requests at once exactly one meets a fault that was armed for one time.
func (s *Sim) takeFaults(endpoint, outTradeNo, outRefundNo string) plan {
	var p plan
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	kept := s.faults.list[:0]
	for _, f := range s.faults.list {
		if f.matches(endpoint, outTradeNo, outRefundNo) &&
			(f.Percent == 0 || s.roll("fault", outTradeNo, f.Percent/100)) {
			p.apply(f)
			if f.Count == 1 {
				continue
			}
			f.Count = max(f.Count-1, 0)
		}
		kept = append(kept, f)
	}
	s.faults.list = kept
	return p
}

// matches: a number is a trade's or a refund's. What is wrong with a bill is not wrong
// with its download, so there only the faults of the wire match.
func (f Fault) matches(endpoint, outTradeNo, outRefundNo string) bool {
	if endpoint == endpointFile && f.Endpoint == "bill" && !slices.Contains(billKinds(), f.Kind) {
		endpoint = "bill"
	}
	if f.OutTradeNo == outRefundNo && outRefundNo != "" {
		return f.Endpoint == endpoint
	}
	return f.Endpoint == endpoint && (f.OutTradeNo == "*" || f.OutTradeNo == "" || f.OutTradeNo == outTradeNo)
}

// apply adds one armed fault to what goes wrong. Delays add up; of two statuses or signatures
// the later counts.
func (p *plan) apply(f Fault) {
	p.names = append(p.names, f.Kind)
	delay := time.Duration(f.DelayMS) * time.Millisecond
	switch f.Kind {
	case FaultDelay:
		p.delay += delay
	case FaultTimeout:
		if p.hold = delay; delay == 0 {
			p.hold = maxFaultDelay
		}
	case FaultCutBefore:
		p.cutBefore = true
	case FaultCutAfter:
		p.cutAfter = true
	case FaultStatus:
		p.status, p.code = f.Status, f.Code
	case FaultBadSignature:
		p.seal = sealBad
	case FaultNoSignature:
		p.seal = sealNone
	case FaultOldTimestamp:
		p.seal = sealOld
	case FaultUnknownSerial:
		p.seal = sealUnknown
	case FaultPaidFirst:
		p.paidFirst = true
	case FaultPaying:
		p.paying = delay
	case FaultNotClosed:
		p.notClosed = true
	case FaultDrop:
		p.drop = true
	default:
		p.bill = append(p.bill, f.Kind)
	}
}

package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/payment"
	"orderd/payment/wechatsim"
)

// walk is how a row of the table of answers is asked for. Every code of the row is tried at each of the statuses, in
// both spellings, of every call of the row.
type walk struct {
	statuses []int    // the simulator answers so, and does nothing
	codes    []string // of a row that has any or none
	// spoilt are faults of the signature, with each of the statuses, or with the usual answer.
	spoilt []string
	// usual: nothing is armed, and the simulator answers as it does.
	usual bool
	// state is what is done before a usual answer that needs more than its call; no is the number of the trade.
	state func(w *walker, no string)
}

var spoilers = []string{wechatsim.FaultNoSignature, wechatsim.FaultBadSignature, wechatsim.FaultOldTimestamp,
	wechatsim.FaultUnknownSerial}

// walks has every row of docs/wechat.md's table by its first columns, call, status and codes.
var walks = map[string]walk{
	"any 401 any":                            {statuses: []int{401}},
	"any 429 any":                            {statuses: []int{429}, spoilt: []string{"", wechatsim.FaultNoSignature}},
	"any 100–599 any":                        {statuses: []int{0, 400, 404, 500, 503}, spoilt: spoilers},
	"prepay 200 any":                         {usual: true},
	"query 200 any":                          {usual: true},
	"refund 200 any":                         {usual: true},
	"refund_query 200 any":                   {usual: true},
	"abnormal_refund 200 any":                {usual: true},
	"bill 200 any":                           {usual: true},
	"echo 200 any":                           {usual: true},
	"close 204 any":                          {usual: true},
	"any 202 any":                            {statuses: []int{202}},
	"any 100–399 any":                        {statuses: []int{201, 203, 302}, codes: []string{"", "ORDER_PAID"}},
	"close 400–599 ORDERPAID":                {statuses: []int{400, 403, 500}, usual: true, state: paid},
	"any 400–599 USERPAYING":                 {statuses: []int{400, 500}},
	"any 400–599 FREQUENCYLIMITED":           {statuses: []int{400, 403, 500}},
	"any 400–599 SYSTEMERROR":                {statuses: []int{400, 500}},
	"prepay 400–599 OPENIDMISMATCH":          {statuses: []int{400, 500}},
	"any 500–599 any":                        {statuses: []int{500, 504}, codes: []string{"PARAM_ERROR", "NO_AUTH"}},
	"close 400–499 ORDERCLOSED":              {statuses: []int{400, 403}},
	"close 404 ORDERNOTEXIST":                {statuses: []int{404}},
	"query 404 ORDERNOTEXIST":                {statuses: []int{404}},
	"close 400–499 TRADEERROR":               {statuses: []int{403}},
	"close 400–499 ORDERNOTEXIST":            {statuses: []int{400, 403}},
	"query 400–499 ORDERNOTEXIST":            {statuses: []int{400}},
	"refund_query 404 RESOURCENOTEXISTS":     {statuses: []int{404}},
	"refund_query 400–499 RESOURCENOTEXISTS": {statuses: []int{400}},
	"refund 400–499 NOTENOUGH":               {statuses: []int{403}, usual: true, state: broke},
	"bill 400–499 NOSTATEMENTEXIST":          {statuses: []int{400}},
	"bill 400–499 STATEMENTCREATING":         {statuses: []int{400}},
	"any 400–499 NOAUTH":                     {statuses: []int{400, 403, 404}},
	"prepay 400–499 ORDERPAID":               {statuses: []int{400}, usual: true, state: paid},
	"prepay 400–499 ORDERCLOSED":             {statuses: []int{400}, usual: true, state: closed},
	"prepay 400–499 INVALIDREQUEST":          {statuses: []int{400}, usual: true, state: burned},
	"prepay 400–499 OUTTRADENOUSED":          {statuses: []int{403}},
	"refund 400–499 USERACCOUNTABNORMAL":     {statuses: []int{400, 403, 404}},
	"any 400–499 none":                       {statuses: []int{400, 403, 404}, codes: []string{wechatsim.CodeNone}},
	"any 400–499 any":                        {statuses: []int{400, 403, 404}, codes: []string{"RULE_LIMIT", "NEXT"}},
}

// What is done at the simulator before a usual answer.
func paid(w *walker, no string) {
	w.prepay(no)
	w.must(w.sim.Pay(no, wechatsim.PayOptions{}))
}

func closed(w *walker, no string) {
	w.prepay(no)
	burned(w, no)
}

func burned(w *walker, no string) {
	_, err := w.gateway.Close(w.t.Context(), no)
	w.must(err)
}

func broke(w *walker, no string) {
	paid(w, no)
	w.sim.SetBalance(false)
	w.t.Cleanup(func() { w.sim.SetBalance(true) })
}

// walker asks the simulator by the real gateway.
type walker struct {
	*stage
	t        *testing.T
	observed map[string]string // by call: the outcome as it is counted
	numbers  int
}

func (w *walker) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *walker) prepay(no string) {
	_, err := w.gateway.Prepay(w.t.Context(), w.attempt(payment.Native, no))
	w.must(err)
}

// calls are the calls of the table, each with what has to be there for its usual answer.
var walkedCalls = map[string]struct {
	endpoint string // of the simulator, for its faults
	ready    func(w *walker, no string)
	call     func(ctx context.Context, w *walker, no string) (string, error)
}{
	opPrepay: {"prepay", nil, func(ctx context.Context, w *walker, no string) (string, error) {
		_, err := w.gateway.Prepay(ctx, w.attempt(payment.Native, no))
		return "ok", err
	}},
	opQuery: {"query", (*walker).prepay, func(ctx context.Context, w *walker, no string) (string, error) {
		trade, err := w.gateway.Query(ctx, no)
		if trade.State == payment.TradeNotFound {
			return "not_found", err
		}
		return "ok", err
	}},
	opClose: {"close", (*walker).prepay, func(ctx context.Context, w *walker, no string) (string, error) {
		reply, err := w.gateway.Close(ctx, no)
		return reply.Answer.String(), err
	}},
	opRefund: {"refund", paid, func(ctx context.Context, w *walker, no string) (string, error) {
		_, err := w.gateway.Refund(ctx, w.refund(no))
		return "ok", err
	}},
	opRefundQuery: {"refund_query", refunded, func(ctx context.Context, w *walker, no string) (string, error) {
		refund, err := w.gateway.QueryRefund(ctx, no+"-R01")
		if refund.Status == payment.RefundNotFound {
			return "not_found", err
		}
		return "ok", err
	}},
	opAbnormal: {"refund", abnormal, func(ctx context.Context, w *walker, no string) (string, error) {
		q := w.refund(no)
		r, _ := w.sim.Refund(q.OutRefundNo)
		_, err := w.gateway.AbnormalRefund(ctx, payment.AbnormalRequest{OutRefundNo: q.OutRefundNo,
			RefundID: max(r.RefundID, "5000"), TransactionID: q.TransactionID, Amount: q.Amount, Total: q.Total,
			To: payment.CardOfMerchant})
		return "ok", err
	}},
	opBill: {"bill", paid, func(ctx context.Context, w *walker, _ string) (string, error) {
		today := time.Now().In(time.FixedZone("Beijing", 8*60*60)).Format(time.DateOnly)
		_, err := w.gateway.FetchBill(ctx, today, payment.BillAll, io.Discard)
		if errors.Is(err, payment.ErrNoBill) || errors.Is(err, payment.ErrBillNotReady) {
			return "rejected", nil
		}
		return "ok", err
	}},
	opEcho: {"echo", nil, func(ctx context.Context, w *walker, _ string) (string, error) {
		_, err := w.gateway.Echo(ctx, w.gateway.responseKey, testEcho, "")
		return "ok", err
	}},
}

func refunded(w *walker, no string) {
	paid(w, no)
	_, err := w.gateway.Refund(w.t.Context(), w.refund(no))
	w.must(err)
}

func abnormal(w *walker, no string) {
	w.must(w.sim.SetRefundOutcome(no+"-R01", wechatsim.StateAbnormal, 0))
	refunded(w, no)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if r, _ := w.sim.Refund(no + "-R01"); r.State == wechatsim.StateAbnormal {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatal("the refund does not become abnormal")
}

// refund asks for all of a trade's money.
func (w *walker) refund(no string) payment.RefundRequest {
	v, _ := w.sim.Trade(no)
	return payment.RefundRequest{OutRefundNo: no + "-R01", TransactionID: max(v.TransactionID, "4200"),
		Amount: 39800, Total: 39800}
}

// ask makes a call, with faults that apply to it alone, and gives what the gateway concluded.
func (w *walker) ask(op string, state func(*walker, string), faults ...wechatsim.Fault) string {
	w.t.Helper()
	c := walkedCalls[op]
	w.numbers++
	no := fmt.Sprintf("WALK%04d", w.numbers)
	usual := !slices.ContainsFunc(faults, func(f wechatsim.Fault) bool { return f.Kind == wechatsim.FaultStatus })
	switch {
	case state != nil:
		state(w, no)
	case usual && c.ready != nil:
		c.ready(w, no)
	}
	for _, f := range faults {
		f.Endpoint, f.OutTradeNo, f.Count = c.endpoint, "*", 1
		w.must(w.sim.AddFault(f))
	}
	w.observed[op] = ""
	concluded, err := c.call(w.t.Context(), w, no)
	w.sim.ClearFaults()
	if err != nil {
		concluded = payment.KindOf(err).String()
	}
	if got := w.observed[op]; got != concluded {
		w.t.Errorf("%s %v: counted as %q, told to the caller as %q (%v)", op, faults, got, concluded, err)
	}
	return concluded
}

// walkRow asks for everything that a row is about.
func (w *walker) walkRow(t *testing.T, cells []string, row walk) {
	call, outcome := cells[1], strings.Trim(cells[5], "`")
	ops := []string{call}
	if call == "any" {
		ops = nil
		for op := range walkedCalls {
			ops = append(ops, op)
		}
		slices.Sort(ops)
	}
	codes := row.codes
	if cells[3] != "any" && cells[3] != "none" {
		for _, code := range strings.Fields(cells[3]) {
			code = strings.Trim(code, "`")
			codes = append(codes, code, code[:3]+"_"+code[3:])
		}
	}
	if len(codes) == 0 {
		codes = []string{""}
	}
	spoilt := row.spoilt
	if len(spoilt) == 0 {
		spoilt = []string{""}
	}
	for _, op := range ops {
		if row.usual {
			if got := w.ask(op, row.state); got != outcome {
				t.Errorf("%s, the usual answer: %s", op, got)
			}
		}
		for _, status := range row.statuses {
			for _, code := range codes {
				for _, kind := range spoilt {
					var faults []wechatsim.Fault
					if status != 0 {
						faults = append(faults, wechatsim.Fault{Kind: wechatsim.FaultStatus, Status: status,
							Code: code})
					}
					if kind != "" {
						faults = append(faults, wechatsim.Fault{Kind: kind})
					}
					if got := w.ask(op, nil, faults...); got != outcome {
						t.Errorf("%s, %d %s %s: %s", op, status, code, kind, got)
					}
				}
			}
		}
	}
}

// The page says what each answer of WeChat Pay is taken to mean, and people act by it: every row is asked of the
// simulator, by the gateway that runs in production. A row that nobody asks for is a promise that nobody has tried.
func TestEveryRowOfTheTableIsAsked(t *testing.T) {
	page, err := os.ReadFile("../../docs/wechat.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "<!-- answers: begin -->\n")
	table, _, found := strings.Cut(table, "<!-- answers: end -->")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if !found || len(lines) < 3 {
		t.Fatal("docs/wechat.md has lost its table")
	}
	w := &walker{t: t, observed: map[string]string{}}
	w.stage = newStage(t, wechatsim.Options{RefundDelay: time.Hour}, func(c *Config) {
		c.Observe = func(op, outcome string, _ time.Duration) { w.observed[op] = outcome }
	})
	seen := map[string]bool{}
	for _, line := range lines[2:] {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		first, _, _ := strings.Cut(strings.ReplaceAll(cells[3], "`", ""), " ")
		key := cells[1] + " " + cells[2] + " " + first
		row, known := walks[key]
		if !known {
			t.Errorf("row %s (%s) is in no case of this test", cells[0], key)
			continue
		}
		seen[key] = true
		t.Run(key, func(t *testing.T) {
			w.t = t
			w.walkRow(t, cells, row)
		})
	}
	for key := range walks {
		if !seen[key] {
			t.Errorf("the case %q is of no row of the page", key)
		}
	}
}

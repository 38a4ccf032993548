package chaos

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"orderd/payment/wechatsim"
)

// truth is what WeChat Pay did and saw, written down as it happens and on disk
// within syncEvery: it must outlive everything that the run kills.
type truth struct {
	file *os.File
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	counts map[string]int
	// accepted is when a callback of a payment was first acknowledged, by out_trade_no.
	accepted map[string]time.Time
	// open are the trades that can be paid, with when they were opened, by out_trade_no.
	open map[string]time.Time
	// forged are the lies that were answered with success: violations, as C2.
	forged []string

	// acked has genuine payments that were just acknowledged, for watchAcks; unseen
	// counts those of them that nobody has looked at yet, so that the judge can wait for
	// the rest.
	acked  chan acked
	unseen atomic.Int64
}

// acked is a payment whose callback was answered with success.
type acked struct{ trade, transaction string }

const (
	// syncEvery is the time between two fsyncs. This process is not killed; the file is
	// for whoever looks at a run whose machine went down.
	syncEvery = 100 * time.Millisecond
	// ackBacklog is how many acknowledgements may wait to be looked at, before the
	// simulator has to: a database may be away for seconds.
	ackBacklog = 1 << 16
)

// newTruth makes the file; close ends it.
func newTruth(path string) (*truth, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	t := &truth{file: f, stop: make(chan struct{}), done: make(chan struct{}), counts: map[string]int{},
		accepted: map[string]time.Time{}, open: map[string]time.Time{}, acked: make(chan acked, ackBacklog)}
	go t.sync()
	return t, nil
}

// sync calls fsync again and again.
func (t *truth) sync() {
	defer close(t.done)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			_ = t.file.Sync()
		}
	}
}

// close syncs the rest and closes the file.
func (t *truth) close() error {
	close(t.stop)
	<-t.done
	_ = t.file.Sync()
	return t.file.Close()
}

// unsigned are the ways to lie that a signature must give away.
var unsigned = []string{wechatsim.ModeForged, wechatsim.ModeUnknown, wechatsim.ModeNoSignature,
	wechatsim.ModeOldTimestamp, wechatsim.ModeSignTest, wechatsim.ModeTruncated}

// Write takes one line of the simulator's log, which the simulator makes of every
// request, callback and effect. It may wait when ackBacklog acknowledgements have not
// been looked at.
func (t *truth) Write(line []byte) (int, error) {
	var e wechatsim.Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return 0, err
	}
	t.mu.Lock()
	genuine := t.count(e)
	t.mu.Unlock()
	if genuine {
		t.unseen.Add(1)
		t.acked <- acked{e.OutTradeNo, e.TransactionID}
	}
	return t.file.Write(line)
}

// count counts what the report shows, and reports whether e is the acknowledgement of a
// genuine payment. It needs t.mu.
func (t *truth) count(e wechatsim.Entry) (genuine bool) {
	if e.Kind == wechatsim.KindEffect && e.OutRefundNo == "" {
		t.opened(e)
	}
	if isRequest(e, "close") && slices.Contains(e.Faults, wechatsim.FaultPaidFirst) {
		t.counts["paid in the instant before the close"]++
	}
	if isRequest(e, "close") && slices.Contains(e.Faults, wechatsim.FaultPaying) {
		t.counts["close refused while the buyer pays"]++
	}
	lost := slices.Contains(e.Faults, wechatsim.FaultCutAfter) || slices.Contains(e.Faults, wechatsim.FaultTimeout) ||
		slices.Contains(e.Faults, "lost_answer")
	switch {
	case isRequest(e, "close") && lost:
		t.counts["close answered, answer lost"]++
	case isRequest(e, "refund") && lost:
		t.counts["refund taken, answer lost"]++
	case answered(e) && (isProbe(e) || slices.Contains(unsigned, modeOf(e))):
		t.counts["forged callback"]++
		if e.Status/100 == 2 {
			t.forged = append(t.forged, e.OutTradeNo+" "+e.Detail)
		}
	case answered(e) && modeOf(e) == wechatsim.ModeNormal && e.OutRefundNo == "":
		if _, again := t.accepted[e.OutTradeNo]; again {
			t.counts["callback after it was acknowledged"]++
		} else if e.Status/100 == 2 {
			t.accepted[e.OutTradeNo] = e.At
		}
		return e.Status/100 == 2
	}
	return false
}

// opened keeps the trades that can be paid. It needs t.mu.
func (t *truth) opened(e wechatsim.Entry) {
	_, was := t.open[e.OutTradeNo]
	switch {
	case e.State != wechatsim.StateNotPay:
		delete(t.open, e.OutTradeNo)
	case !was:
		t.open[e.OutTradeNo] = e.At
	}
}

// openTrade is a trade that can be paid.
type openTrade struct {
	no     string
	opened time.Time
}

// payable are the trades that can be paid now, as far as was noted.
func (t *truth) payable() []openTrade {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]openTrade, 0, len(t.open))
	for no, at := range t.open {
		all = append(all, openTrade{no, at})
	}
	return all
}

// isRequest reports whether e is a call of orderd to an endpoint.
func isRequest(e wechatsim.Entry, endpoint string) bool {
	return e.Kind == wechatsim.KindRequest && e.Endpoint == endpoint
}

// answered reports whether e is a callback that was answered, with whatever status.
func answered(e wechatsim.Entry) bool { return e.Kind == wechatsim.KindCallback && e.Status != 0 }

// isProbe reports whether WeChat Pay tried out whether signatures are checked: it sends
// such callbacks by itself.
func isProbe(e wechatsim.Entry) bool { return slices.Contains(e.Faults, "signtest") }

// modeOf is the first word of a callback's detail: how it was told to go wrong, or
// normal.
func modeOf(e wechatsim.Entry) string {
	mode, _, _ := strings.Cut(e.Detail, ":")
	return mode
}

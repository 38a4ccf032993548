package wechatsim

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxTrades bounds memory, at about a kilobyte each: half a gigabyte. More is a
	// simulator that was forgotten under load; prepay then answers 429.
	maxTrades = 500_000
	// maxPending bounds callbacks that wait to be sent or for a retry.
	// Beyond it callbacks are lost (and logged so), which WeChat also may do.
	maxPending = 100_000
	// maxInFlight bounds callbacks on the wire at once, so that a burst of
	// payments is a burst and not a denial of service.
	maxInFlight = 64
	// maxSpeed keeps the scaled retry ladder above the resolution of timers.
	maxSpeed = 1e6
)

// Options configure a simulator. Keys and Now are required.
type Options struct {
	Keys *Keys
	Now  func() time.Time // the clock of time-stamps and of time_expire; waiting uses real timers
	Log  *slog.Logger     // nil: silent

	Seed  uint64  // of every random decision; ids and nonces are never seeded
	Speed float64 // the retry ladder and nasty delays are divided by this; 0 means 1

	Nasty     bool       // misbehave as DefaultNastiness says
	Nastiness *Nastiness // misbehave as this says instead, whatever Nasty is

	// PublicKeyOnly: no platform certificates, /v3/certificates is 404, as for a
	// merchant who joined when there were none any more.
	PublicKeyOnly bool
	// BeforeSwitch: answers and callbacks come under platform certificates alone, also when the
	// request names the public key, as before a merchant has started the switch (开启公钥切换).
	BeforeSwitch bool
	// GreyRatio is the share of callbacks signed by another key than the usual one, 0
	// to 1: a change of keys in progress. In a move from certificates to the public key
	// WeChat goes from 0.1 to 100 % within a week.
	GreyRatio float64
	// CallbackSerial is the id of the key that usually signs callbacks; empty: the
	// public key. A certificate's here is a merchant who has not switched to the public
	// key yet.
	CallbackSerial string

	// NotifyClient sends callbacks; nil: a client of the simulator's own. A delivery
	// takes five seconds at most in any case. Close drops its idle connections.
	NotifyClient *http.Client
	EffectsLog   io.Writer // gets every log entry as a JSON line as it happens; written by one goroutine

	// RefundDelay is real time from the acceptance of a refund to its end, divided by
	// the speed; 0: 3 s.
	RefundDelay    time.Duration
	NoSpacing      bool // take refunds of one payment less than a minute apart
	StrictBillTime bool // make no bill of a day that is not over, nor before 10:00 in Beijing of the next

	StrictExpire         bool   // raise a time_expire less than a minute ahead to one minute, as WeChat does
	StrictClientIP       bool   // refuse a loopback payer_client_ip in H5, as WeChat does
	RefuseReplay         bool   // refuse a nonce that was seen before (not known of WeChat)
	OutTradeNoUsed       bool   // a repeat with other parameters: 403 OUT_TRADE_NO_USED, not 400 INVALID_REQUEST
	RefundCodes          bool   // of refunds: TRADE_OVERDUE and REFUND_FEE_MISMATCH, not INVALID_REQUEST
	NoAssociatedData     bool   // callbacks with an empty associated_data
	NoSignatureType      bool   // callbacks without Wechatpay-Signature-Type, as that of wechatpay-go#28
	UserPaying           bool   // a query says USERPAYING, not NOTPAY, while a payment takes its time
	UnknownCloseNotFound bool   // close of an unseen number answers 404 instead of 204
	PaidCode             string // code of a call on a paid trade; empty: ORDERPAID
	PaidStatus           int    // status of close on a paid trade; 0: 400
	ControlAnywhere      bool   // let others than loopback addresses use /control
	AppSecret            string // of the mini program; empty: there is none, its server answers 404
}

// Sim is one simulated WeChat Pay with one merchant. All methods may be called at the
// same time by many. The lock of a trade is taken before refundMu, mu and those of
// faults, ends and log, never after one of them.
type Sim struct {
	o      Options
	nasty  Nastiness
	ring   []signer // the keys that may sign, the usual one first; immutable
	aead   cipher.AEAD
	log    *effects
	faults faults
	nonces nonces
	speed  atomic.Uint64 // bits of a float64

	mu            sync.RWMutex
	trades        map[string]*trade // by out_trade_no
	byTransaction map[string]*trade

	refundMu sync.RWMutex // taken after a trade's lock, never before
	refunds  map[string]*refund
	ends     ends
	broke    atomic.Bool // the merchant's account has no money for refunds
	files    billFiles

	shippings shippings

	entries    [2]atomic.Value // what is wrong with each entry, a string
	strayRolls atomic.Uint64   // counts decisions about numbers that have no trade

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	slots   chan struct{} // one per callback on the wire
	lifeMu  sync.Mutex    // guards closed, pending and passed
	closed  bool
	pending int
	passed  chan struct{} // closed and renewed whenever a callback has gone out
	wg      sync.WaitGroup
}

// New makes a simulator. It starts one goroutine (the effects writer, when there
// is one to write to) and more while callbacks are due: Close ends them all.
func New(o Options) (*Sim, error) {
	if o.Keys == nil || o.Now == nil {
		return nil, errors.New("simulator options: Keys and Now are required")
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.RefundDelay == 0 {
		o.RefundDelay = defaultRefundDelay
	}
	if o.PaidCode == "" {
		o.PaidCode = "ORDERPAID"
	}
	if o.PaidStatus == 0 {
		o.PaidStatus = http.StatusBadRequest
	}
	if o.NotifyClient == nil {
		o.NotifyClient = newNotifyClient()
	}
	aead, err := newAEAD(o.Keys.APIv3Key)
	if err != nil {
		return nil, err
	}
	ring, err := newRing(o)
	if err != nil {
		return nil, err
	}
	s := &Sim{
		o: o, ring: ring, aead: aead,
		trades: map[string]*trade{}, byTransaction: map[string]*trade{}, refunds: map[string]*refund{},
		ends: ends{fixed: map[string]fate{}}, files: billFiles{byToken: map[string]billFile{}},
		slots: make(chan struct{}, maxInFlight), passed: make(chan struct{}),
	}
	if o.Nasty {
		s.nasty = DefaultNastiness()
	}
	if o.Nastiness != nil {
		s.nasty = *o.Nastiness
	}
	if err := s.SetSpeed(o.Speed); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.log = newEffects(o.Now, o.EffectsLog, o.Log)
	return s, nil
}

// newRing lists the keys that may sign, the usual one first.
func newRing(o Options) ([]signer, error) {
	all := []signer{
		{o.Keys.PublicKeyID, o.Keys.publicKey},
		{o.Keys.newCert.serial, o.Keys.newCert.key},
		{o.Keys.oldCert.serial, o.Keys.oldCert.key},
	}
	switch {
	case o.PublicKeyOnly && o.BeforeSwitch:
		return nil, errors.New("simulator options: PublicKeyOnly has no certificates to sign with BeforeSwitch")
	case o.PublicKeyOnly:
		all = all[:1]
	case o.BeforeSwitch:
		all = all[1:]
	}
	if o.CallbackSerial == "" {
		return all, nil
	}
	for i, k := range all {
		if k.id == o.CallbackSerial {
			all[0], all[i] = all[i], all[0]
			return all, nil
		}
	}
	return nil, fmt.Errorf("simulator options: CallbackSerial %q is none of the keys in use", o.CallbackSerial)
}

// Close stops all deliveries and waits for every goroutine of the simulator.
// The HTTP server in front of Handler is its owner's to stop, before this.
// A second Close does nothing.
func (s *Sim) Close() {
	s.lifeMu.Lock()
	first := !s.closed
	s.closed = true
	s.lifeMu.Unlock()
	s.cancel()
	s.wg.Wait()
	if first {
		s.log.close()
		s.o.NotifyClient.CloseIdleConnections()
	}
}

// SetSpeed scales the retry ladder from the next wait on: 60 makes a minute a second.
func (s *Sim) SetSpeed(speed float64) error {
	if !(speed > 0 && speed <= maxSpeed) {
		return fmt.Errorf("speed %v: a number above 0 and up to %v is needed", speed, maxSpeed)
	}
	s.speed.Store(math.Float64bits(speed))
	return nil
}

// scaled is a time of WeChat's at the simulator's speed: what is waited, never what is
// written into an answer.
func (s *Sim) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / math.Float64frombits(s.speed.Load()))
}

// spawn runs f in a goroutine that Close waits for. It reports false, and does
// not run f, when the simulator is closed or too much is pending already.
func (s *Sim) spawn(f func()) bool {
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	if s.closed || s.pending >= maxPending {
		return false
	}
	s.pending++
	s.wg.Go(func() {
		f()
		s.lifeMu.Lock()
		s.pending--
		s.lifeMu.Unlock()
	})
	return true
}

// pause waits d of real time; false means that the simulator was closed.
func (s *Sim) pause(d time.Duration) bool {
	if d <= 0 {
		return s.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

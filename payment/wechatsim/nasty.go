package wechatsim

import (
	"encoding/binary"
	"hash/fnv"
	"time"
)

// Nastiness is how the simulator misbehaves on its own: probabilities from 0 (never) to
// 1 (always), each independent of the others. All of it is what WeChat's documents
// allow it to do. Together they are the reason why a merchant must not rely on one
// callback, on its order, on its id, or on the key of the last answer.
type Nastiness struct {
	// DuplicateNotify: a callback is sent twice, the second on its own way: WeChat
	// sends from several machines, and warns of repeats after a success.
	DuplicateNotify float64
	DelayNotify     float64       // a callback starts late …
	MaxNotifyDelay  time.Duration // … by up to this, divided by the speed
	ReorderNotify   float64       // a callback waits until one of another trade has gone out
	// SignTest: a probe with a wrong signature goes first; the genuine callback
	// follows by the retry ladder.
	SignTest float64
	// NewNotifyID: a repeat carries another id. No document says that it keeps its id.
	NewNotifyID float64
	// GreyKeys: a callback is signed by another key of the ring than the usual one, as
	// in the days of a change of keys, see Options.GreyRatio.
	GreyKeys       float64
	AbnormalRefund float64 // a refund becomes ABNORMAL
	ClosedRefund   float64 // a refund becomes CLOSED
	// OtherSpelling: ORDER_PAID for ORDERPAID, ORDERCLOSED for ORDER_CLOSED and so on:
	// older and newer documents spell the codes differently, and both were seen.
	OtherSpelling float64
	// LostAnswer: the request is processed, the connection cut before the answer.
	LostAnswer     float64
	SlowAnswer     float64       // a request is handled, and so answered, late …
	MaxAnswerDelay time.Duration // … by up to this
}

// DefaultNastiness is a bad day at WeChat, not its average: every kind happens
// often enough to be met within some hundred orders.
func DefaultNastiness() Nastiness {
	return Nastiness{
		DuplicateNotify: 0.10,
		DelayNotify:     0.15,
		MaxNotifyDelay:  20 * time.Second,
		ReorderNotify:   0.10,
		SignTest:        0.05,
		NewNotifyID:     0.50,
		GreyKeys:        0.30,
		OtherSpelling:   0.50,
		LostAnswer:      0.02,
		SlowAnswer:      0.05,
		MaxAnswerDelay:  400 * time.Millisecond,
	}
}

// otherSpelling returns the second spelling of codes that have two, other codes as they
// are.
func otherSpelling(code string) string {
	pairs := [...][2]string{
		{"ORDERPAID", "ORDER_PAID"}, {"ORDERCLOSED", "ORDER_CLOSED"}, {"ORDERNOTEXIST", "ORDER_NOT_EXIST"},
		{"SYSTEMERROR", "SYSTEM_ERROR"}, {"USERPAYING", "USER_PAYING"},
	}
	for _, p := range pairs {
		switch code {
		case p[0]:
			return p[1]
		case p[1]:
			return p[0]
		}
	}
	return code
}

// roll decides whether something of probability p happens to a trade; what names the
// decision. A probability of 0 draws nothing, so that a kind which is switched off does
// not shift the others' luck.
func (s *Sim) roll(what, outTradeNo string, p float64) bool {
	return p > 0 && s.fraction(what, outTradeNo) < p
}

// fraction returns the next number in [0, 1) for a trade. It depends on the seed, the
// number of the trade and how many were drawn for it, not on what other trades do
// meanwhile: one order's story repeats even under load. Numbers without a trade share
// one counter and do depend on one another.
func (s *Sim) fraction(what, outTradeNo string) float64 {
	var n uint64
	if t := s.find(outTradeNo); t != nil {
		n = t.rolls.Add(1)
	} else {
		n = s.strayRolls.Add(1)
	}
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], s.o.Seed)
	binary.LittleEndian.PutUint64(b[8:], n)
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(what + "\n" + outTradeNo))
	x := h.Sum64() // FNV alone is uneven in the high bits: finish as splitmix64 does
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

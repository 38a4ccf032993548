package order

import (
	"net/netip"
	"time"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// payMargin is how long before its end an answer is not handed out any more: it was stored
// some seconds after WeChat Pay had made it, whose clock is not ours, and a buyer needs a
// moment to scan or to tap.
const payMargin = 30 * time.Second

// Payable gives the attempt that a buyer can pay this order with now, nil without one.
// Whatever hands out, draws or shows a way to pay asks it: there is none when the order is
// not pending, when its time is up, when WeChat Pay's own time of the answer is up, and
// while another call may have made the answer invalid.
func (o *Order) Payable(now time.Time) *Attempt {
	if o.State != StatePending || !now.Before(o.ExpireAt) || len(o.Attempts) == 0 {
		return nil
	}
	if last := &o.Attempts[len(o.Attempts)-1]; last.payable(now) {
		return last
	}
	return nil
}

// payable reports that the answer that is kept may be given to a client at now.
func (a *Attempt) payable(now time.Time) bool {
	return a.State == AttemptLive && len(a.open) == 0 && a.sure() && now.Before(a.PayableUntil())
}

// PayableUntil is until when the answer that is kept is handed out: to the end of WeChat
// Pay's own time of it, less payMargin, or of the order's, whichever comes first. After it
// the same parameters are sent once more, under the same number, for another answer.
func (a *Attempt) PayableUntil() time.Time {
	valid := bounds.CodeValid
	if a.TradeType == payment.H5 {
		valid = bounds.H5Valid
	}
	until := a.AnsweredAt.Add(valid - payMargin)
	if expire, err := time.Parse(time.RFC3339, a.TimeExpire); err == nil && expire.Before(until) {
		return expire.UTC()
	}
	return until
}

// serves reports that an attempt is what a request asks for. WeChat Pay compares these of a
// repeat with those of the first call, and a payer's address when an H5 page is opened: an
// attempt with others would be repeated for ever, and paid by nobody. The app is known of
// attempts whose answer this program has stored.
func (a *Attempt) serves(r *PrepayRequest, appID string) bool {
	return a.TradeType == r.TradeType && a.OpenID == r.OpenID && a.H5Type == r.H5Type &&
		(r.TradeType != payment.H5 || a.ClientIP == r.ClientIP) && (a.kept.AppID == "" || a.kept.AppID == appID)
}

// plain leaves of a request what its trade type sends, and writes the payer's address in one
// way: what makes no difference at WeChat Pay must not make another attempt.
func (r *PrepayRequest) plain() {
	if r.TradeType != payment.JSAPI {
		r.OpenID = ""
	}
	if r.TradeType != payment.H5 {
		r.H5Type = ""
	}
	if ip, err := netip.ParseAddr(r.ClientIP); err == nil {
		r.ClientIP = ip.Unmap().String()
	}
}

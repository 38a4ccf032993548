package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"orderd/payment"
)

// probeNo is a number that no order has: a query of it moves nothing, and its signed "not
// found" proves keys, serial number, merchant and clock, as far as queries go.
const probeNo = "orderd_doctor_asks"

// Look asks WeChat Pay about a trade that does not exist, for doctor. Nil says that it
// answered as to its merchant, and that the answer verified.
func (g *Gateway) Look(ctx context.Context) error {
	_, err := g.Query(ctx, probeNo)
	return err
}

// Clock gives the time that WeChat Pay's server says in its Date header (RFC 9110, 6.6.1),
// in seconds. It is not signed: for people, never for a decision.
func (g *Gateway) Clock(ctx context.Context) (time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, g.hosts.list[0]+"/", nil)
	if err != nil {
		return time.Time{}, err
	}
	res, err := g.files.Do(req)
	if err != nil {
		return time.Time{}, safeCause(err)
	}
	_ = res.Body.Close()
	at, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return time.Time{}, errors.New("the server says no time")
	}
	return at, nil
}

// Diagnosis is what is wrong with a call, for a person.
type Diagnosis struct {
	Found, Why, Fix string
	// Ours: a setting or this machine is wrong, and no later call goes better.
	Ours bool
}

// Diagnose says what an error of a call means, and what to do about it. The zero
// Diagnosis is for nil.
func Diagnose(err error) Diagnosis {
	var g *payment.GatewayError
	if !errors.As(err, &g) {
		return Diagnosis{}
	}
	d := Diagnosis{Found: err.Error(), Why: "no payment can be made or believed"}
	if unknown := (*payment.UnknownKeyError)(nil); errors.As(err, &unknown) {
		d.Fix, d.Ours = fmt.Sprintf("ORDERD_WECHAT_VERIFY_KEYS lacks that key: download %s from the merchant platform "+
			"(API security) and add it as %s=FILE, beside the others", kindOfKey(unknown.Serial), unknown.Serial), true
		return d
	}
	for _, c := range diagnoses {
		if c.cause != nil && errors.Is(err, c.cause) || c.cause == nil && g.Kind == c.kind && (c.status == 0 ||
			c.status == g.Status) {
			d.Fix, d.Ours = c.fix, c.ours
			return d
		}
	}
	d.Fix = "nothing here: WeChat Pay failed. Ask again in a minute"
	return d
}

// diagnoses are tried in their order; a cause of ours says more than a kind.
var diagnoses = []struct {
	cause  error
	kind   payment.Kind
	status int
	fix    string
	ours   bool
}{
	{cause: errBadSig, ours: true, fix: "a file in ORDERD_WECHAT_VERIFY_KEYS is not the key of its id: download it " +
		"again from the merchant platform (API security)"},
	{cause: errKeyDates, ours: true, fix: "a certificate in ORDERD_WECHAT_VERIFY_KEYS has ended: add the new one, or " +
		"the public key"},
	{cause: errSkew, ours: true, fix: "this machine's clock is off: run NTP"},
	{cause: errTLS, ours: true, fix: "somebody between here and WeChat Pay answers in its place: a proxy, or a wrong " +
		"ORDERD_WECHAT_BASE_URL"},
	{cause: errNoConnection, fix: "is there a way out of this network to api.mch.weixin.qq.com:443?"},
	{cause: errTimeout, fix: "it does not answer in time: is the way out slow, or WeChat Pay down?"},
	{cause: context.DeadlineExceeded, fix: "it does not answer in time: is the way out slow, or WeChat Pay down?"},
	{kind: payment.KindMisconfigured, status: http.StatusUnauthorized, ours: true, fix: fmt.Sprint(
		"ORDERD_WECHAT_SERIAL_NO must be of the certificate that belongs to ORDERD_WECHAT_PRIVATE_KEY ('openssl x509 ",
		"-in apiclient_cert.pem -noout -serial'), both of the merchant ORDERD_WECHAT_MCHID, and the clock right")},
	{kind: payment.KindMisconfigured, ours: true, fix: "merchant number, app id or a permission: what it says is for " +
		"the merchant platform"},
	{kind: payment.KindRejected, ours: true, fix: "merchant number or app id is wrong: see what it says"},
	{kind: payment.KindRateLimited, fix: "too many calls at the moment: ask again in a minute"},
}

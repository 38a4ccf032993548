package wechat

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/go-pay/gopay"
	wechatv3 "github.com/go-pay/gopay/wechat/v3"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// Bounds of what comes back, our own: it is stored and handed to the client. Those of what
// is sent are in the table of package bounds.
const (
	maxCodeURL  = 512  // bytes; codes of WeChat's are about 40
	maxH5URL    = 2048 // bytes; addresses of WeChat's are about 150
	maxPrepayID = 64   // bytes; ids of WeChat's have 36
)

// Prepay opens a payable trade, or repeats an opening with the same
// parameters, which WeChat answers with a new code or id. Everything sent
// comes from the attempt and the configuration, never from the clock, so that
// a repeat is WeChat's "same request". A request that WeChat would refuse, or
// that could reach another URL, is refused here without a call (KindRejected,
// no status). The signatures for the client are made here as well, and made
// anew by each call.
func (g *Gateway) Prepay(ctx context.Context, a payment.Attempt) (payment.Prepaid, error) {
	if why := g.unsendable(&a); why != "" {
		return payment.Prepaid{}, refusal(opPrepay, "%s", why)
	}
	var out payment.Prepaid
	f, _, err := g.call(ctx, opPrepay, a.OutTradeNo, func(ctx context.Context) error {
		var err error
		// A fresh map: gopay writes into the one it is given.
		out, err = g.sendPrepay(ctx, a.TradeType, g.prepayBody(&a))
		return err
	})
	if err != nil {
		return payment.Prepaid{}, err
	}
	out.Doubt = f.doubt
	return out, nil
}

// sendPrepay calls the endpoint of the trade type and takes the one thing out
// of the answer that the client needs. When WeChat answered with an error the
// result is empty and the facts of the call tell why.
func (g *Gateway) sendPrepay(ctx context.Context, t payment.TradeType, body gopay.BodyMap) (payment.Prepaid, error) {
	switch t {
	case payment.Native:
		rsp, err := g.client.native(ctx, body)
		if err != nil || rsp.Code != wechatv3.Success {
			return payment.Prepaid{}, err
		}
		if !plainURL(rsp.Response.CodeUrl, "weixin://", maxCodeURL) {
			return payment.Prepaid{}, badAnswer("no code_url")
		}
		return payment.Prepaid{CodeURL: rsp.Response.CodeUrl}, nil
	case payment.H5:
		rsp, err := g.client.h5(ctx, body)
		if err != nil || rsp.Code != wechatv3.Success {
			return payment.Prepaid{}, err
		}
		if !plainURL(rsp.Response.H5Url, "https://", maxH5URL) &&
			!(g.loopback && plainURL(rsp.Response.H5Url, "http://", maxH5URL)) {
			return payment.Prepaid{}, badAnswer("no h5_url")
		}
		return payment.Prepaid{H5URL: rsp.Response.H5Url}, nil
	case payment.JSAPI:
		rsp, err := g.client.jsapi(ctx, body)
		if err != nil || rsp.Code != wechatv3.Success {
			return payment.Prepaid{}, err
		}
		return g.signJSAPI(rsp.Response.PrepayId)
	case payment.App:
		rsp, err := g.client.app(ctx, body)
		if err != nil || rsp.Code != wechatv3.Success {
			return payment.Prepaid{}, err
		}
		return g.signApp(rsp.Response.PrepayId)
	}
	return payment.Prepaid{}, badAnswer("unknown trade type") // unsendable has refused it
}

// signJSAPI makes the arguments of wx.requestPayment.
func (g *Gateway) signJSAPI(prepayID string) (payment.Prepaid, error) {
	if plainToken(prepayID, maxPrepayID) == "" {
		return payment.Prepaid{}, badAnswer("no prepay_id")
	}
	p, err := g.client.signJSAPI(g.appID, prepayID)
	if err != nil {
		return payment.Prepaid{}, badAnswer("its prepay_id could not be signed")
	}
	return payment.Prepaid{PrepayID: prepayID, JSAPI: &payment.JSAPIParams{
		AppID: p.AppId, TimeStamp: p.TimeStamp, NonceStr: p.NonceStr,
		Package: p.Package, SignType: p.SignType, PaySign: p.PaySign,
	}}, nil
}

// signApp makes the arguments of the mobile SDK's pay request.
func (g *Gateway) signApp(prepayID string) (payment.Prepaid, error) {
	if plainToken(prepayID, maxPrepayID) == "" {
		return payment.Prepaid{}, badAnswer("no prepay_id")
	}
	p, err := g.client.signApp(g.appID, prepayID)
	if err != nil {
		return payment.Prepaid{}, badAnswer("its prepay_id could not be signed")
	}
	return payment.Prepaid{PrepayID: prepayID, App: &payment.AppParams{
		AppID: p.Appid, PartnerID: p.Partnerid, PrepayID: p.Prepayid, Package: p.Package,
		NonceStr: p.Noncestr, TimeStamp: p.Timestamp, Sign: p.Sign,
	}}, nil
}

// prepayBody is the request. WeChat takes no null and no empty optional field.
func (g *Gateway) prepayBody(a *payment.Attempt) gopay.BodyMap {
	body := gopay.BodyMap{
		"appid":        g.appID,
		"mchid":        g.mchID,
		"description":  payment.PlainText(a.Description),
		"out_trade_no": a.OutTradeNo,
		"time_expire":  a.TimeExpire,
		"notify_url":   a.NotifyURL,
		"amount":       map[string]any{"total": int64(a.Amount), "currency": payment.CNY},
	}
	if a.Attach != "" {
		body["attach"] = a.Attach
	}
	if a.TradeType == payment.JSAPI {
		body["payer"] = map[string]any{"openid": a.OpenID}
	}
	if a.ClientIP != "" {
		scene := map[string]any{"payer_client_ip": a.ClientIP}
		if a.TradeType == payment.H5 {
			scene["h5_info"] = map[string]any{"type": a.H5Type}
		}
		body["scene_info"] = scene
	}
	return body
}

// unsendable says why an attempt must not be sent, "" if it may. The reason
// names the field and the rule, not the value.
func (g *Gateway) unsendable(a *payment.Attempt) string {
	expire, err := time.Parse(time.RFC3339, a.TimeExpire)
	for _, wrong := range []*bounds.Wrong{
		bounds.OutTradeNo.Check(a.OutTradeNo),
		bounds.TotalFen.Check(int64(a.Amount)),
		bounds.Description.Check(payment.PlainText(a.Description)),
		bounds.Attach.Check(a.Attach),
		bounds.CheckNotifyURL(a.NotifyURL, g.loopback),
		bounds.PayerIP.Check(a.ClientIP),
	} {
		if wrong != nil {
			return wrong.Detail
		}
	}
	if err != nil || expire.IsZero() {
		return "time_expire must be RFC 3339 with an offset" // without one WeChat would take money for seven days
	}
	var wrong *bounds.Wrong
	switch a.TradeType {
	case payment.Native, payment.App:
	case payment.JSAPI:
		wrong = bounds.OpenID.Check(a.OpenID)
	case payment.H5:
		if a.ClientIP == "" || a.H5Type == "" {
			return "H5 needs the client's address, and a type of iOS, Android or Wap"
		}
		wrong = bounds.H5Type.Check(a.H5Type)
	default:
		return "the trade type is not NATIVE, JSAPI, H5 or APP"
	}
	if wrong != nil {
		return wrong.Detail
	}
	return ""
}

// CheckNotifyURL refuses an address that no prepay or refund of this gateway could name as
// its notify_url.
func (g *Gateway) CheckNotifyURL(raw string) error {
	if wrong := bounds.CheckNotifyURL(raw, g.loopback); wrong != nil {
		return errors.New(wrong.Detail)
	}
	return nil
}

// plainURL reports whether an answer's URL has the scheme it must have and
// only visible ASCII characters.
func plainURL(s, prefix string, limit int) bool {
	return len(s) > len(prefix) && strings.HasPrefix(s, prefix) && payment.Visible(s, limit)
}

package wechatsim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"orderd/migrations/bounds"
)

// Times and bounds of WeChat's documents of the prepay.
const (
	minExpire      = time.Minute         // a nearer time_expire is raised to it (StrictExpire)
	maxExpire      = 15 * 24 * time.Hour // a farther one is cut to it; that of Native to bounds.PayWithin
	prepayLifetime = 2 * time.Hour       // of code_url and prepay_id
	h5Lifetime     = 5 * time.Minute     // of h5_url
	maxFen         = 10_000_000_000      // a hundred million yuan, beyond anything that WeChat takes
)

// prepayRequest holds the fields that the simulator looks at, in WeChat's names. Others
// are allowed, and count in the comparison of a repeat. Amounts are json.Number,
// because an amount of 1.0 or 1e2 must be refused and not rounded.
type prepayRequest struct {
	AppID       string `json:"appid"`
	MchID       string `json:"mchid"`
	Description string `json:"description"`
	OutTradeNo  string `json:"out_trade_no"`
	TimeExpire  string `json:"time_expire"`
	Attach      string `json:"attach"`
	NotifyURL   string `json:"notify_url"`
	Amount      struct {
		Total    json.Number `json:"total"`
		Currency string      `json:"currency"`
	} `json:"amount"`
	Payer struct {
		OpenID string `json:"openid"`
	} `json:"payer"`
	SceneInfo struct {
		PayerClientIP string `json:"payer_client_ip"`
		H5Info        struct {
			Type string `json:"type"`
		} `json:"h5_info"`
	} `json:"scene_info"`

	tradeType string
	total     int64
	expire    time.Time // zero: none given
	// hash is of all parameters and the trade type: what a repeat must agree in.
	hash string
}

// unknownField refuses a field that the documents of the prepay do not have, with the tail
// that WeChat's guide to finding errors gives to it.
func unknownField(all map[string]any) *answer {
	known := []string{"appid", "mchid", "description", "out_trade_no", "time_expire", "attach", "notify_url",
		"goods_tag", "support_fapiao", "amount", "payer", "detail", "scene_info", "settle_info", "limit_pay"}
	for name := range all {
		if !slices.Contains(known, name) {
			a := wrongParam("/"+name, nil, "请求中含有未定义的参数", tailUnknownField)
			return &a
		}
	}
	return nil
}

// prepay opens a trade or repeats its opening. tradeType is the word of bills and
// queries (NATIVE, JSAPI, APP, MWEB), not that of the path.
func (s *Sim) prepay(tradeType string) func(*exchange) answer {
	return func(x *exchange) answer {
		p, refusal := s.readPrepay(tradeType, x.body)
		if refusal != nil {
			return *refusal
		}
		t := s.findOrAdd(p.OutTradeNo)
		if t == nil {
			return refuse(http.StatusTooManyRequests, "RATELIMIT_EXCEEDED",
				"the simulator is full of trades, restart it", tailFrequency)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ageLocked(s)
		return s.prepayLocked(t, p)
	}
}

// prepayLocked applies the re-entry rules of WeChat's document of the prepay: the same
// parameters again give a new way to pay, others are refused, a closed or paid number
// is spent for ever.
func (s *Sim) prepayLocked(t *trade, p *prepayRequest) answer {
	switch t.v.State {
	case StateNone:
		if t.v.Burned {
			return reentry()
		}
		s.openLocked(t, p)
		return s.issueLocked(t, "created")
	case StateNotPay:
		if t.hash != p.hash {
			if s.o.OutTradeNoUsed {
				return refuse(http.StatusForbidden, "OUT_TRADE_NO_USED", "商户订单号重复", tailReentry)
			}
			return reentry()
		}
		return s.issueLocked(t, "reissued")
	case StateSuccess, StateRefund:
		return refuse(http.StatusBadRequest, s.o.PaidCode, "该订单已支付", tailPaid)
	case StateClosed:
		return refuse(http.StatusBadRequest, "ORDER_CLOSED", "订单已关闭", tailClosed)
	case StateProcessing, StateAbnormal: // of refunds only
	}
	panic("trade in unknown state " + string(t.v.State))
}

// reentry is the refusal of a repeat whose parameters are not those of the first call.
func reentry() answer {
	return refuse(http.StatusBadRequest, "INVALID_REQUEST", "请求重入时，参数与首次请求时不一致", tailReentry)
}

// openLocked makes a trade of a number, with a time_expire within WeChat's bounds. A
// farther one is cut in silence, as WeChat cuts it: the merchant is not told.
func (s *Sim) openLocked(t *trade, p *prepayRequest) {
	now := s.o.Now()
	if !p.expire.IsZero() {
		if s.o.StrictExpire && p.expire.Before(now.Add(minExpire)) {
			p.expire = now.Add(minExpire)
		}
		latest := now.Add(maxExpire)
		if p.tradeType == "NATIVE" {
			latest = now.Add(bounds.PayWithin)
		}
		if p.expire.After(latest) {
			p.expire = latest
		}
	}
	t.hash = p.hash
	t.v.State, t.v.TradeType, t.v.CreatedAt, t.v.TimeExpire = StateNotPay, p.tradeType, now, p.expire
	t.v.Total, t.v.Description, t.v.Attach = p.total, p.Description, p.Attach
	t.v.OpenID, t.v.NotifyURL = p.Payer.OpenID, p.NotifyURL
}

// issueLocked hands out a new way to pay; an earlier one is void from now on. What the
// buyer can do with it ends with its own lifetime, before time_expire when that is
// later.
func (s *Sim) issueLocked(t *trade, event string) answer {
	now := s.o.Now()
	lifetime := prepayLifetime
	t.v.Prepays++
	t.v.PrepayID = "wx" + now.In(beijing()).Format("20060102150405") + strings.ToLower(randomFrom("0123456789abcdef",
		20))
	var body map[string]string
	switch t.v.TradeType {
	case "NATIVE":
		t.v.CodeURL = "weixin://wxpay/bizpayurl?pr=" + randomText(9) + "zz"
		body = map[string]string{"code_url": t.v.CodeURL}
	case "MWEB":
		lifetime = h5Lifetime
		t.v.H5URL = "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=" + t.v.PrepayID + "&package=" +
			randomDigits(10)
		body = map[string]string{"h5_url": t.v.H5URL}
	default: // JSAPI and APP
		body = map[string]string{"prepay_id": t.v.PrepayID}
	}
	t.payableUntil = now.Add(lifetime)
	s.log.add(t.effectLocked(event))
	return ok(body)
}

// readPrepay decodes and validates; the refusal names the first wrong field. The body
// is decoded twice: as it is, for the comparison of a repeat, and into the fields that
// are looked at.
func (s *Sim) readPrepay(tradeType string, body []byte) (*prepayRequest, *answer) {
	var all map[string]any
	if refusal := decodeObject(body, &all); refusal != nil {
		return nil, refusal
	}
	if refusal := unknownField(all); refusal != nil {
		return nil, refusal
	}
	p := &prepayRequest{tradeType: tradeType}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(p); err != nil {
		a := wrongParam("", nil, "字段类型不正确", tailParam)
		return nil, &a
	}
	// Keys in order and numbers as written: the same parameters in another order
	// are the same request.
	sum := sha256.Sum256(append(mustJSON(all), tradeType...))
	p.hash = hex.EncodeToString(sum[:])
	field, value, issue, tail := s.wrongField(p)
	if issue == "" {
		return p, nil
	}
	a := wrongParam(field, value, issue, tail)
	if text, ok := value.(string); ok && strings.HasPrefix(issue, lengthSource) {
		a = wrongLength(len(text), issue)
	}
	if field == "/appid" && p.AppID != "" {
		a = refuse(http.StatusBadRequest, "APPID_MCHID_NOT_MATCH", "商户号mchid与appid不匹配", tailNotSpecified)
	}
	return nil, &a
}

// wrongField returns the first field that breaks WeChat's rules; issue is empty when none
// does. Lengths are in bytes, as refusals that were captured count them.
func (s *Sim) wrongField(p *prepayRequest) (field string, value any, issue string, tail int) {
	total, totalErr := p.Amount.Total.Int64()
	p.total = total
	var expireErr error
	if p.TimeExpire != "" {
		p.expire, expireErr = time.Parse(time.RFC3339, p.TimeExpire)
	}
	switch {
	case p.AppID != s.o.Keys.AppID:
		return "/appid", p.AppID, "appid与商户号不匹配", tailParam
	case p.MchID != s.o.Keys.MchID:
		return "/mchid", p.MchID, "mchid与签名的商户号不一致", tailParam
	case p.Description == "" || len(p.Description) > bounds.Description.Most:
		return "/description", p.Description, tooLong("/body/description", "商品描述", p.Description,
			bounds.Description.Most), tailParam
	case !validOutTradeNo(p.OutTradeNo):
		return "/out_trade_no", p.OutTradeNo, "商户订单号须为6-32位数字、大小写字母或_-|*", tailParam
	case expireErr != nil:
		return "/time_expire", p.TimeExpire, "time_expire须为带时区的rfc3339格式", tailParam
	case len(p.Attach) > bounds.Attach.Most:
		return "/attach", p.Attach, tooLong("/body/attach", "附加数据", p.Attach, bounds.Attach.Most), tailParam
	case !validNotifyURL(p.NotifyURL):
		return "/notify_url", p.NotifyURL, "通知地址须为不带参数的完整URL，最长255个字符", tailParam
	case totalErr != nil || total < 1 || total > maxFen:
		return "/amount/total", p.Amount.Total.String(), "订单金额须为大于0的整数，单位为分", tailParam
	case p.Amount.Currency != "" && p.Amount.Currency != "CNY":
		return "/amount/currency", p.Amount.Currency, "币种只支持CNY", tailParam
	case p.tradeType == "JSAPI" && (p.Payer.OpenID == "" || len(p.Payer.OpenID) > bounds.OpenID.Most):
		return "/payer/openid", p.Payer.OpenID, "openid必填", tailNoOpenID
	case p.SceneInfo.PayerClientIP != "" || p.tradeType == "MWEB":
		return s.wrongScene(p)
	}
	return "", nil, "", tailOK
}

// lengthSource begins WeChat's sentence about the length of a text.
const lengthSource = "输入源"

// tooLong is WeChat's sentence about a text with too many bytes, as it was captured in 2025
// (easywechat#2954).
func tooLong(path, name, value string, most int) string {
	return fmt.Sprintf(lengthSource+"“%s”映射到值字段“%s”字符串规则校验失败，字节数 %d，大于最大值 %d", path, name, len(value), most)
}

// wrongScene is wrongField for scene_info, which H5 needs and the others may have.
func (s *Sim) wrongScene(p *prepayRequest) (field string, value any, issue string, tail int) {
	ip, err := netip.ParseAddr(p.SceneInfo.PayerClientIP)
	if err != nil {
		return "/scene_info/payer_client_ip", p.SceneInfo.PayerClientIP, "用户终端IP不正确", tailParam
	}
	if p.tradeType != "MWEB" {
		return "", nil, "", tailOK
	}
	if s.o.StrictClientIP && ip.IsLoopback() {
		return "/scene_info/payer_client_ip", p.SceneInfo.PayerClientIP, "用户终端IP不能为本机地址", tailParam
	}
	switch p.SceneInfo.H5Info.Type {
	case "iOS", "Android", "Wap":
		return "", nil, "", tailOK
	}
	return "/scene_info/h5_info/type", p.SceneInfo.H5Info.Type, "场景类型须为iOS、Android或Wap", tailParam
}

// decodeObject reads one JSON object and refuses what WeChat's rules of the API refuse
// anywhere in it: null, and characters of more than three bytes (emoji).
func decodeObject(body []byte, into *map[string]any) *answer {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil || *into == nil || decoder.More() {
		a := wrongParam("", nil, "请求体不是合法的JSON", tailParam)
		return &a
	}
	if path, issue := wrongValue("", *into); issue != "" {
		a := wrongParam(path, nil, issue, tailParam)
		return &a
	}
	return nil
}

// wrongValue finds the first value that WeChat takes nowhere, and its path.
func wrongValue(path string, v any) (where, issue string) {
	switch v := v.(type) {
	case nil:
		return path, "不支持null"
	case string:
		if !utf8.ValidString(v) || strings.ContainsFunc(v,
			func(r rune) bool { return r > 0xFFFF || r == utf8.RuneError }) {
			return path, "只支持1至3字节的UTF-8字符"
		}
	case map[string]any:
		for name, inner := range v {
			if where, issue := wrongValue(path+"/"+name, inner); issue != "" {
				return where, issue
			}
		}
	case []any:
		for i, inner := range v {
			if where, issue := wrongValue(fmt.Sprintf("%s/%d", path, i), inner); issue != "" {
				return where, issue
			}
		}
	}
	return "", ""
}

// validOutTradeNo is WeChat's own rule, which is wider than what orderd sends: | and *
// have to be escaped in a path, and not every client does it.
func validOutTradeNo(s string) bool {
	return len(s) >= bounds.OutTradeNo.Least && len(s) <= bounds.OutTradeNo.Most &&
		strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-|*") == ""
}

// validNotifyURL is WeChat's rule less its demand of https and a public address: tests listen
// on this machine.
func validNotifyURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= bounds.NotifyURL.Most && (u.Scheme == "http" || u.Scheme == "https") &&
		u.Host != "" && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && u.User == nil
}

// beijing is the zone of every time that WeChat writes. RFC 3339 allows others, and
// merchants should read them all the same.
func beijing() *time.Location { return time.FixedZone("Beijing", 8*60*60) }

package wechatsim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// shippingEndpoint is what faults and the log call the mini program's server.
const shippingEndpoint = "shipping"

// Codes of the mini program's server, from the document of upload_shipping_info.
const (
	errBadToken      = 40001
	errBadSecret     = 40125
	errMalformed     = 47001
	errNoPayment     = 10060001
	errSpent         = 10060003 // replaced once already
	errCannotShip    = 10060004
	errWay           = 10060005
	errNoGoods       = 10060008
	errLongGoods     = 10060009
	errSame          = 10060023
	errTooMany       = 10060024
	errOtherBuyer    = 10060031
	errUploadTime    = 268485216
	errOneParcel     = 268485228
	errNoNumber      = 268485226
	errNoCarrier     = 268485227
	knownToShipping  = time.Minute
	shippingTokenFor = 7200 // seconds
	// "一笔支付单最多分拆成 15 个包裹"
	maxShippingParcels = 15
)

// ShippingParcel is a parcel as it was reported.
type ShippingParcel struct {
	TrackingNo     string `json:"tracking_no"`
	ExpressCompany string `json:"express_company"`
	ItemDesc       string `json:"item_desc"`
	Contact        *struct {
		Consignor string `json:"consignor_contact"`
		Receiver  string `json:"receiver_contact"`
	} `json:"contact"`
}

// Shipping is what the mini program's server has of a payment.
type Shipping struct {
	OrderKey struct {
		Type          int    `json:"order_number_type"`
		TransactionID string `json:"transaction_id"`
		MchID         string `json:"mchid"`
		OutTradeNo    string `json:"out_trade_no"`
	} `json:"order_key"`
	LogisticsType  int              `json:"logistics_type"`
	DeliveryMode   int              `json:"delivery_mode"`
	IsAllDelivered *bool            `json:"is_all_delivered"`
	ShippingList   []ShippingParcel `json:"shipping_list"`
	UploadTime     string           `json:"upload_time"`
	Payer          struct {
		OpenID string `json:"openid"`
	} `json:"payer"`
	// Uploads counts what was taken: 1, and more after it went on or was replaced. Reships
	// counts what of that was 重新发货: 1 at most.
	Uploads int `json:"-"`
	Reships int `json:"-"`
}

// whole reports that all was delivered with it.
func (b *Shipping) whole() bool {
	return b.DeliveryMode == 1 || b.IsAllDelivered != nil && *b.IsAllDelivered
}

// reship reports that b, after had, is 重新发货 by the document: a call for a payment whose
// delivery is complete, or another mode of delivery or logistics.
func (b *Shipping) reship(had *Shipping) bool {
	return had.whole() || b.DeliveryMode != had.DeliveryMode || b.LogisticsType != had.LogisticsType
}

// shippings is the server of mini programs: its token, and what was sent.
type shippings struct {
	mu    sync.Mutex
	token string
	by    map[string]Shipping // by transaction
}

// Shipped gives what was reported as sent for a payment; false for nothing.
func (s *Sim) Shipped(transactionID string) (Shipping, bool) {
	s.shippings.mu.Lock()
	defer s.shippings.mu.Unlock()
	sh, ok := s.shippings.by[transactionID]
	return sh, ok
}

// ShippingToken gives the access token that is valid now, making one if need be.
func (s *Sim) ShippingToken() string {
	s.shippings.mu.Lock()
	defer s.shippings.mu.Unlock()
	if s.shippings.token == "" {
		s.shippings.token = newRequestID(tailOK)
	}
	return s.shippings.token
}

// DropShippingToken lets the access token end, as one that another server has replaced.
func (s *Sim) DropShippingToken() {
	s.shippings.mu.Lock()
	defer s.shippings.mu.Unlock()
	s.shippings.token = ""
}

// miniProgram serves a call of the mini program's server. Nothing of it is signed: the
// access token is all, and every refusal is a 200.
func (s *Sim) miniProgram(handle func(r *http.Request, body []byte) (code int64, answer any)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil || s.o.AppSecret == "" {
			http.NotFound(w, r)
			return
		}
		x := &exchange{r: r, body: body, endpoint: shippingEndpoint}
		var key struct {
			Key struct {
				TransactionID string `json:"transaction_id"`
			} `json:"order_key"`
		}
		_ = json.Unmarshal(body, &key) // a broken body names nothing; it is refused later
		if t := s.findByTransaction(key.Key.TransactionID); t != nil {
			x.outTradeNo = t.v.OutTradeNo
		}
		x.plan = s.takeFaults(shippingEndpoint, x.outTradeNo, "")
		s.pause(x.plan.delay)
		if x.plan.cutBefore {
			s.logRequest(x, answer{}, "cut before handling")
			cut(w)
			return
		}
		if x.plan.status != 0 {
			code, err := strconv.ParseInt(x.plan.code, 10, 64)
			if err != nil {
				w.WriteHeader(x.plan.status)
				return
			}
			s.sayShipping(w, x, code, nil)
			return
		}
		code, answer := handle(r, body)
		switch {
		case x.plan.hold > 0:
			s.logShipping(x, code)
			s.hold(r, x.plan.hold)
			cut(w)
		case x.plan.cutAfter:
			s.logShipping(x, code)
			cut(w)
		default:
			s.sayShipping(w, x, code, answer)
		}
	})
}

func (s *Sim) logShipping(x *exchange, code int64) {
	s.logRequest(x, answer{status: http.StatusOK, code: fmt.Sprint(code)}, x.r.URL.Path)
}

func (s *Sim) sayShipping(w http.ResponseWriter, x *exchange, code int64, body any) {
	s.logShipping(x, code)
	if body == nil {
		text := "ok"
		if code != 0 {
			text = fmt.Sprintf("refused, rid: %s", newRequestID(tailNotSpecified))
		}
		body = map[string]any{"errcode": code, "errmsg": text}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// stableToken is POST /cgi-bin/stable_token: the same token again while it lasts.
func (s *Sim) stableToken(_ *http.Request, body []byte) (int64, any) {
	var b struct {
		GrantType string `json:"grant_type"`
		AppID     string `json:"appid"`
		Secret    string `json:"secret"`
	}
	if json.Unmarshal(body, &b) != nil || b.GrantType != "client_credential" || b.AppID != s.o.Keys.AppID ||
		b.Secret != s.o.AppSecret {
		return errBadSecret, nil
	}
	return 0, map[string]any{"access_token": s.ShippingToken(), "expires_in": shippingTokenFor}
}

// badToken reports that a call has no valid token.
func (s *Sim) badToken(r *http.Request) bool {
	s.shippings.mu.Lock()
	defer s.shippings.mu.Unlock()
	return s.shippings.token == "" || r.URL.Query().Get("access_token") != s.shippings.token
}

// uploadShipping is POST /wxa/sec/order/upload_shipping_info.
func (s *Sim) uploadShipping(r *http.Request, body []byte) (int64, any) {
	if s.badToken(r) {
		return errBadToken, nil
	}
	var b Shipping
	if json.Unmarshal(body, &b) != nil {
		return errMalformed, nil
	}
	if code := b.refusal(); code != 0 {
		return code, nil
	}
	v, known := s.shippable(b.OrderKey.TransactionID)
	switch {
	case !known:
		return errNoPayment, nil
	case v.OpenID != b.Payer.OpenID:
		return errOtherBuyer, nil
	case v.State == StateRefund && s.refundedWhole(v.OutTradeNo):
		return errCannotShip, nil
	}
	s.shippings.mu.Lock()
	defer s.shippings.mu.Unlock()
	had, ok := s.shippings.by[v.TransactionID]
	if ok {
		same := had
		same.UploadTime, same.Uploads, same.Reships = b.UploadTime, 0, 0
		again := b.reship(&had)
		switch {
		case reflect.DeepEqual(same, b):
			return errSame, nil
		case again && had.Reships > 0:
			return errSpent, nil
		}
		if b.Reships = had.Reships; again {
			b.Reships++
		}
	}
	b.Uploads = had.Uploads + 1
	if s.shippings.by == nil {
		s.shippings.by = map[string]Shipping{}
	}
	s.shippings.by[v.TransactionID] = b
	return 0, nil
}

// refusal is what the document refuses of a report by itself, 0 for nothing.
func (b *Shipping) refusal() int64 {
	if _, err := time.Parse(time.RFC3339Nano, b.UploadTime); err != nil {
		return errUploadTime
	}
	switch {
	case b.LogisticsType < 1 || b.LogisticsType > 4:
		return errWay
	case len(b.ShippingList) > maxShippingParcels:
		return errTooMany
	case b.DeliveryMode == 1 && len(b.ShippingList) != 1:
		return errOneParcel
	}
	for _, p := range b.ShippingList {
		switch {
		case p.ItemDesc == "":
			return errNoGoods
		case utf8.RuneCountInString(p.ItemDesc) > 120:
			return errLongGoods
		case b.LogisticsType == 1 && p.TrackingNo == "":
			return errNoNumber
		case b.LogisticsType == 1 && p.ExpressCompany == "":
			return errNoCarrier
		}
	}
	return 0
}

// shippable gives a payment that the server of mini programs knows: one in the mini
// program, a minute old.
func (s *Sim) shippable(transactionID string) (Trade, bool) {
	t := s.findByTransaction(transactionID)
	if t == nil {
		return Trade{}, false
	}
	v := t.snapshot(s)
	age := s.o.Now().Sub(v.SuccessTime)
	return v, v.TradeType == "JSAPI" && age >= s.scaled(knownToShipping)
}

// shippingStatus is POST /wxa/sec/order/get_order.
func (s *Sim) shippingStatus(r *http.Request, body []byte) (int64, any) {
	if s.badToken(r) {
		return errBadToken, nil
	}
	var b struct {
		TransactionID string `json:"transaction_id"`
	}
	if json.Unmarshal(body, &b) != nil {
		return errMalformed, nil
	}
	v, known := s.shippable(b.TransactionID)
	if !known {
		return errNoPayment, nil
	}
	state := 1
	_, sent := s.Shipped(b.TransactionID)
	switch {
	case v.State == StateRefund && s.refundedWhole(v.OutTradeNo):
		state = 5
	case sent:
		state = 2
	}
	return 0, map[string]any{"errcode": 0, "errmsg": "ok", "order": map[string]any{
		"transaction_id": v.TransactionID, "merchant_id": v.MchID, "merchant_trade_no": v.OutTradeNo,
		"openid": v.OpenID, "order_state": state}}
}

// refundedWhole reports that all of a payment has gone back.
func (s *Sim) refundedWhole(outTradeNo string) bool {
	t := s.find(outTradeNo)
	t.mu.Lock()
	defer t.mu.Unlock()
	back := int64(0)
	for _, r := range t.refunds {
		if r.v.State == StateSuccess {
			back += r.v.Amount
		}
	}
	return back >= t.v.Total
}

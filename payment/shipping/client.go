package shipping

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"orderd/migrations/bounds"
)

// DefaultBaseURL is WeChat's server for mini programs.
const DefaultBaseURL = "https://api.weixin.qq.com"

// Bounds of the client.
const (
	// maxAnswer is in bytes; WeChat's are a few hundred.
	maxAnswer = 64 << 10
	// tokenEarly is how long before its end an access token is replaced.
	tokenEarly = 5 * time.Minute
	// tokenLeast is how long a token is kept that does not say when it ends.
	tokenLeast = time.Minute
)

// ClientConfig is what a Client needs. Exactly one of AppSecret and TokenURL is given.
type ClientConfig struct {
	AppID string
	// AppSecret is the mini program's: with it a stable access token is fetched, which is
	// apart from the one of getAccessToken and does not end it
	// (developers.weixin.qq.com: getStableAccessToken).
	AppSecret string
	// TokenURL is the shop's own service of access tokens, which answers a GET with
	// {"access_token": "…", "expires_in": 7200}: WeChat lets few tokens be fetched a day,
	// and a shop often has one place that does.
	TokenURL string
	BaseURL  string // "": DefaultBaseURL
	HTTP     *http.Client
	Now      func() time.Time
}

// Client is WeChat's server for mini programs. No error of it has a token in its text.
type Client struct {
	c ClientConfig

	mu    sync.Mutex // held while a token is fetched: the others wait for it
	token string
	until time.Time
}

// NewClient makes a client; it calls nobody.
func NewClient(c ClientConfig) (*Client, error) {
	if c.AppID == "" || (c.AppSecret == "") == (c.TokenURL == "") {
		return nil, errors.New("shipping: a client needs the mini program's app id, and either its secret or the " +
			"address of a service of access tokens")
	}
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // a token is for one server
			},
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	return &Client{c: c}, nil
}

// CloseIdleConnections ends connections that nobody uses.
func (c *Client) CloseIdleConnections() { c.c.HTTP.CloseIdleConnections() }

// uploadBody is upload_shipping_info's, as its document names the fields.
type uploadBody struct {
	OrderKey struct {
		Type          int    `json:"order_number_type"` // 2: by transaction_id
		TransactionID string `json:"transaction_id"`
	} `json:"order_key"`
	LogisticsType  Way          `json:"logistics_type"`
	DeliveryMode   int          `json:"delivery_mode"` // 1 in one, 2 in several parcels
	IsAllDelivered *bool        `json:"is_all_delivered,omitempty"`
	ShippingList   []parcelBody `json:"shipping_list"`
	UploadTime     string       `json:"upload_time"`
	Payer          struct {
		OpenID string `json:"openid"`
	} `json:"payer"`
}

type parcelBody struct {
	TrackingNo     string       `json:"tracking_no,omitempty"`
	ExpressCompany string       `json:"express_company,omitempty"`
	ItemDesc       string       `json:"item_desc"`
	Contact        *contactBody `json:"contact,omitempty"`
}

type contactBody struct {
	ReceiverContact string `json:"receiver_contact"`
}

// answerBody is what every call of this server answers.
type answerBody struct {
	ErrCode int64  `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
}

// uploadLayout is RFC 3339 with milliseconds, as the document's example has it; without
// them some were refused (268485216).
const uploadLayout = "2006-01-02T15:04:05.000Z07:00"

// beijing is the zone of WeChat's examples.
var beijing = time.FixedZone("CST", 8*60*60)

// Upload reports a content (POST /wxa/sec/order/upload_shipping_info).
func (c *Client) Upload(ctx context.Context, u Upload) (Verdict, error) {
	var b uploadBody
	b.OrderKey.Type, b.OrderKey.TransactionID = 2, u.TransactionID
	b.LogisticsType, b.DeliveryMode = u.Content.Way, 1
	if u.Content.split() {
		all := !u.Content.Partial
		b.DeliveryMode, b.IsAllDelivered = 2, &all
	}
	for _, p := range u.Content.Parcels {
		parcel := parcelBody{TrackingNo: p.Number, ExpressCompany: p.Carrier, ItemDesc: p.Goods}
		if p.Contact != "" {
			parcel.Contact = &contactBody{p.Contact}
		}
		b.ShippingList = append(b.ShippingList, parcel)
	}
	b.UploadTime, b.Payer.OpenID = u.At.In(beijing).Format(uploadLayout), u.OpenID
	var a answerBody
	if err := c.call(ctx, "/wxa/sec/order/upload_shipping_info", b, &a); err != nil {
		return Verdict{}, err
	}
	return c.verdict(a), nil
}

// verdict reads an answer. A token that has ended is fetched again with the next call.
func (c *Client) verdict(a answerBody) Verdict {
	v := Verdict{Code: a.ErrCode, Message: bounds.ShipmentWord.Cut(strings.ToValidUTF8(a.ErrMsg, "?")),
		Means: answers[a.ErrCode]}
	if v.Means == Stale {
		c.mu.Lock()
		c.token = ""
		c.mu.Unlock()
	}
	return v
}

// Status asks what WeChat has of a payment (POST /wxa/sec/order/get_order).
func (c *Client) Status(ctx context.Context, transactionID string) (Status, error) {
	var a struct {
		answerBody
		Order struct {
			TransactionID string `json:"transaction_id"`
			State         Status `json:"order_state"`
		} `json:"order"`
	}
	err := c.call(ctx, "/wxa/sec/order/get_order", map[string]string{"transaction_id": transactionID}, &a)
	switch {
	case err != nil:
		return StatusUnknown, err
	case a.ErrCode != 0:
		v := c.verdict(a.answerBody)
		return StatusUnknown, fmt.Errorf("get_order: %d %s", v.Code, v.Message)
	case a.Order.TransactionID != transactionID: // an answer is about what was asked
		return StatusUnknown, errors.New("get_order: the answer is about another payment")
	}
	return a.Order.State, nil
}

// nobodys is a transaction id that no payment has.
const nobodys = "4200000000000000000000000000"

// Look fetches an access token and asks about a payment that there is none of: it moves
// nothing, and says whether the app id, the secret or the service of access tokens, and the
// right to call are in order. The error is a call without an answer, or a *TokenError; a
// Verdict of Setting or Stale means that WeChat refuses the account or the token.
func (c *Client) Look(ctx context.Context) (Verdict, error) {
	var a answerBody
	if err := c.call(ctx, "/wxa/sec/order/get_order", map[string]string{"transaction_id": nobodys}, &a); err != nil {
		return Verdict{}, err
	}
	return c.verdict(a), nil
}

// call posts a body with the token, and reads the answer.
func (c *Client) call(ctx context.Context, path string, body, answer any) error {
	token, err := c.accessToken(ctx)
	if err != nil {
		return err
	}
	address := c.c.BaseURL + path + "?access_token=" + url.QueryEscape(token)
	return c.exchange(ctx, http.MethodPost, address, path, body, answer)
}

// exchange makes a request and reads its JSON. name stands for the address in errors: the
// address has a secret in it.
func (c *Client) exchange(ctx context.Context, method, address, name string, body, answer any) error {
	var payload io.Reader
	if body != nil {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // WeChat takes \u003c as it stands
		if err := enc.Encode(body); err != nil {
			return err
		}
		payload = &b
	}
	r, err := http.NewRequestWithContext(ctx, method, address, payload)
	if err != nil {
		return fmt.Errorf("%s: the address is none", name)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := c.c.HTTP.Do(r)
	if err != nil {
		var u *url.Error // prints the address
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP status %d", name, res.StatusCode)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: the answer is no JSON", name)
	}
	return nil
}

// accessToken gives a token that is valid, fetching one if need be.
func (c *Client) accessToken(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" && c.c.Now().Before(c.until) {
		return c.token, nil
	}
	var a struct {
		answerBody
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"` // seconds
	}
	var err error
	if c.c.TokenURL != "" {
		err = c.exchange(ctx, http.MethodGet, c.c.TokenURL, "the service of access tokens", nil, &a)
	} else {
		err = c.exchange(ctx, http.MethodPost, c.c.BaseURL+"/cgi-bin/stable_token", "stable_token", map[string]any{
			"grant_type": "client_credential", "appid": c.c.AppID, "secret": c.c.AppSecret}, &a)
	}
	switch {
	case err != nil:
		return "", err
	case a.AccessToken == "":
		return "", &TokenError{Code: a.ErrCode, Message: bounds.ShipmentWord.Cut(a.ErrMsg)}
	}
	kept := max(time.Duration(a.ExpiresIn)*time.Second-tokenEarly, tokenLeast)
	c.token, c.until = a.AccessToken, c.c.Now().Add(kept)
	return c.token, nil
}

// TokenError is a refusal of an access token: the app id or the secret is wrong, or this
// machine's address is not on the account's list (40164).
type TokenError struct {
	Code    int64
	Message string
}

// Passing reports that nothing is wrong with the settings: WeChat is busy, or was asked too
// often.
func (e *TokenError) Passing() bool { return answers[e.Code] == Later }

func (e *TokenError) Error() string {
	return fmt.Sprintf("no access token: %d %s; check the mini program's app id, its secret, and the list of "+
		"addresses that may use it", e.Code, e.Message)
}

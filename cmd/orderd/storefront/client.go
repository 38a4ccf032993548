package storefront

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// callTimeout is more than the API's longest answer, a cancel of up to 15 seconds.
	callTimeout = 20 * time.Second
	// maxAnswer bounds an answer of the API, in bytes.
	maxAnswer = 1 << 20
	// maxEntry bounds a line of the simulator's log, in bytes.
	maxEntry = 64 << 10
)

// client speaks to the customers' API and to the simulator.
type client struct {
	api, sim string
	key      string
	token    func(customer string) (string, error)
	http     *http.Client
}

// problem is an answer of the API that is no success. Code names it.
type problem struct {
	Status int
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Code, p.Detail) }

// refusal is what the simulator's buyer is told who cannot pay.
type refusal struct {
	Status int
	Text   string `json:"error"`
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Text) }

// amount is in fen.
type amount struct {
	Total int64 `json:"total"`
}

// goods is a SKU as the API shows it; Available is nil when there is no limit.
type goods struct {
	SkuID     string `json:"sku_id"`
	Title     string `json:"title"`
	Price     amount `json:"price"`
	Available *int64 `json:"available"`
}

// Order states and those of refunds, as the API writes them.
const (
	pending   = "pending"
	closing   = "closing"
	closed    = "closed"
	paid      = "paid"
	late      = "late"
	refunding = "refunding"
	refunded  = "refunded"

	askedFor = "PENDING_APPROVAL"
	success  = "SUCCESS"
)

// orderView is an order as the API shows it to its customer.
type orderView struct {
	OrderNo string `json:"order_no"`
	State   string `json:"state"`
	Version int64  `json:"version"`
	Amount  amount `json:"amount"`
	Items   []struct {
		SkuID    string `json:"sku_id"`
		Quantity int64  `json:"quantity"`
	} `json:"items"`
	CreatedAt   time.Time    `json:"created_at"`
	TimeExpire  time.Time    `json:"time_expire"`
	CloseReason string       `json:"close_reason"`
	Refunds     []refundView `json:"refunds"`
}

// refundView is a refund of it. Kind is aftersale for one that was asked for, late or duplicate for money that goes
// back by itself.
type refundView struct {
	OutRefundNo  string `json:"out_refund_no"`
	RefundStatus string `json:"refund_status"`
	Kind         string `json:"kind"`
	Amount       struct {
		Refund int64 `json:"refund"`
	} `json:"amount"`
}

// entry is a line of the simulator's log.
type entry struct {
	Seq         int       `json:"seq"`
	At          time.Time `json:"at"`
	Kind        string    `json:"kind"`
	Endpoint    string    `json:"endpoint"`
	Event       string    `json:"event"`
	OutTradeNo  string    `json:"out_trade_no"`
	OutRefundNo string    `json:"out_refund_no"`
	State       string    `json:"state"`
	Amount      int64     `json:"amount"`
	Status      int       `json:"status"`
	Code        string    `json:"code"`
}

// call is one request of the API: as the shop (the key, for a customer or for nobody) or, with own, as the
// customer.
type call struct {
	method, path string
	customer     string
	own          bool
	idempotency  string
	english      bool
	body, into   any
}

// ask sends a call and decodes a success into into; *[]byte gets it as it is. Another status is a *problem.
func (c *client) ask(ctx context.Context, q call) error {
	var body io.Reader
	if q.body != nil {
		text, err := json.Marshal(q.body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, q.method, "http://"+c.api+q.path, body)
	if err != nil {
		return err
	}
	bearer := c.key
	if q.own {
		if bearer, err = c.token(q.customer); err != nil {
			return err
		}
	} else if q.customer != "" {
		r.Header.Set("Orderd-Customer", q.customer)
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Accept-Language", map[bool]string{false: "zh-CN", true: "en"}[q.english])
	if q.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.idempotency != "" {
		r.Header.Set("Idempotency-Key", q.idempotency)
	}
	status, text, err := c.send(r)
	if err != nil {
		return err
	}
	if status >= http.StatusMultipleChoices {
		p := &problem{Status: status}
		_ = json.Unmarshal(text, p) // what is no problem has a status alone
		return p
	}
	if raw, ok := q.into.(*[]byte); ok {
		*raw = text
		return nil
	}
	if q.into == nil {
		return nil
	}
	return json.Unmarshal(text, q.into)
}

// send gives status and body of an answer of any status.
func (c *client) send(r *http.Request) (int, []byte, error) {
	res, err := c.http.Do(r) //nolint:gosec // G704: the address is a listener of this process, the path has no host
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, text, err
}

// goods gives what the API knows of SKUs, in the order asked.
func (c *client) goods(ctx context.Context, ids []string) ([]goods, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var page struct {
		Data []goods `json:"data"`
	}
	err := c.ask(ctx, call{method: http.MethodGet, path: "/v1/skus?ids=" + url.QueryEscape(strings.Join(ids, ",")),
		into: &page})
	return page.Data, err
}

// control asks something of the simulator; a refusal is a *refusal.
func (c *client) control(ctx context.Context, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	//nolint:gosec // G704: the address is the simulator's, and the path begins with ours
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.sim+"/control/"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	status, answer, err := c.send(r)
	if err == nil && status >= http.StatusMultipleChoices {
		no := &refusal{Status: status}
		_ = json.Unmarshal(answer, no) // what is no refusal has a status alone
		err = no
	}
	return err
}

// log hands over what the simulator logged behind an entry, one by one.
func (c *client) log(ctx context.Context, since int, each func(entry)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.sim+"/control/log?since="+strconv.Itoa(since),
		nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New("log of the simulator: " + res.Status)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEntry)
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		each(e)
	}
	return lines.Err()
}

package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
	"orderd/stock"
)

type httpCmd struct {
	Callers   int `default:"256" help:"Concurrent connections."`
	Callbacks int `default:"16000" help:"Callbacks per round of order.Service; signing them beforehand takes a millisecond each."`
}

// Run measures placement and callbacks over HTTP, everything on this machine:
// token check, JSON, idempotency; RSA verify, decrypt, commit.
func (h *httpCmd) Run(ctx context.Context, c *cli) error {
	b, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer b.server.Stop()
	db, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := service(db, 0, 0)
	if err != nil {
		return err
	}
	defer s.Close()
	many := int64(stock.MaxStock)
	if _, _, err := stock.NewAdmin(db, time.Now).Put(ctx, stock.Put{SkuID: sku(0), Title: "bench", PriceFen: 100, Quantity: &many}); err != nil {
		return err
	}
	naive, err := naivePool(b.server.DSN(fmt.Sprintf("bench%d", b.created)))
	if err != nil {
		return err
	}
	defer naive.Close()
	naive.SetMaxOpenConns(16)
	fmt.Println("| over HTTP | connections | per s | p50 | p99 | ratio |\n|---|---|---|---|---|---|")
	if err := h.placements(ctx, b, db, s, naive); err != nil {
		return err
	}
	if err := h.callbacks(ctx, b, s, naive); err != nil {
		return err
	}
	return verified(ctx, db)
}

const benchSecret = "0123456789abcdef0123456789abcdef"

func (h *httpCmd) placements(ctx context.Context, b *bench, db *sqldb.DB, s *order.Service, naive *sql.DB) error {
	token, err := orderhttp.MintToken([]byte(benchSecret), "c1", time.Now(), time.Hour)
	if err != nil {
		return err
	}
	var samples [2][]sample
	for range b.rounds {
		for i, orders := range []orderhttp.Orders{&naiveOrders{s, naive}, s} {
			tokens, err := orderhttp.NewSecretVerifier([]byte(benchSecret), time.Now)
			if err != nil {
				return err
			}
			free := orderhttp.Rate{Burst: -1}
			e, err := orderhttp.New(orderhttp.Options{Orders: orders, SKUs: stock.NewAdmin(db, time.Now), Tokens: tokens, Now: time.Now,
				Limits: orderhttp.Limits{Place: free, Pay: free, Read: free, Query: free}})
			if err != nil {
				return err
			}
			run := ulid.Make().String()
			got, err := h.serve(ctx, e, b.length, func(ctx context.Context, client *http.Client, url string, n int64) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/orders", bytes.NewReader([]byte(`{"items":[{"sku_id":"sku0000","quantity":1}]}`)))
				if err != nil {
					return err
				}
				req.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Idempotency-Key": {fmt.Sprint(run, "-", n)}}
				return send(client, req, http.StatusCreated)
			})
			if err != nil {
				return err
			}
			samples[i] = append(samples[i], got)
		}
	}
	h.rows("placement", samples)
	return nil
}

func (h *httpCmd) callbacks(ctx context.Context, b *bench, s *order.Service, naive *sql.DB) error {
	signer, gateway, err := newSigner()
	if err != nil {
		return err
	}
	var samples [2][]sample
	for range b.rounds {
		for i, settler := range []orderhttp.Settler{&naiveOrders{s, naive}, s} {
			count := h.Callbacks
			if i == 0 {
				count /= 4
			}
			nos, err := placeMany(ctx, s, count)
			if err != nil {
				return err
			}
			requests := signer.sign(nos)
			e, err := orderhttp.NewNotify(orderhttp.NotifyOptions{Settler: settler, Notifications: gateway, Now: time.Now})
			if err != nil {
				return err
			}
			var next, last atomic.Int64
			start := time.Now()
			got, err := h.serve(ctx, e, b.length, func(ctx context.Context, client *http.Client, url string, _ int64) error {
				k := next.Add(1) - 1
				if k >= int64(len(requests)) {
					time.Sleep(time.Millisecond) // used up: idle until the measurement ends
					return errNoMoreOrders
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+orderhttp.PathNotifyPayment, bytes.NewReader(requests[k].body))
				if err != nil {
					return err
				}
				req.Header = requests[k].header
				err = send(client, req, http.StatusNoContent)
				last.Store(int64(time.Since(start)))
				return err
			})
			if err != nil {
				return err
			}
			got.took = time.Duration(last.Load())
			if got.done < int64(len(requests)) && next.Load() > int64(len(requests)) {
				return fmt.Errorf("%d of %d callbacks were accepted", got.done, len(requests))
			}
			samples[i] = append(samples[i], got)
		}
	}
	h.rows("callback", samples)
	return nil
}

func (h *httpCmd) rows(what string, samples [2][]sample) {
	n, o := median(samples[0]), median(samples[1])
	row(what+", a transaction each", h.Callers, n.rate(), n.p50, n.p99, "1")
	row(what+", **order.Service**", h.Callers, o.rate(), o.p50, o.p99, fmt.Sprintf("**%.1f ×**", o.rate()/n.rate()))
}

// serve runs a handler on loopback and a closed loop of clients against it.
func (h *httpCmd) serve(ctx context.Context, handler http.Handler, length time.Duration, do func(ctx context.Context, c *http.Client, url string, n int64) error) (sample, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return sample{}, err
	}
	srv := orderhttp.Server(handler)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: h.Callers, MaxConnsPerHost: h.Callers}}
	got := closedLoop(ctx, h.Callers, length, func(ctx context.Context, n int64) error { return do(ctx, client, "http://"+l.Addr().String(), n) })
	client.CloseIdleConnections()
	if err := srv.Shutdown(context.WithoutCancel(ctx)); err != nil {
		return got, err
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return got, err
	}
	return got, nil
}

func send(client *http.Client, req *http.Request, want int) error {
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != want {
		return fmt.Errorf("answered %d", res.StatusCode)
	}
	return nil
}

// naiveOrders places and settles with a transaction each and is order.Service
// in everything else.
type naiveOrders struct {
	*order.Service
	db *sql.DB
}

// Place places in a transaction of its own.
func (n *naiveOrders) Place(ctx context.Context, p order.Placement) (order.Placed, error) {
	no, now := ulid.Make().String(), time.Now()
	for {
		err := naiveTx(ctx, n.db, no, p.CustomerID, p.RequestID, p.Lines[0].SkuID, now.UnixMilli())
		if sqldb.Classify(err) == sqldb.ClassRetry {
			continue
		}
		return order.Placed{Order: order.Order{OrderNo: no, CustomerID: p.CustomerID, State: order.StatePending, Version: 1, Total: 100,
			Items: []order.Item{{LineNo: 1, SkuID: p.Lines[0].SkuID, Quantity: 1, UnitPrice: 100}}, CreatedAt: now, ExpireAt: now.Add(30 * time.Minute)}}, err
	}
}

// Settle settles in a transaction of its own.
func (n *naiveOrders) Settle(ctx context.Context, t payment.Trade, _ order.Cause) (order.Settlement, error) {
	no := t.OutTradeNo[:len(t.OutTradeNo)-3]
	return order.Settlement{OrderNo: no, Settled: order.SettledApplied, State: order.StatePaid}, naivePay(ctx, n.db, no)
}

// signer makes payment notifications as WeChat Pay would.
type signer struct {
	key  *rsa.PrivateKey
	aead cipher.AEAD
}

const benchKeyID = "PUB_KEY_ID_0000000000000001"

func newSigner() (*signer, *wechat.Gateway, error) {
	keys, err := wechatsim.GenerateKeys(mchID, appID)
	if err != nil {
		return nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	c := keys.Client()
	block, err := aes.NewCipher([]byte(c.APIv3Key))
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, err
	}
	g, err := wechat.New(wechat.Config{MchID: c.MchID, AppID: c.AppID, SerialNo: c.SerialNo, PrivateKeyPEM: c.PrivateKeyPEM, APIv3Key: c.APIv3Key,
		VerifyKeys: map[string][]byte{benchKeyID: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}, Now: time.Now})
	return &signer{key, aead}, g, err
}

type callback struct {
	header http.Header
	body   []byte
}

// sign makes one notification per order, on all cores.
func (s *signer) sign(nos []string) []callback {
	all := make([]callback, len(nos))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(nos)); i = next.Add(1) - 1 {
				all[i] = s.one(nos[i])
			}
		})
	}
	wg.Wait()
	return all
}

func (s *signer) one(no string) callback {
	t := paidTrade(no)
	plain, _ := json.Marshal(map[string]any{"mchid": mchID, "appid": appID, "out_trade_no": t.OutTradeNo, "transaction_id": t.TransactionID,
		"trade_type": "NATIVE", "trade_state": "SUCCESS", "trade_state_desc": "支付成功", "bank_type": "OTHERS", "attach": "",
		"success_time": time.Now().Format(time.RFC3339), "payer": map[string]any{"openid": "o"},
		"amount": map[string]any{"total": 100, "payer_total": 100, "currency": "CNY", "payer_currency": "CNY"}})
	nonce := no[:12]
	body, _ := json.Marshal(map[string]any{"id": no, "create_time": time.Now().Format(time.RFC3339), "event_type": "TRANSACTION.SUCCESS",
		"resource_type": "encrypt-resource", "summary": "支付成功", "resource": map[string]any{"original_type": "transaction", "algorithm": "AEAD_AES_256_GCM",
			"ciphertext":      base64.StdEncoding.EncodeToString(s.aead.Seal(nil, []byte(nonce), plain, []byte("transaction"))),
			"associated_data": "transaction", "nonce": nonce}})
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	sum := sha256.Sum256([]byte(stamp + "\n" + no + "\n" + string(body) + "\n"))
	sig, err := rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // our own key cannot be too small
	}
	return callback{body: body, header: http.Header{"Content-Type": {"application/json"}, "Wechatpay-Timestamp": {stamp}, "Wechatpay-Nonce": {no},
		"Wechatpay-Signature": {base64.StdEncoding.EncodeToString(sig)}, "Wechatpay-Serial": {benchKeyID}, "Wechatpay-Signature-Type": {"WECHATPAY2-SHA256-RSA2048"}}}
}

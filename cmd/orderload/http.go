package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/order/orderhttp"
	"orderd/payment/echoes"
	"orderd/stock"
)

// httpCmd is "orderload http": what a placement and a callback cost with everything
// around them that a request has.
type httpCmd struct {
	Callers   int `default:"256" help:"Concurrent connections."`
	Callbacks int `default:"16000" help:"${http_callbacks}"`
}

// naiveHTTPConns is the pool at which the naive peer does best over HTTP, where clients
// and handlers share the cores with the database: its best, as everywhere.
const naiveHTTPConns = 16

// Run measures placement and callbacks over HTTP, everything on this machine: token
// check, JSON, idempotency; RSA verify, decrypt, commit. Both sides share the pool of
// callers and the handlers.
func (h *httpCmd) Run(ctx context.Context, set *bench.Settings) error {
	server, err := set.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	shop, err := server.NewShop(ctx, bench.ShopOptions{SKUs: 1, NaiveConns: naiveHTTPConns})
	if err != nil {
		return err
	}
	defer shop.Close()
	// Both sides use the same handlers: only Place and Settle behind them differ.
	bench.Header("over HTTP", "connections", "per s", "p50", "p99", "ratio")
	naive := &bench.NaiveOrders{Service: shop.Orders, Naive: shop.Naive}
	if err := h.placements(ctx, set, shop, naive); err != nil {
		return err
	}
	if err := h.callbacks(ctx, set, shop, naive); err != nil {
		return err
	}
	return shop.Verify(ctx)
}

// benchSecret signs the customers' tokens: as long as orderd demands, 32 bytes.
const benchSecret = "0123456789abcdef0123456789abcdef"

// placements compares the two sides placing an order of one unit, by one customer, whose
// limits are off.
func (h *httpCmd) placements(ctx context.Context, set *bench.Settings, shop *bench.Shop,
	naive *bench.NaiveOrders) error {
	token, err := orderhttp.MintToken([]byte(benchSecret), "c1", time.Now(), time.Hour)
	if err != nil {
		return err
	}
	const body = `{"items":[{"sku_id":"sku0000","quantity":1}]}`
	side := func(orders orderhttp.Orders) func() (bench.Sample, error) {
		return func() (bench.Sample, error) {
			handler, err := placementHandler(orders, shop)
			if err != nil {
				return bench.Sample{}, err
			}
			run := ulid.Make().String() // Idempotency-Keys of this round: no request is a repeat
			return h.serve(ctx, handler, func(c *client) bench.Sample {
				return bench.ClosedLoop(ctx, h.Callers, set.Length(), func(ctx context.Context, n int64) error {
					header := http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"},
						"Idempotency-Key": {fmt.Sprint(run, "-", n)}}
					return c.post(ctx, "/v1/orders", header, []byte(body), http.StatusCreated)
				})
			})
		}
	}
	n, o, err := bench.TakeTurns(set.Rounds, side(naive), side(shop.Orders))
	if err == nil {
		h.rows("placement", n, o)
	}
	return err
}

// placementHandler is the customers' interface without limits of its rate: they would be
// what is measured. A negative Burst is no limit.
func placementHandler(orders orderhttp.Orders, shop *bench.Shop) (http.Handler, error) {
	tokens, err := orderhttp.NewSecretVerifier([]byte(benchSecret), time.Now)
	if err != nil {
		return nil, err
	}
	free := orderhttp.Rate{Burst: -1}
	return orderhttp.New(orderhttp.Options{Orders: orders, SKUs: stock.NewAdmin(shop.DB.DB, time.Now),
		Tokens: tokens, Now: time.Now, Limits: orderhttp.Limits{Place: free, Pay: free, Read: free, Query: free}})
}

// callbacks compares the two sides taking in signed notifications, each of an order of
// its own, all signed before the measurement.
func (h *httpCmd) callbacks(ctx context.Context, set *bench.Settings, shop *bench.Shop,
	naive *bench.NaiveOrders) error {
	signer, gateway, err := newSigner()
	if err != nil {
		return err
	}
	side := func(settler orderhttp.Settler, count int) func() (bench.Sample, error) {
		return func() (bench.Sample, error) {
			nos, err := shop.PlaceMany(ctx, count)
			if err != nil {
				return bench.Sample{}, err
			}
			signed, err := signer.sign(nos)
			if err != nil {
				return bench.Sample{}, err
			}
			handler, err := orderhttp.NewNotify(orderhttp.NotifyOptions{Settler: settler, Notifications: gateway,
				Echoes: echoes.New(shop.DB.DB, time.Now), Now: time.Now})
			if err != nil {
				return bench.Sample{}, err
			}
			// A rate made of refused callbacks would be a lie; a round that ended by its
			// time has not delivered all of them.
			got, err := h.serve(ctx, handler, func(c *client) bench.Sample {
				return bench.Drain(ctx, h.Callers, set.Length(), count, func(ctx context.Context, i int) error {
					n := signed[i]
					return c.post(ctx, orderhttp.PathNotifyPayment, n.header, n.body, http.StatusNoContent)
				})
			})
			if err == nil && got.Failed > 0 && got.Done+got.Failed == int64(count) {
				err = fmt.Errorf("%d of %d callbacks were accepted", got.Done, count)
			}
			return got, err
		}
	}
	n, o, err := bench.TakeTurns(set.Rounds, side(naive, h.Callbacks/naiveRoundShare),
		side(shop.Orders, h.Callbacks))
	if err == nil {
		h.rows("callback", n, o)
	}
	return err
}

// rows prints both sides. The ratio is ours to the naive peer's.
func (h *httpCmd) rows(what string, n, o bench.Sample) {
	bench.Row(what+", a transaction each", h.Callers, n.Rate(), n.P50, n.P99, "1")
	bench.Row(what+", **order.Service**", h.Callers, o.Rate(), o.P50, o.P99, bench.Times(o.Rate()/n.Rate()))
}

// serve runs a handler on loopback with the server of orderd (orderhttp.Server), measures
// against it, and stops it.
func (h *httpCmd) serve(ctx context.Context, handler http.Handler, measure func(*client) bench.Sample) (
	s bench.Sample, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return s, err
	}
	srv := orderhttp.Server(handler)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	c := &client{url: "http://" + l.Addr().String(), http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: h.Callers, MaxConnsPerHost: h.Callers}}}
	s = measure(c)
	c.http.CloseIdleConnections()
	if err := srv.Shutdown(context.WithoutCancel(ctx)); err != nil {
		return s, err
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return s, err
	}
	return s, nil
}

// client posts to the handler under measurement, over a connection per caller: in this
// process, on the same cores as the handler and the database, so the ratios are smaller
// than without HTTP.
type client struct {
	url  string
	http *http.Client
}

// post sends one request; any status but want is an error, so that an answer that refused
// does not count as one that worked.
func (c *client) post(ctx context.Context, path string, header http.Header, body []byte, want int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = header
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil { // or the connection is not used again
		return err
	}
	if res.StatusCode != want {
		return fmt.Errorf("answered %d", res.StatusCode)
	}
	return nil
}

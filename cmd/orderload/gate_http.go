package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderload/bench"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/stock"
)

// overHTTP compares refusals from memory with an answer that costs nothing but HTTP and JSON,
// and with placements. Client and server are in this process.
func (r *gateRefuseCmd) overHTTP(ctx context.Context, set *bench.Settings, shop *bench.Shop) ([]gateRow, error) {
	p, err := startRefuser(ctx, shop)
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.close() }()
	api, err := limitedHandler(p.Orders, shop)
	if err != nil {
		return nil, err
	}
	senders, err := newSenders(r.Callers)
	if err != nil {
		return nil, err
	}
	server := httpCmd{Callers: r.Callers}
	side := func(h http.Handler, sku string, want int) func() (bench.Sample, error) {
		return func() (bench.Sample, error) {
			return server.serve(ctx, h, func(c *client) bench.Sample { return senders.post(ctx, set, c, sku, want) })
		}
	}
	noop, err := noopHandler(ctx, &server, api, senders)
	if err != nil {
		return nil, err
	}
	counts := make([]refusalCount, 3) // the first side is not counted
	names := []string{"JSON in and out and nothing else (net/http)", "placement, 201", "**refused by a mark**, 409"}
	samples, err := bench.Turns(set.Rounds,
		side(noop, hotSKU, http.StatusConflict),
		p.counted(ctx, &counts[1], side(api, bench.SKU(0), http.StatusCreated)),
		p.counted(ctx, &counts[2], side(api, hotSKU, http.StatusConflict)))
	if err != nil {
		return nil, err
	}
	var rows []gateRow
	for i, s := range samples {
		counted := []any{"–", "–"}
		if i > 0 {
			counted = counts[i].cells()
		}
		rows = append(rows, gateRow{names[i], append(append([]any{r.Callers, s.Rate(), s.P50, s.P99}, counted...),
			ratio(s.Rate(), samples[0].Rate()))})
		err = errors.Join(err, noneFailed(names[i], s))
	}
	rows = append(rows, gateRow{"refused against placed", []any{"", "", "", "", "", "",
		ratio(samples[2].Rate(), samples[1].Rate())}})
	return rows, errors.Join(err, silent(&counts[2], &counts[1]))
}

// limitedHandler is the customers' interface with its limiter at work and a limit that nobody
// reaches.
func limitedHandler(orders orderhttp.Orders, shop *bench.Shop) (http.Handler, error) {
	tokens, err := orderhttp.NewSecretVerifier([]byte(benchSecret), time.Now)
	if err != nil {
		return nil, err
	}
	wide := orderhttp.Rate{Every: time.Microsecond, Burst: 1_000_000}
	return orderhttp.New(orderhttp.Options{Orders: orders, SKUs: stock.NewAdmin(shop.DB.DB, time.Now),
		Tokens: tokens, Now: time.Now, Limits: orderhttp.Limits{Place: wide, Pay: wide, Read: wide, Query: wide}})
}

// senders are the customers, one for each connection.
type senders struct{ tokens []string }

// newSenders mints their tokens.
func newSenders(n int) (*senders, error) {
	s := &senders{}
	for i := range n {
		token, err := orderhttp.MintToken([]byte(benchSecret), fmt.Sprint("c", i), time.Now(), time.Hour)
		if err != nil {
			return nil, err
		}
		s.tokens = append(s.tokens, token)
	}
	return s, nil
}

// header is that of a placement under a key.
func (s *senders) header(n int64, key string) http.Header {
	return http.Header{"Authorization": {"Bearer " + s.tokens[n%int64(len(s.tokens))]},
		"Content-Type": {"application/json"}, "Idempotency-Key": {key}}
}

// orderBody asks for one unit.
func orderBody(sku string) []byte {
	return []byte(`{"items":[{"sku_id":"` + sku + `","quantity":1}]}`)
}

// post places one unit of a SKU in a closed loop; every answer has the status.
func (s *senders) post(ctx context.Context, set *bench.Settings, c *client, sku string, want int) bench.Sample {
	run, body := ulid.Make().String(), orderBody(sku)
	return bench.ClosedLoop(ctx, len(s.tokens), set.Length(), func(ctx context.Context, n int64) error {
		return c.post(ctx, "/v1/orders", s.header(n, fmt.Sprint(run, "-", n)), body, want)
	})
}

// noopHandler decodes the body of a placement and answers what a refusal answers, byte by byte.
func noopHandler(ctx context.Context, server *httpCmd, api http.Handler, s *senders) (http.Handler, error) {
	var refusal []byte
	_, err := server.serve(ctx, api, func(c *client) (none bench.Sample) {
		refusal = c.body(ctx, "/v1/orders", s.header(0, ulid.Make().String()), orderBody(hotSKU))
		return none
	})
	if err != nil || !bytes.Contains(refusal, []byte(orderhttp.CodeStockInsufficient)) {
		return nil, errors.Join(err, fmt.Errorf("a refusal is answered with %q", refusal))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var into struct {
			Items []order.Item `json:"items"`
		}
		if err := json.NewDecoder(r.Body).Decode(&into); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write(refusal) // who hangs up is counted by the client
	}), nil
}

// body posts and gives the answer's body, nil without an answer.
func (c *client) body(ctx context.Context, path string, header http.Header, body []byte) []byte {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil
	}
	req.Header = header
	res, err := c.http.Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		return nil
	}
	return all
}

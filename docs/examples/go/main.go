// Command shop is a shop's back end in about a hundred lines: it places an order, hands out what a
// buyer pays with, hears by webhook that it is paid, sends the goods, and refunds.
//
// Its client is generated from the document: go generate, then go run .
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -generate types,client -package main -o client.gen.go ../../openapi.yaml

// event is a webhook's body: thin, so that the order in which they arrive cannot mislead. Whoever
// wants to know more reads the order.
type event struct {
	Type string `json:"type"`
	Data struct {
		OrderNo string `json:"order_no"`
	} `json:"data"`
}

// hooks answers webhooks with 204 when they are orderd's, and hands them on. A webhook may come
// twice: what it starts must bear that.
func hooks(secret string, events chan<- event) http.HandlerFunc {
	signed, err := standardwebhooks.NewWebhook(secret)
	check(err)
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err == nil {
			err = signed.Verify(body, r.Header) // who sent it, and not long ago
		}
		var e event
		if err == nil {
			err = json.Unmarshal(body, &e)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		events <- e // a real shop commits it here, and works on it afterwards
		w.WriteHeader(http.StatusNoContent)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	events := make(chan event, 100)
	go func() { check(http.ListenAndServe(os.Getenv("LISTEN"), hooks(os.Getenv("WEBHOOK_SECRET"), events))) }()

	// The shop's key, and for whom it acts.
	shop, err := NewClientWithResponses(os.Getenv("BASE"), WithRequestEditorFn(
		func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
			r.Header.Set("Orderd-Customer", "c1")
			return nil
		}))
	check(err)

	// The key makes a repeat the same order: on an error or a 5xx ask again with it. The reference is
	// the shop's own number, in every webhook about the order.
	cart := "cart-" + os.Getenv("CART")
	placed, err := shop.PlaceOrderWithResponse(ctx, &PlaceOrderParams{IdempotencyKey: cart},
		Placement{Reference: &cart, Items: []struct {
			Quantity int64 `json:"quantity"`
			SkuId    SkuID `json:"sku_id"`
		}{{SkuId: "1001", Quantity: 2}}})
	check(err)
	if placed.JSON201 == nil {
		log.Fatalf("not placed: %s", placed.Body) // 409: sold out; 202: it waits in the queue of a sale
	}
	no := placed.JSON201.OrderNo

	var payer PrepayRequest
	payer.TradeType = "JSAPI"
	check(json.Unmarshal([]byte(`{"payer":{"openid":"o6_test"}}`), &payer))
	pay, err := shop.PrepayOrderWithResponse(ctx, no, payer)
	check(err)
	if pay.JSON200 == nil || pay.JSON200.Jsapi == nil {
		log.Fatalf("nothing to pay with: %s", pay.Body)
	}
	fmt.Println("pay", no, pay.JSON200.Jsapi.PaySign) // what the page hands to wx.requestPayment

	await(ctx, events, "order.paid", no)
	order, err := shop.GetOrderWithResponse(ctx, no, &GetOrderParams{})
	check(err)
	fmt.Printf("paid: send the goods: %s\n", order.Body)

	// One of the two comes back. The amount is the service's: it knows what was paid.
	refund, err := shop.AskRefundWithResponse(ctx, no, &AskRefundParams{IdempotencyKey: "return-" + no},
		AskRefundJSONRequestBody{Reason: "too small", Items: &[]struct {
			Quantity int64  `json:"quantity"`
			SkuId    string `json:"sku_id"`
		}{{SkuId: "1001", Quantity: 1}}})
	check(err)
	if refund.JSON201 == nil {
		log.Fatalf("no refund: %s", refund.Body)
	}
	fmt.Println("refund", refund.JSON201.OutRefundNo) // a person approves it
	await(ctx, events, "refund.succeeded", no)
	fmt.Println("done")
}

// await waits for a webhook about an order.
func await(ctx context.Context, events <-chan event, kind, orderNo string) {
	for {
		select {
		case e := <-events:
			if e.Type == kind && e.Data.OrderNo == orderNo {
				return
			}
		case <-ctx.Done():
			log.Fatalf("no %s of %s: %v", kind, orderNo, ctx.Err())
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

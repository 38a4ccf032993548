package feed

import (
	"encoding/json"
	"strconv"
	"time"
)

// Message is the body of an event, as the API's contract has it.
type Message struct {
	Type      Type        `json:"type"`
	Timestamp string      `json:"timestamp"`
	Data      MessageData `json:"data"`
}

// MessageData is what an event is about; what it is not about is left out.
type MessageData struct {
	OrderNo       string `json:"order_no,omitempty"`
	Version       int64  `json:"version,omitempty"`
	State         string `json:"state,omitempty"`
	Reference     string `json:"reference,omitempty"` // the shop's own number for the order
	OutRefundNo   string `json:"out_refund_no,omitempty"`
	TransactionID string `json:"transaction_id,omitempty"`
	SkuID         string `json:"sku_id,omitempty"`     // of stock.low
	Bill          string `json:"bill,omitempty"`       // a day and the type of its bill
	WebhookID     string `json:"webhook_id,omitempty"` // of endpoint.disabled
}

// Message is the event as the shop is told it.
func (e *Event) Message() Message {
	m := Message{Type: e.Type, Timestamp: e.At.UTC().Format(time.RFC3339Nano),
		Data: MessageData{OrderNo: e.OrderNo, Version: e.Version, State: e.State, Reference: e.Reference}}
	switch e.Type {
	case RefundAsked, RefundDone, RefundFailed:
		m.Data.OutRefundNo = e.Ref
	case OrderPaid, OrderLate, PaymentHeld:
		m.Data.TransactionID = e.Ref
	case OrderRefunded:
		m.Data.OutRefundNo = e.Ref
	case StockLow:
		m.Data.SkuID = e.Ref
	case ReconcileDone:
		m.Data.Bill = e.Ref
	case EndpointClosed:
		m.Data.WebhookID = e.Ref
	case OrderCreated, OrderClosed:
	}
	return m
}

// Body is what is sent of an event. It is the same at every try.
func Body(e *Event) []byte {
	body, _ := json.Marshal(e.Message()) // texts and numbers
	return body
}

// MessageID is webhook-id of an event: the same at every try and every endpoint.
func MessageID(event int64) string { return "evt_" + strconv.FormatInt(event, 10) }

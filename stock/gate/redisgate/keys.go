package redisgate

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
)

// Bucket names one bucket of a sale, as one opening of it knows it. It holds a part of
// every SKU of the sale.
type Bucket struct {
	Sale string // what is sold together; without braces, which would move the hash tag
	No   int64
	// Token is of the opening, 1 or more: every opening of the same number needs a higher
	// one. Calls with another token than that of the last opening are ErrNotReady.
	Token int64
}

// token is Token as Redis holds it.
func (b Bucket) token() string { return strconv.FormatInt(b.Token, 10) }

// keys makes the names of a bucket's keys.
type keys struct{ prefix, tag string }

// keys gives the names of the bucket's keys in this home.
func (h *Home) keys(b Bucket) keys {
	return keys{h.prefix, "{" + b.Sale + "/" + strconv.FormatInt(b.No, 10) + "}"}
}

// Fields and members of these keys:
//
//	gate    hash: tok, st open|closed, n last entry, lim units of a SKU per customer, flows complete|filling;
//	        tat when the next order is due by the rate, at the latest time that was seen, in microseconds;
//	        per SKU b:SKU bucket id, s:SKU last move, m:SKU its size
//	ticket  hash: key (16 bytes) → order_no + hash of the body (8 bytes); order_no → "entry state units customer"
//	wal     stream: entries of tickets whose process makes the orders itself, one for each call of Deduct
//	queue   stream: entries of queued tickets, one for each order
//	queued  hash of those in queue: key → order_no + hash of the body; order_no → "id key customer", the key 16 bytes
//	        with nothing behind; c id of the last entry that was claimed
//	claimed sorted set: ids of entries that were claimed, by when, in microseconds
//	ended   string for each order that was queued and became none, with a time to live: c|x, length of the customer
//	        (1 byte), customer, the problem. For each key of which one was withdrawn: order_no + hash of the
//	        body, as long
//	leaved  string: units left, -1 unlimited
//	flow    hash: line id → units deducted
//	back    hash: line id → units given back in all; line id|ref → units of that return
//	buyer   hash: customer → units taken, when there is a limit
//
// An entry of a stream has the id TOKEN-NUMBER and the fields order_no → payload.
func (k keys) gate() string             { return k.prefix + "gate_" + k.tag }
func (k keys) ticket() string           { return k.prefix + "ticket_" + k.tag }
func (k keys) wal() string              { return k.prefix + "wal_" + k.tag }
func (k keys) queue() string            { return k.prefix + "queue_" + k.tag }
func (k keys) queued() string           { return k.prefix + "queued_" + k.tag }
func (k keys) claimed() string          { return k.prefix + "claimed_" + k.tag }
func (k keys) ended(no string) string   { return k.prefix + "ended_" + k.tag + ":" + no }
func (k keys) endedKey(key Key) string  { return k.ended(string(key[:])) }
func (k keys) leaved(sku string) string { return k.prefix + "sku_leaved_amount_" + k.tag + ":" + sku }
func (k keys) flow(sku string) string   { return k.prefix + "inventory_flow_" + k.tag + ":" + sku }
func (k keys) back(sku string) string   { return k.prefix + "inventory_back_" + k.tag + ":" + sku }
func (k keys) buyer(sku string) string  { return k.prefix + "buyer_" + k.tag + ":" + sku }

// lineID names a line of an order in flow and back.
func lineID(orderNo string, lineNo int64) string {
	return orderNo + "-" + strconv.FormatInt(lineNo, 10)
}

// Key is how a bucket knows the repeat of a placement: from the customer and the key that
// the customer sent with it.
type Key [16]byte

// KeyOf gives the Key of a customer's idempotency key: the first 16 bytes of a SHA-256.
func KeyOf(customerID, idempotencyKey string) Key {
	// The length in front keeps ("a", "bc") and ("ab", "c") apart.
	text := binary.BigEndian.AppendUint64(nil, uint64(len(customerID)))
	sum := sha256.Sum256(append(append(text, customerID...), idempotencyKey...))
	return Key(sum[:16])
}

// Package redisgate is the home of stock buckets in Redis: a place where units that the
// database has put aside are counted down quickly.
//
//   - Home has a method for each script: units are taken (Deduct) and given back (Return),
//     moved in (Grant), what waits is claimed, done with or ended (Claim, Done, Cancel), and
//     a bucket is opened, closed and looked at.
//   - Route says in which order a customer's orders try the buckets of a sale.
//   - Shared is what gates in mode redis are sold by, and keeps their buckets. Its queue is
//     in queue.go.
//   - The scripts (*.lua) run on Redis 6.2 and later, and on miniredis.
//
// The database decides: a bucket is a row there, and orders are inserted under a guard on
// it. So whatever Redis forgets or gets wrong, nothing is sold twice. What this package
// keeps is that Redis by itself is never too generous: units in a bucket and units of
// tickets that are not orders yet are together at most what the database granted.
//
// A call may reach Redis twice: go-redis repeats one whose answer it did not get in time.
// Every script therefore knows its repeats by numbers that the caller makes before the
// first try: order number and key of an order, the ref of a return, the number of a move,
// the token of an opening. A caller that gets an error does not know what has happened, and
// sends the same again.
//
// All keys of a bucket have one hash tag, {sale/number}, and scripts touch declared keys
// only: on a Redis Cluster a cart of one sale is one script on one node, and the buckets of
// a sale are spread over the nodes.
package redisgate

// Package gate stands in front of the ledger in a flash sale. A process with a gate
// counts units down in its own memory (mode local) before the database is asked, refuses
// from memory what is sold out, and finds by itself which SKUs are hot.
//
// It decides nothing: the transaction that places an order takes from a row of
// stock_buckets, and whatever the gate believes is held against that row. See package
// stock (bucket.go) for the rows, their moves and the recall, and order/place.go for the
// placement.
//
//	gate.go     what a placement asks: Take, Settle, Learn
//	local.go    the units of a SKU in this process
//	shared.go   the home of mode redis, which package redisgate is
//	marks.go    sold out, said from memory, and who has an order nevertheless
//	hot.go      which SKUs are hot
//	keeper.go   the loop beside: reads the gates, asks for units, opens and ends
package gate

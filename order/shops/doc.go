// Package shops keeps the keys of the shop's own back ends, table shop_keys: who may place
// orders for customers, read, ask for refunds and look at stock on the customers' listener.
package shops

// Package stock is the ledger of stock: how much of each SKU is on the shelf,
// and one row for every unit that ever came in or went out.
//
// It owns the tables skus and stock_flows. It does not own orders: it is told
// an order number and lines, inside the caller's transaction, and makes sure
// that an order deducts once, returns no more than it deducted, and that the
// shelf always equals the sum of the flows.
package stock

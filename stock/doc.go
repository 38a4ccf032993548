// Package stock is the ledger of stock: how much of each SKU is on the shelf,
// and one row, a flow, for every change of that number.
//
//   - Shelf takes stock for a batch of new orders (shelf.go).
//   - ReturnAll and ReturnLines put it back (return.go).
//   - Admin is the operators' side: SKUs and what comes in (admin.go, import.go).
//   - Recount makes a counter and its flows agree again on the smaller of the two (recount.go).
//
// It owns the tables skus and stock_flows. It does not own orders: it is told
// an order number and lines, inside the caller's transaction, and makes sure
// that an order deducts once, returns no more than it deducted, and that the
// shelf always equals the sum of the flows.
package stock

package orderhttp

import (
	"time"

	"orderd/order"
)

// ViewOf shows an order as the customers' API shows it at a time, for package console,
// which adds to it what operators see more.
func ViewOf(o *order.Order, now time.Time) OrderView { return viewOf(o, now) }

// SummaryOf is ViewOf for a list, which reads no payments and no refunds.
func SummaryOf(o *order.Order, now time.Time) OrderSummary { return summaryOf(o, now) }

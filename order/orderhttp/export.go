package orderhttp

import (
	"time"

	"orderd/order"
)

// ViewOf shows an order as the API shows it, at a time.
func ViewOf(o *order.Order, now time.Time) OrderView { return viewOf(o, now) }

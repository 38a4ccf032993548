package order

// OrderNoOf gives the order number in an out_trade_no, "" when it is not one of ours.
func OrderNoOf(outTradeNo string) string { return attemptOrder(outTradeNo) }

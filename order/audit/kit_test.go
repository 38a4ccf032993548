package audit_test

import (
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// byItself approves every refund, so that a test is about what comes after.
func byItself(c *order.Config) { c.RefundAutoApprove = payment.MaxFen }

func cancel(no string) order.CancelRequest {
	return order.CancelRequest{OrderNo: no, CustomerID: "c", Cause: ordertest.Customer}
}

package payment_test

import (
	"errors"
	"fmt"

	"orderd/payment"
)

// Bills of WeChat Pay speak yuan, its API and our database speak fen.
func ExampleParseYuan() {
	fen, err := payment.ParseYuan("149.00")
	fmt.Println(int64(fen), err)

	// A fraction of a fen is an error and never rounded; zeros are no fraction.
	_, err = payment.ParseYuan("0.005")
	fmt.Println(errors.Is(err, payment.ErrMoney), err)
	fen, err = payment.ParseYuan("0.50000")
	fmt.Println(int64(fen), err)

	// Output:
	// 14900 <nil>
	// true not an amount of money: "0.005" has a fraction of a fen
	// 50 <nil>
}

func ExampleFen_String() {
	price, discount := payment.Fen(14900), payment.Fen(-5)
	fmt.Println(price, discount, price+discount)
	// Output: 149.00 -0.05 148.95
}

// A number that could name another URL is not sent to WeChat Pay.
func ExampleValidOutTradeNo() {
	fmt.Println(payment.ValidOutTradeNo("01JD4Z0000000000000000000A-01"))
	fmt.Println(payment.ValidOutTradeNo("a/../other"))
	// Output:
	// true
	// false
}

// What a caller may do next depends on the kind of the error alone.
func ExampleKindOf() {
	refused := &payment.GatewayError{Op: "prepay", Kind: payment.KindRejected, Status: 400, Code: "PARAM_ERROR"}
	fmt.Println(payment.KindOf(refused), "-", refused)
	fmt.Println(payment.KindOf(errors.New("connection reset")),
		"- nothing is known: ask again with the same parameters")
	// Output:
	// rejected - wechat pay prepay: rejected (status 400 PARAM_ERROR)
	// unknown - nothing is known: ask again with the same parameters
}

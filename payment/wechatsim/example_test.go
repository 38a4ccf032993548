package wechatsim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/native"
	"github.com/wechatpay-apiv3/wechatpay-go/utils"

	"orderd/payment/wechatsim"
)

// A simulator in the process of a test: a merchant opens a trade over HTTP with
// Tencent's own SDK, the buyer pays by the control surface, and the merchant asks
// what became of it.
func Example() {
	keys, err := sharedKeys() // wechatsim.GenerateKeys(mchID, appID), once for all tests
	check(err)
	sim, err := wechatsim.New(wechatsim.Options{Keys: keys, Now: time.Now})
	check(err)
	defer sim.Close()
	server := httptest.NewServer(sim.Handler())
	defer server.Close()

	// The merchant. Its half of the keys comes from the simulator.
	merchant, closeIdle := exampleMerchant(keys.Client(), server.URL)
	defer server.CloseClientConnections()
	defer closeIdle()
	trades := &native.NativeApiService{Client: merchant}
	no, notify, total := "EXAMPLE-01", "https://shop.example/notify", int64(14900)
	code, _, err := trades.Prepay(context.Background(), native.PrepayRequest{Appid: str(appID), Mchid: str(mchID),
		Description: str("一斤苹果"), OutTradeNo: &no, NotifyUrl: &notify, Amount: &native.Amount{Total: &total}})
	check(err)
	fmt.Println("prepay:", strings.HasPrefix(*code.CodeUrl, "weixin://wxpay/bizpayurl?pr="))

	// The buyer. "notify": true would call the merchant's notify_url as well.
	res, err := http.Post(server.URL+"/control/trades/"+no+"/pay", "application/json",
		strings.NewReader(`{"notify":false}`))
	check(err)
	var paid wechatsim.Trade
	check(json.NewDecoder(res.Body).Decode(&paid))
	check(res.Body.Close())
	fmt.Println("paid:", res.StatusCode, paid.State, paid.PayerTotal)

	// The merchant again: a signed answer, verified by the SDK.
	trade, _, err := trades.QueryOrderByOutTradeNo(context.Background(),
		native.QueryOrderByOutTradeNoRequest{OutTradeNo: &no, Mchid: str(mchID)})
	check(err)
	fmt.Println("query:", *trade.TradeState, *trade.Amount.Total, *trade.TransactionId == paid.TransactionID)

	// The log is what really happened, whatever the wire made of it.
	for _, e := range sim.Log(0) {
		if e.Kind == wechatsim.KindEffect {
			fmt.Println("effect:", e.Event, e.OutTradeNo, e.Amount)
		}
	}

	// Output:
	// prepay: true
	// paid: 200 SUCCESS 14900
	// query: SUCCESS 14900 true
	// effect: created EXAMPLE-01 14900
	// effect: paid EXAMPLE-01 14900
}

// Faults are given as a command line gives them; this is what wechatsim --fault takes.
func ExampleParseFault() {
	fault, err := wechatsim.ParseFault("close=status:429:FREQUENCY_LIMITED:20%:x3")
	fmt.Println(fault.Endpoint, fault.Kind, fault.Status, fault.Code, fault.Percent, fault.Count, err)
	_, err = wechatsim.ParseFault("prepay=drop")
	fmt.Println(err != nil)
	// Output:
	// close status 429 FREQUENCY_LIMITED 20 3 <nil>
	// true
}

// exampleMerchant is Tencent's SDK in its public-key mode, sent to the simulator.
func exampleMerchant(c wechatsim.ClientConfig, address string) (client *core.Client, closeIdle func()) {
	key, err := utils.LoadPrivateKey(c.PrivateKeyPEM)
	check(err)
	public, err := utils.LoadPublicKey(string(c.VerifyKeys[c.PublicKeyID]))
	check(err)
	to, err := url.Parse(address)
	check(err)
	transport := &http.Transport{}
	client, err = core.NewClient(context.Background(),
		option.WithWechatPayPublicKeyAuthCipher(c.MchID, c.SerialNo, key, c.PublicKeyID, public),
		option.WithHTTPClient(&http.Client{Transport: redirect{to, transport}}))
	check(err)
	return client, transport.CloseIdleConnections
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

package storm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
)

// protocol is the real gateway against a simulator over loopback, both in this process: a
// close is signed and verified twice, by us and by WeChat Pay.
type protocol struct {
	gateway *wechat.Gateway
	sim     *wechatsim.Sim
	server  *http.Server
	// sign is how much of a core a signature of ours takes, bits the length of the key.
	sign time.Duration
	bits int
}

// protocolResult is what RSA costs.
type protocolResult struct {
	// SignMS is milliseconds of one core for a signature with a key of so many Bits.
	SignMS float64
	Bits   int
	Cores  int
	// Ceiling is closes a second when the cores do nothing but our signatures, Both when
	// they make the simulator's too.
	Ceiling float64
	Both    float64
	// Share is the part of this process's CPU that both kinds of signatures took.
	Share float64
}

// headerTimeout is what linters ask of a server; nobody here is slow.
const headerTimeout = 10 * time.Second

// startProtocol starts the simulator and the gateway that talks to it.
func startProtocol(ctx context.Context) (p *protocol, err error) {
	keys, err := wechatsim.GenerateKeys(bench.MchID, bench.AppID)
	if err != nil {
		return nil, err
	}
	c := keys.Client()
	p = &protocol{}
	if p.sign, p.bits, err = timeSignature(c.PrivateKeyPEM); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if p.sim, err = wechatsim.New(wechatsim.Options{Keys: keys, Now: time.Now}); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.server = &http.Server{Handler: p.sim.Handler(), ReadHeaderTimeout: headerTimeout}
	go func() { _ = p.server.Serve(l) }() // until stop
	p.gateway, err = wechat.New(wechat.Config{MchID: c.MchID, AppID: c.AppID, SerialNo: c.SerialNo,
		PrivateKeyPEM: c.PrivateKeyPEM, APIv3Key: c.APIv3Key, VerifyKeys: c.VerifyKeys,
		BaseURL: "http://" + l.Addr().String(), Now: time.Now})
	if err != nil {
		p.sim.Close()
		return nil, errors.Join(err, p.server.Close())
	}
	return p, nil
}

// stop ends both. A nil protocol has nothing to end: callers need not ask.
func (p *protocol) stop() {
	if p == nil {
		return
	}
	p.gateway.CloseIdleConnections()
	p.sim.Close()
	_ = p.server.Close()
}

// timeSignature measures a signature with a key on one core.
func timeSignature(text string) (each time.Duration, bits int, err error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return 0, 0, errors.New("the simulator's merchant key is no PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return 0, 0, errors.New("the simulator's merchant key is no PKCS #8")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return 0, 0, errors.New("the simulator's merchant key is not of RSA")
	}
	const signatures = 300 // a third of a second
	sum := sha256.Sum256([]byte("POST\n/v3/pay/transactions/out-trade-no\n1\nn\n{}\n"))
	begin := bench.CPUNow() // not the wall clock: the cores are shared
	for range signatures {
		if _, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:]); err != nil {
			return 0, 0, err
		}
	}
	return (bench.CPUNow() - begin) / signatures, key.N.BitLen(), nil
}

// judge says what part of the CPU the signatures took: a close has two, ours and that
// of the simulator's answer.
func (p *protocol) judge(o *outcome) *protocolResult {
	s := &protocolResult{SignMS: p.sign.Seconds() * 1000, Bits: p.bits, Cores: runtime.NumCPU()}
	s.Ceiling = float64(s.Cores) / p.sign.Seconds()
	s.Both = s.Ceiling / 2 // a close is signed by us, its answer by the simulator
	if o.CPU.Own > 0 {
		s.Share = 2 * float64(o.Closed) * p.sign.Seconds() / o.CPU.Own
	}
	return s
}

// print says it in a sentence.
func (p *protocolResult) print(rate float64) {
	fmt.Printf("\nRSA: a signature of %d bits takes %.2f ms of a core. %d cores that did nothing else would sign "+
		"%.0f closes/s, and %.0f with the simulator's answers, which are signed in the same process; measured %.0f. "+
		"Signatures took %.0f%% of the process's CPU.\n",
		p.Bits, p.SignMS, p.Cores, p.Ceiling, p.Both, rate, 100*p.Share)
}

package main

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"orderd/cmd/orderload/bench"
	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
)

// signer makes payment notifications as WeChat Pay v3 does: encrypted with the APIv3 key
// (AEAD_AES_256_GCM), signed with a key of its own (SHA-256 with RSA-2048). The simulator
// sends what it signs; here both must be apart.
type signer struct {
	key  *rsa.PrivateKey
	aead cipher.AEAD
}

const (
	// signerKeyID has the form of a WeChat Pay public key's id.
	signerKeyID = "PUB_KEY_ID_0000000000000001"
	// signerKeyBits is as WeChat Pay's: the gateway's verification takes as long.
	signerKeyBits = 2048
	// nonceSize is that of AES-GCM, in bytes.
	nonceSize = 12
)

// newSigner makes a signer and the gateway that trusts it: its public key is the only one
// that the gateway verifies by.
func newSigner() (*signer, *wechat.Gateway, error) {
	keys, err := wechatsim.GenerateKeys(bench.MchID, bench.AppID)
	if err != nil {
		return nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, signerKeyBits)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	c := keys.Client()
	block, err := aes.NewCipher([]byte(c.APIv3Key))
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	g, err := wechat.New(wechat.Config{MchID: c.MchID, AppID: c.AppID, SerialNo: c.SerialNo,
		PrivateKeyPEM: c.PrivateKeyPEM, APIv3Key: c.APIv3Key,
		VerifyKeys: map[string][]byte{signerKeyID: public}, Now: time.Now})
	return &signer{key, aead}, g, err
}

// notification is a signed request, ready to be sent. It is used once: WeChat Pay's
// repeats are not what is measured.
type notification struct {
	header http.Header
	body   []byte
}

// sign makes one notification per order, on all cores: a signature takes about a
// millisecond, and none may fall into the measurement. They must be sent within five
// minutes: older ones are refused.
func (s *signer) sign(nos []string) ([]notification, error) {
	all := make([]notification, len(nos))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range nos {
		g.Go(func() (err error) {
			all[i], err = s.one(nos[i])
			return err
		})
	}
	return all, g.Wait()
}

// one signs the notification of a paid order. The order's number is the nonce of the
// signature too: it need only differ.
func (s *signer) one(no string) (n notification, err error) {
	t, now := bench.PaidTrade(no), time.Now()
	plain, err := json.Marshal(map[string]any{"mchid": bench.MchID, "appid": bench.AppID,
		"out_trade_no": t.OutTradeNo, "transaction_id": t.TransactionID,
		"trade_type": "NATIVE", "trade_state": "SUCCESS", "trade_state_desc": "支付成功",
		"bank_type": "OTHERS", "attach": "", "success_time": now.Format(time.RFC3339),
		"payer": map[string]any{"openid": "o"},
		"amount": map[string]any{"total": bench.Fen, "payer_total": bench.Fen,
			"currency": "CNY", "payer_currency": "CNY"}})
	if err != nil {
		return n, err
	}
	// The associated data of AES-GCM: WeChat Pay sends the type of what is encrypted.
	const associated = "transaction"
	nonce := no[:nonceSize]
	sealed := s.aead.Seal(nil, []byte(nonce), plain, []byte(associated))
	n.body, err = json.Marshal(map[string]any{"id": no, "create_time": now.Format(time.RFC3339),
		"event_type": "TRANSACTION.SUCCESS", "resource_type": "encrypt-resource", "summary": "支付成功",
		"resource": map[string]any{"original_type": "transaction", "algorithm": "AEAD_AES_256_GCM",
			"ciphertext":      base64.StdEncoding.EncodeToString(sealed),
			"associated_data": associated, "nonce": nonce}})
	if err != nil {
		return n, err
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	// What is signed is time, nonce and body, each with a newline (WeChat Pay API v3).
	sum := sha256.Sum256([]byte(stamp + "\n" + no + "\n" + string(n.body) + "\n"))
	sig, err := rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return n, err
	}
	n.header = http.Header{"Content-Type": {"application/json"},
		"Wechatpay-Timestamp": {stamp}, "Wechatpay-Nonce": {no}, "Wechatpay-Serial": {signerKeyID},
		"Wechatpay-Signature":      {base64.StdEncoding.EncodeToString(sig)},
		"Wechatpay-Signature-Type": {"WECHATPAY2-SHA256-RSA2048"}}
	return n, nil
}

package wechat

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
)

// userAgent is that of requests that gopay does not make: WeChat's rules of the API demand
// one.
const userAgent = "orderd"

// authorize signs a request as the merchant, as WeChat's document of the request signature
// says, for the calls that gopay does not make: a bill's file, which its own download cuts
// at 10 MiB without an error, and the echo, which it does not have. body is the request's.
func (g *Gateway) authorize(op string, req *http.Request, body string) error {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return refusal(op, "no random numbers")
	}
	stamp, word := strconv.FormatInt(g.now().Unix(), 10), hex.EncodeToString(nonce)
	digest := sha256.Sum256([]byte(req.Method + "\n" + req.URL.RequestURI() + "\n" + stamp + "\n" + word + "\n" +
		body + "\n"))
	signature, err := rsa.SignPKCS1v15(rand.Reader, g.merchantKey, crypto.SHA256, digest[:])
	if err != nil {
		return refusal(op, "the merchant key does not sign")
	}
	req.Header.Set("Authorization", fmt.Sprintf(`WECHATPAY2-SHA256-RSA2048 mchid="%s",nonce_str="%s",`+
		`timestamp="%s",serial_no="%s",signature="%s"`,
		g.mchID, word, stamp, g.serialNo, base64.StdEncoding.EncodeToString(signature)))
	req.Header.Set("User-Agent", userAgent)
	return nil
}

package canary

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"testing"
)

// A scan that finds nothing must be able to find something.
func TestFind(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := x509.MarshalPKCS1PrivateKey(key)
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})
	s := New(text)
	for what, leak := range map[string]string{
		"plain": "x=" + APIv3Key + "&", "base64": base64.StdEncoding.EncodeToString([]byte(DatabasePass)),
		"hex":   hex.EncodeToString([]byte(JWTSecret)),
		"bytes": fmt.Sprintf("%v", []byte(RedisPass)), "key": string(text), "one line": string(text[97:240]),
		"openid": `{"openid":"` + OpenID + `"}`, "admin": AdminToken,
	} {
		if found := s.Find([]byte(leak)); len(found) != 1 {
			t.Errorf("%s: found %v", what, found)
		}
	}
	if found := s.Find([]byte("nothing of it, " + APIv3Key[:20])); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	if len(APIv3Key) != 32 {
		t.Errorf("the APIv3 key has %d bytes, WeChat's have 32", len(APIv3Key))
	}
}

package wechatsim

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// File names inside a key folder. merchantFile is written last, so a folder
// without it is one whose making was interrupted.
const (
	merchantFile    = "merchant.json"            // ids and serials, no secret
	merchantKeyFile = "merchant_private_key.pem" // the merchant's, PKCS #8
	apiV3KeyFile    = "apiv3_key.txt"            // 32 characters
	publicKeyFile   = "wechatpay_public_key.pem" // WeChat Pay's public key, for the merchant
	// The private keys of WeChat's side, which no merchant has.
	publicPrivateFile = "wechatpay_private_key.pem"
	// Two certificates, as during a rotation: WeChat signs with either.
	oldCertFile    = "platform_old_cert.pem"
	oldCertKeyFile = "platform_old_private_key.pem"
	newCertFile    = "platform_new_cert.pem"
	newCertKeyFile = "platform_new_private_key.pem"
)

// rsaBits is what WeChat uses on both sides (the 2048 in the name of the scheme); a
// larger key would only slow tests.
const rsaBits = 2048

// apiV3KeyLength is fixed by WeChat: the key is used as an AES-256 key as it is.
const apiV3KeyLength = 32

// Keys are the secrets of both sides of one merchant's relation to WeChat Pay: what in
// life neither side alone has. They are immutable after GenerateKeys or LoadKeys.
type Keys struct {
	MchID, AppID   string
	MerchantSerial string // serial of the merchant certificate, 40 hex digits
	APIv3Key       string // 32 characters
	// PublicKeyID names WeChat Pay's public key, as Wechatpay-Serial has it:
	// "PUB_KEY_ID_0" and 31 digits. Merchants who joined in the last years have this
	// key only; the others verify by platform certificates, whose id is their serial.
	PublicKeyID string

	merchant  *rsa.PrivateKey
	publicKey *rsa.PrivateKey // the pair behind PublicKeyID
	oldCert   platformCert
	newCert   platformCert
}

// platformCert is one of WeChat's platform certificates with its private key.
type platformCert struct {
	serial string // 40 upper-case hex digits
	cert   *x509.Certificate
	pem    []byte
	key    *rsa.PrivateKey
}

// GenerateKeys makes a fresh set: a merchant key, an APIv3 key, a WeChat Pay
// public-key pair and two platform certificates (a rotation in progress).
func GenerateKeys(mchID, appID string) (*Keys, error) {
	if mchID == "" || appID == "" {
		return nil, errors.New("generate keys: a merchant id and an app id are needed")
	}
	k := &Keys{MchID: mchID, AppID: appID}
	var err error
	if k.MerchantSerial, err = newSerial(); err != nil {
		return nil, fmt.Errorf("generate merchant serial: %w", err)
	}
	k.APIv3Key = randomText(apiV3KeyLength)
	k.PublicKeyID = "PUB_KEY_ID_0" + randomDigits(31)
	if k.merchant, err = rsa.GenerateKey(rand.Reader, rsaBits); err != nil {
		return nil, fmt.Errorf("generate merchant key: %w", err)
	}
	if k.publicKey, err = rsa.GenerateKey(rand.Reader, rsaBits); err != nil {
		return nil, fmt.Errorf("generate WeChat Pay key pair: %w", err)
	}
	// Fixed dates instead of a clock: a simulator's certificates that expire
	// would only break somebody's tests years from now.
	if k.oldCert, err = newPlatformCert(2024); err != nil {
		return nil, err
	}
	if k.newCert, err = newPlatformCert(2025); err != nil {
		return nil, err
	}
	return k, nil
}

// newPlatformCert makes a platform certificate that is valid for fifty years from the
// first of January of a year. It is signed by itself: the clients that use it here,
// Tencent's SDK among them, check no chain.
func newPlatformCert(fromYear int) (platformCert, error) {
	var c platformCert
	var err error
	if c.serial, err = newSerial(); err != nil {
		return c, fmt.Errorf("generate platform certificate serial: %w", err)
	}
	if c.key, err = rsa.GenerateKey(rand.Reader, rsaBits); err != nil {
		return c, fmt.Errorf("generate platform key: %w", err)
	}
	serial, _ := new(big.Int).SetString(c.serial, 16)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{CommonName: "Tenpay.com sign (simulated)",
			Organization: []string{"Simulated WeChat Pay"}},
		NotBefore: time.Date(fromYear, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:  time.Date(fromYear+50, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	if err != nil {
		return c, fmt.Errorf("make platform certificate: %w", err)
	}
	c.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if c.cert, err = x509.ParseCertificate(der); err != nil {
		return c, fmt.Errorf("read back platform certificate: %w", err)
	}
	return c, nil
}

// newSerial returns 160 random bits as 40 upper-case hex digits. The top nibble
// is 1 to 7: positive as a DER integer, and never shortened by a leading zero
// where somebody prints the number.
func newSerial() (string, error) {
	b := make([]byte, 20)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	b[0] = b[0]&0x7f | 0x10
	return strings.ToUpper(hex.EncodeToString(b)), nil
}

// ClientConfig is what a merchant's client needs to speak to the simulator.
type ClientConfig struct {
	MchID, AppID, SerialNo, PrivateKeyPEM, APIv3Key string

	// VerifyKeys maps an id as it appears in Wechatpay-Serial to a PEM block:
	// the WeChat Pay public key and both platform certificates, mixed.
	VerifyKeys map[string][]byte
	// PublicKeyID is the one of VerifyKeys that is a bare public key: what a
	// client of today sends in Wechatpay-Serial.
	PublicKeyID string
}

// Client returns the merchant's half of the keys: what the merchant platform would have
// given him. The private keys of WeChat's side are not in it.
func (k *Keys) Client() ClientConfig {
	return ClientConfig{
		MchID: k.MchID, AppID: k.AppID, SerialNo: k.MerchantSerial, APIv3Key: k.APIv3Key,
		PrivateKeyPEM: string(mustPrivatePEM(k.merchant)),
		PublicKeyID:   k.PublicKeyID,
		VerifyKeys: map[string][]byte{
			k.PublicKeyID:    mustPublicPEM(&k.publicKey.PublicKey),
			k.oldCert.serial: append([]byte(nil), k.oldCert.pem...),
			k.newCert.serial: append([]byte(nil), k.newCert.pem...),
		},
	}
}

// merchantJSON is the content of merchantFile. A folder that one version wrote is read
// by the next: fields may be added, none renamed.
type merchantJSON struct {
	MchID          string `json:"mchid"`
	AppID          string `json:"appid"`
	MerchantSerial string `json:"merchant_serial_no"`
	PublicKeyID    string `json:"wechatpay_public_key_id"`
}

// Save writes the keys into dir (made with mode 0700 if it is not there), one
// file each with mode 0600: merchant.json, merchant_private_key.pem,
// apiv3_key.txt, wechatpay_public_key.pem and wechatpay_private_key.pem,
// platform_{old,new}_cert.pem and platform_{old,new}_private_key.pem.
// Saving again over the same folder replaces them.
func (k *Keys) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	ids, err := json.MarshalIndent(merchantJSON{k.MchID, k.AppID, k.MerchantSerial, k.PublicKeyID}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", merchantFile, err)
	}
	files := []struct {
		name    string
		content []byte
	}{
		{merchantKeyFile, mustPrivatePEM(k.merchant)},
		{apiV3KeyFile, []byte(k.APIv3Key + "\n")},
		{publicKeyFile, mustPublicPEM(&k.publicKey.PublicKey)},
		{publicPrivateFile, mustPrivatePEM(k.publicKey)},
		{oldCertFile, k.oldCert.pem},
		{oldCertKeyFile, mustPrivatePEM(k.oldCert.key)},
		{newCertFile, k.newCert.pem},
		{newCertKeyFile, mustPrivatePEM(k.newCert.key)},
		{merchantFile, append(ids, '\n')}, // last: it says that the others are complete
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		// By way of a new file: an old one may have a wider mode, and a crash in
		// the middle must not leave half a key.
		if err := os.WriteFile(path+".tmp", f.content, 0o600); err != nil {
			return fmt.Errorf("save keys: %w", err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return fmt.Errorf("save keys: %w", err)
		}
	}
	return nil
}

// LoadKeys reads what Save wrote. An error names the file and what to do; when
// there are no keys at all it matches os.ErrNotExist.
func LoadKeys(dir string) (*Keys, error) {
	raw, err := os.ReadFile(filepath.Join(dir, merchantFile))
	if err != nil {
		return nil, fmt.Errorf("no simulator keys in %s (generate and save them there first): %w", dir, err)
	}
	var ids merchantJSON
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, badKeyFile(dir, merchantFile, err)
	}
	if ids.MchID == "" || ids.AppID == "" || len(ids.MerchantSerial) != 40 || !strings.HasPrefix(ids.PublicKeyID,
		"PUB_KEY_ID_") {
		return nil, badKeyFile(dir, merchantFile, errors.New("an id is missing or malformed"))
	}
	k := &Keys{MchID: ids.MchID, AppID: ids.AppID, MerchantSerial: ids.MerchantSerial, PublicKeyID: ids.PublicKeyID}
	apiKey, err := os.ReadFile(filepath.Join(dir, apiV3KeyFile))
	if err != nil {
		return nil, badKeyFile(dir, apiV3KeyFile, err)
	}
	k.APIv3Key = strings.TrimSpace(string(apiKey))
	if len(k.APIv3Key) != apiV3KeyLength {
		return nil, badKeyFile(dir, apiV3KeyFile, fmt.Errorf("%d characters instead of %d", len(k.APIv3Key),
			apiV3KeyLength))
	}
	if k.merchant, err = readPrivateKey(dir, merchantKeyFile); err != nil {
		return nil, err
	}
	if k.publicKey, err = readPrivateKey(dir, publicPrivateFile); err != nil {
		return nil, err
	}
	if k.oldCert, err = readPlatformCert(dir, oldCertFile, oldCertKeyFile); err != nil {
		return nil, err
	}
	if k.newCert, err = readPlatformCert(dir, newCertFile, newCertKeyFile); err != nil {
		return nil, err
	}
	return k, checkPublicKeyFile(dir, k)
}

// checkPublicKeyFile refuses a public key that is not of the private one: the
// merchant who reads that file would refuse every answer without a hint why.
func checkPublicKeyFile(dir string, k *Keys) error {
	raw, err := os.ReadFile(filepath.Join(dir, publicKeyFile))
	if err != nil {
		return badKeyFile(dir, publicKeyFile, err)
	}
	if string(raw) != string(mustPublicPEM(&k.publicKey.PublicKey)) {
		return badKeyFile(dir, publicKeyFile, errors.New("it does not belong to "+publicPrivateFile))
	}
	return nil
}

// LoadOrGenerateKeys loads the keys of dir, or makes and saves new ones when
// there are none. Keys of another merchant or app are an error, not replaced.
func LoadOrGenerateKeys(dir, mchID, appID string) (*Keys, error) {
	k, err := LoadKeys(dir)
	if err == nil {
		if k.MchID != mchID || k.AppID != appID {
			return nil, fmt.Errorf("keys in %s are of merchant %s, app %s; wanted %s, %s: use another folder or "+
				"those ids",
				dir, k.MchID, k.AppID, mchID, appID)
		}
		return k, nil
	}
	if _, statErr := os.Stat(filepath.Join(dir, merchantFile)); !errors.Is(statErr, os.ErrNotExist) {
		return nil, err
	}
	if k, err = GenerateKeys(mchID, appID); err != nil {
		return nil, err
	}
	return k, k.Save(dir)
}

// readPrivateKey reads a key that Save wrote.
func readPrivateKey(dir, name string) (*rsa.PrivateKey, error) {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, badKeyFile(dir, name, err)
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, badKeyFile(dir, name, errors.New("not a PEM block PRIVATE KEY"))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, badKeyFile(dir, name, errors.New("not a PKCS #8 key")) // the cause could quote the key
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, badKeyFile(dir, name, errors.New("not an RSA key"))
	}
	return rsaKey, nil
}

// readPlatformCert reads a certificate and the key that belongs to it.
func readPlatformCert(dir, certName, keyName string) (platformCert, error) {
	var c platformCert
	var err error
	if c.key, err = readPrivateKey(dir, keyName); err != nil {
		return c, err
	}
	if c.pem, err = os.ReadFile(filepath.Join(dir, certName)); err != nil {
		return c, badKeyFile(dir, certName, err)
	}
	block, _ := pem.Decode(c.pem)
	if block == nil || block.Type != "CERTIFICATE" {
		return c, badKeyFile(dir, certName, errors.New("not a PEM block CERTIFICATE"))
	}
	if c.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return c, badKeyFile(dir, certName, err)
	}
	if !c.key.PublicKey.Equal(c.cert.PublicKey) {
		return c, badKeyFile(dir, certName, errors.New("it does not belong to "+keyName))
	}
	c.serial = fmt.Sprintf("%X", c.cert.SerialNumber.Bytes())
	return c, nil
}

// badKeyFile names the file and what to do. err must not quote the file's content.
func badKeyFile(dir, name string, err error) error {
	return fmt.Errorf("simulator key file %s cannot be used (remove the folder to have new keys made): %w",
		filepath.Join(dir, name), err)
}

// mustPrivatePEM encodes a key of our own making, which cannot fail.
func mustPrivatePEM(key crypto.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic("encode RSA key: " + err.Error())
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// mustPublicPEM encodes a key of our own making, which cannot fail.
func mustPublicPEM(key *rsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic("encode RSA public key: " + err.Error())
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

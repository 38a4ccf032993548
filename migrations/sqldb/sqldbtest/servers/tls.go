package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// TLSFiles are a certificate of servers on the loopback address that vouches for itself, and
// its key, as files in PEM.
type TLSFiles struct {
	Cert, Key string
	roots     *x509.CertPool
}

// NewTLSFiles makes them in a folder.
func NewTLSFiles(dir string) (*TLSFiles, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	f := &TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), roots: x509.NewCertPool()}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	f.roots.AppendCertsFromPEM(cert)
	return f, errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(f.Cert, cert, 0o600),
		os.WriteFile(f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

// options tell a redis-server to talk TLS alone, at the port of its option --port.
func (f *TLSFiles) options() []string {
	if f == nil {
		return nil
	}
	return []string{"--tls-cert-file", f.Cert, "--tls-key-file", f.Key, "--tls-ca-cert-file", f.Cert,
		"--tls-auth-clients", "no", "--tls-replication", "yes"}
}

// lines are the options in the form of a file, each after an end of line.
func (f *TLSFiles) lines() (text string) {
	options := f.options()
	for i := 0; i < len(options); i += 2 {
		text += "\n" + options[i][len("--"):] + " " + options[i+1]
	}
	return text
}

// client believes the servers; nil without TLS.
func (f *TLSFiles) client() *tls.Config {
	if f == nil {
		return nil
	}
	return &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12}
}

package wechatsim_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"orderd/payment/wechatsim"
)

// Without the same keys after a restart, a merchant whose configuration names
// them would be locked out.
func TestKeysSurviveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := wechatsim.LoadKeys(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no keys yet: %v", err)
	}
	made, err := wechatsim.LoadOrGenerateKeys(dir, mchID, appID)
	must(t, err)
	loaded, err := wechatsim.LoadOrGenerateKeys(dir, mchID, appID)
	must(t, err)
	if !reflect.DeepEqual(made.Client(), loaded.Client()) {
		t.Error("other keys after loading")
	}
	b := start(t, wechatsim.Options{Keys: made})
	again := start(t, wechatsim.Options{Keys: loaded})
	b.keys = loaded
	b.prepay("RESTART1", nil).want(t, 200, "")
	c := b.officialClient(true)
	if r := again.prepay("RESTART1", nil).want(t, 200, ""); !c.verified(r) {
		t.Error("the answer of the second start does not verify with the keys of the first")
	}
	if _, err := wechatsim.LoadOrGenerateKeys(dir, "1900000002", appID); err == nil || !strings.Contains(err.Error(),
		mchID) {
		t.Errorf("keys of another merchant: %v", err)
	}
}

// Without narrow modes and WeChat's forms the keys would be readable by others,
// or refused by clients that check them.
func TestKeysHaveWeChatsForm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k := keys(t)
	must(t, k.Save(dir))
	must(t, k.Save(dir)) // over itself
	at, err := os.Stat(dir)
	must(t, err)
	files, err := os.ReadDir(dir)
	must(t, err)
	if at.Mode().Perm() != 0o700 || len(files) != 9 {
		t.Errorf("folder %v with %d files", at.Mode(), len(files))
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
	}
	c := k.Client()
	if !regexp.MustCompile(`^[1-7][0-9A-F]{39}$`).MatchString(c.SerialNo) || len(c.APIv3Key) != 32 ||
		len(c.VerifyKeys) != 3 {
		t.Errorf("serial %s, %d characters of key, %d keys to verify", c.SerialNo, len(c.APIv3Key), len(c.VerifyKeys))
	}
	for id, text := range c.VerifyKeys {
		block, _ := pem.Decode(text)
		if block.Type == "PUBLIC KEY" {
			if !strings.HasPrefix(id, "PUB_KEY_ID_0") {
				t.Errorf("public key under %s", id)
			}
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		must(t, err)
		if strings.ToUpper(cert.SerialNumber.Text(16)) != id || len(id) != 40 {
			t.Errorf("certificate %X under %s", cert.SerialNumber, id)
		}
	}
}

// Without an error that names the file, a damaged folder means guessing; and it
// must not be replaced in silence, nor its secrets be told.
func TestDamagedKeysAreNamed(t *testing.T) {
	names := []string{
		"merchant.json", "merchant_private_key.pem", "apiv3_key.txt", "wechatpay_public_key.pem",
		"wechatpay_private_key.pem", "platform_old_cert.pem", "platform_old_private_key.pem", "platform_new_cert.pem",
		"platform_new_private_key.pem",
	}
	for _, name := range names {
		for what, damage := range map[string]func(path string) error{
			"cut":   func(path string) error { return os.Truncate(path, 20) },
			"other": func(path string) error { return os.WriteFile(path, []byte("secret-7391"), 0o600) },
			"gone":  os.Remove,
		} {
			dir := t.TempDir()
			must(t, keys(t).Save(dir))
			must(t, damage(filepath.Join(dir, name)))
			_, err := wechatsim.LoadKeys(dir)
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret-7391") {
				t.Errorf("%s %s: %v", name, what, err)
			}
			if name == "merchant.json" && what == "gone" {
				continue // an interrupted first run: made anew
			}
			if _, err := wechatsim.LoadOrGenerateKeys(dir, mchID, appID); err == nil {
				t.Errorf("%s %s: replaced in silence", name, what)
			}
		}
	}
}

// Without these errors a wrong option would show as odd behaviour later.
func TestOptionsAreChecked(t *testing.T) {
	k, now := keys(t), (&clock{}).now
	for name, o := range map[string]wechatsim.Options{
		"no keys":        {Now: now},
		"no clock":       {Keys: k},
		"speed":          {Keys: k, Now: now, Speed: -1},
		"unknown serial": {Keys: k, Now: now, CallbackSerial: "nobody's"},
		"cert of a public-key merchant": {Keys: k, Now: now, PublicKeyOnly: true, CallbackSerial: func() string {
			for id := range k.Client().VerifyKeys {
				if !strings.HasPrefix(id, "PUB_KEY_ID_") {
					return id
				}
			}
			return ""
		}()},
	} {
		if s, err := wechatsim.New(o); err == nil {
			s.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := wechatsim.GenerateKeys("", appID); err == nil {
		t.Error("keys of nobody")
	}
}

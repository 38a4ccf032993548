package main

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"orderd/payment/operators"
)

// Passwords that go over a network in the clear are everybody's on it.
func TestTheConsoleStaysOnThisMachine(t *testing.T) {
	for addr, fits := range map[string]bool{"127.0.0.1:9090": true, "localhost:0": true, "[::1]:9": true,
		":9090":        false,
		"0.0.0.0:9090": false, "[::]:9090": false, "192.0.2.1:9090": false, "console.example.com:9090": false} {
		s := settings{AdminAddr: addr}
		err := s.usable([]string{"admin"})
		if (err == nil) != fits || !fits && (!strings.Contains(err.Error(), "ORDERD_BEHIND_PROXY") ||
			!strings.Contains(err.Error(), "--behind-proxy") ||
			!strings.Contains(err.Error(), "ORDERD_ADMIN_LOCAL") || !strings.Contains(err.Error(), addr)) {
			t.Errorf("%s: %v", addr, err)
		}
		if s.BehindProxy = true; s.usable([]string{"admin"}) != nil {
			t.Errorf("%s behind a proxy: %v", addr, s.usable([]string{"admin"}))
		}
		s.BehindProxy, s.AdminLocal = false, true
		if s.usable([]string{"admin"}) != nil {
			t.Errorf("%s on this machine alone: %v", addr, s.usable([]string{"admin"}))
		}
		if s.AdminLocal = false; s.usable([]string{"api"}) != nil {
			t.Errorf("%s, and no console: %v", addr, s.usable([]string{"api"}))
		}
	}
	if code, _, errs := words(t, "serve", "--admin-addr", "0.0.0.0:0", "--data-dir", t.TempDir()); code != exitUsage ||
		!strings.Contains(errs, "--behind-proxy") {
		t.Errorf("serve: exit %d, %s", code, errs)
	}
}

// The way in is told while nobody has one, and not after; and the verb makes one for a person who is there.
func TestFirstLinkIsPrintedUntilSomebodyHasAPassword(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	var said bytes.Buffer
	links := regexp.MustCompile(`http://([\d.:]+)/setup\?t=([\w-]{43})\n`)
	var secret string
	for range 2 { // another start
		said.Reset()
		a.firstLink(t.Context(), &terminal{Err: &said})
		m := links.FindStringSubmatch(said.String())
		if m == nil || m[1] != a.Admin {
			t.Fatalf("%q", said.String())
		}
		secret = m[2]
		answer, err := http.Get("http://" + m[1] + "/setup?t=" + secret) // over the wire
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		answer.Body.Close()
	}
	_, err := a.logins.UseLink(t.Context(), secret, "anna", "correct horse battery", "", operators.Browser{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	said.Reset()
	if a.firstLink(t.Context(), &terminal{Err: &said}); said.Len() > 0 {
		t.Errorf("%q", said.String())
	}
	code, out, errs := words(t, "operator", "link", "anna", "--data-dir", dir, "--url", "https://console.example.com/")
	m := regexp.MustCompile(`^https://console\.example\.com/setup\?t=([\w-]{43})\n$`).FindStringSubmatch(out)
	if code != exitOK || m == nil {
		t.Fatalf("exit %d, %q %s", code, out, errs)
	}
	if k, err := a.logins.FindLink(t.Context(), m[1]); err != nil || k.Person != "anna" {
		t.Error(k, err)
	}
	if code, _, _ := words(t, "operator", "link", "anna", "--data-dir", dir, "--url", "console"); code != exitUsage {
		t.Errorf("an address that is none: exit %d", code)
	}
	if code, _, _ := words(t, "operator", "link", "nobody", "--data-dir", dir); code != exitFailed {
		t.Errorf("nobody: exit %d", code)
	}
}

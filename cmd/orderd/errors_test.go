package main

import (
	"strings"
	"testing"
)

// A setting that is refused must be named, not shown: errors go to logs and to tickets.
func TestRefusedSettingsAreNotShown(t *testing.T) {
	for _, args := range [][]string{
		{"doctor", "--redis", "redis://:canary%zz@h:1/0"}, {"doctor", "--redis", "redis://:canary@127.0.0.1:1/x"},
		{"doctor", "--redis", "redis+cluster://:canary@127.0.0.1:1,h2"},
		{"verify", "--dsn", "mysql:u:canary@tcp(127.0.0.1:1)/d"},
		{"verify", "--dsn", "mysql:u:canary@tcp(127.0.0.1:1/d"}, {"verify", "--dsn", "mysql:u:canary%zz/d?x=%zz"},
		{"verify", "--dsn", "mysq:u:canary@x"},
		{"serve", "--redis", "redis://:canary@127.0.0.1:1/0", "--dsn", "mysql:u:canary@tcp(127.0.0.1:1)/d"},
		{"serve", "--redis", "redis://:canary%zz@127.0.0.1:1/0"}, {"serve", "--redis", "red://:canary@127.0.0.1:1/0"},
		{"serve", "--redis", "canary"},
		{"verify", "--wechat-mchid", "1900000001", "--wechat-appid", "wx1", "--wechat-serial-no", "AAAAAAAAAA",
			"--wechat-private-key", "canary", "--wechat-apiv3-key", "canary",
			"--wechat-notify-url", "https://x/y", "--wechat-verify-keys", "a=" + "../../go.mod"},
		{"serve", "--customer-jwt-secret", "canary"}, {"serve", "--customer-jwt-public-key", "canary"},
		{"verify", "--bootstrap-admin-token", "canary"},
	} {
		code, out, errs := words(t, append(args, "--data-dir", t.TempDir(), "--api-addr", "127.0.0.1:0",
			"--notify-addr", "127.0.0.1:0",
			"--admin-addr", "127.0.0.1:0", "--sim-addr", "127.0.0.1:0")...)
		if code == exitOK || strings.Contains(out+errs, "canary") {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
}

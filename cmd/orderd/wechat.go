package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"orderd/payment/wechat"
	"orderd/scheduler"
)

// settingNames translates what package wechat calls its configuration into the settings
// that it comes from: whoever reads an error or an alarm has to change a setting.
var settingNames = strings.NewReplacer(
	"wechat MchID", "ORDERD_WECHAT_MCHID",
	"wechat AppID", "ORDERD_WECHAT_APPID",
	"wechat SerialNo", "ORDERD_WECHAT_SERIAL_NO",
	"wechat PrivateKeyPEM", "ORDERD_WECHAT_PRIVATE_KEY",
	"wechat APIv3Key", "ORDERD_WECHAT_APIV3_KEY",
	"wechat VerifyKeys", "ORDERD_WECHAT_VERIFY_KEYS",
	"wechat ResponseKeyID", "ORDERD_WECHAT_RESPONSE_KEY",
	"wechat BaseURL", "ORDERD_WECHAT_BASE_URL",
	"VerifyKeys", "ORDERD_WECHAT_VERIFY_KEYS",
)

// inSettings is a text of package wechat in the names of the settings.
func inSettings(text string) string { return settingNames.Replace(text) }

// usable refuses what serve cannot start with in these roles (none: all), as far as that
// shows without a connection to anything. serve and `config check` both ask it, so that
// what the one accepts the other does.
func (s *settings) usable(roles []string) error {
	if len(roles) == 0 {
		roles = allRoles
	}
	for _, r := range roles {
		if !slices.Contains(allRoles, r) {
			return fmt.Errorf("%w: there is no role %q; roles are api, notify, worker, admin", errUsage, r)
		}
	}
	for name, url := range map[string]string{"ORDERD_REDIS": s.Redis, "ORDERD_GATE_REDIS": s.GateRedis} {
		if url == "" || name == "ORDERD_REDIS" && s.embeddedRedis() {
			continue
		}
		client, err := scheduler.Connect(url)
		if err != nil {
			return misconfigured(fmt.Errorf("%s: %w", name, err))
		}
		defer client.Close() // nothing was sent
	}
	if !s.simulated() {
		if err := s.checkMerchant(); err != nil {
			return misconfigured(err)
		}
	}
	a := &app{s: s}
	// Without a merchant a missing secret is made up by serve, in its data directory.
	madeUp := s.simulated() && s.JWTSecret == "" && s.JWTPublicKey == ""
	if slices.Contains(roles, "api") && !madeUp {
		if _, err := a.verifier(); err != nil {
			return misconfigured(err)
		}
	}
	if slices.Contains(roles, "admin") {
		if err := s.checkAdminAddr(); err != nil {
			return misconfigured(err)
		}
	}
	if err := s.checkShopAddr(); err != nil {
		return misconfigured(err)
	}
	if slices.Contains(roles, "admin") && s.AdminToken == "" && !s.simulated() {
		return misconfigured(a.adminToken())
	}
	return nil
}

// merchant makes the gateway of the configured merchant, without a call.
func (s *settings) merchant() (*wechat.Gateway, error) {
	c, _, err := s.gatewayConfig("")
	if err != nil {
		return nil, err
	}
	c.Now = time.Now
	g, err := wechat.New(c)
	if err != nil {
		return nil, errors.New(inSettings(err.Error()))
	}
	return g, nil
}

// checkMerchant checks the keys of the merchant, and the addresses that WeChat Pay would be
// given.
func (s *settings) checkMerchant() error {
	g, err := s.merchant()
	if err != nil {
		return err
	}
	if err := g.CheckNotifyURL(s.NotifyURL); err != nil {
		return fmt.Errorf("ORDERD_WECHAT_NOTIFY_URL: %w", err)
	}
	if refunds := s.refundNotifyURL(s.NotifyURL); refunds != "" {
		if err := g.CheckNotifyURL(refunds); err != nil {
			return fmt.Errorf("ORDERD_WECHAT_REFUND_NOTIFY_URL: %w", err)
		}
	}
	return nil
}

// verifyKeys reads ORDERD_WECHAT_VERIFY_KEYS. first is the first public key of several,
// under which answers are asked for unless a setting says otherwise; "" leaves the choice
// to package wechat.
func (s *settings) verifyKeys() (keys map[string][]byte, first string, err error) {
	keys = map[string][]byte{}
	var public []string
	for _, pair := range strings.Split(s.VerifyKeys, ",") {
		id, path, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok {
			return nil, "", errors.New("set ORDERD_WECHAT_VERIFY_KEYS to id=PEM file pairs, separated by commas")
		}
		if _, twice := keys[id]; twice {
			return nil, "", fmt.Errorf("ORDERD_WECHAT_VERIFY_KEYS: %q is given twice; each key has its own id", id)
		}
		if keys[id], err = os.ReadFile(path); err != nil {
			return nil, "", fmt.Errorf("ORDERD_WECHAT_VERIFY_KEYS: %w", err)
		}
		if strings.HasPrefix(id, wechat.PublicKeyPrefix) {
			public = append(public, id)
		}
	}
	if len(public) > 1 {
		first = public[0]
	}
	return keys, first, nil
}

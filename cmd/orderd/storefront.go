package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"time"

	"orderd/cmd/orderd/storefront"
	"orderd/order/orderhttp"
	"orderd/order/shops"
)

const (
	// shopName is who places the storefront's orders, in their timelines.
	shopName = "storefront"
	// shopOff is ORDERD_SHOP_ADDR for no storefront; nothing at all is the same.
	shopOff = "off"
	// usualShopAddr is the default of ORDERD_SHOP_ADDR.
	usualShopAddr = "127.0.0.1:7071"
	// shopPayFor is the time to pay that the storefront gives its orders: so short that somebody who only
	// wants to see it run out does.
	shopPayFor = time.Minute
	// shopToken is how long a token of a visitor is valid: it is made anew for every request.
	shopToken = time.Minute
)

// checkShopAddr refuses an address of the storefront that others than this machine reach: who is there pays
// without money, as anybody.
func (s *settings) checkShopAddr() error {
	if s.ShopAddr == "" || s.ShopAddr == shopOff {
		return nil
	}
	if host, _, err := net.SplitHostPort(s.ShopAddr); err != nil || !storefront.Loopback(host) {
		return fmt.Errorf("ORDERD_SHOP_ADDR is %s: the storefront is for this machine alone, such as %s, or off",
			s.ShopAddr, usualShopAddr)
	}
	return nil
}

// opensShop reports that a storefront is asked for and may be: with the simulator in this process, beside the
// listener of customers, which it needs, and with a secret to make their tokens with.
func (a *app) opensShop(o options) bool {
	return a.sim != nil && a.s.simulated() && o.has("api") && a.s.JWTPublicKey == "" &&
		a.s.ShopAddr != "" && a.s.ShopAddr != shopOff
}

// shopKeys gives the keys of shops, and with a storefront its own beside them: it may give its orders a time to
// pay, as any shop, and is in no table.
func (a *app) shopKeys(o options) orderhttp.Shops {
	if !a.opensShop(o) {
		return a.shops
	}
	a.shopSecret = shops.Prefix + rand.Text()
	return ownKey{a.shops, sha256.Sum256([]byte(a.shopSecret))}
}

// ownKey is the keys of shops and one that ends with the process.
type ownKey struct {
	orderhttp.Shops
	sum [sha256.Size]byte
}

// Who implements orderhttp.Shops.
func (k ownKey) Who(ctx context.Context, secret string) (*shops.Key, error) {
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], k.sum[:]) == 1 {
		return &shops.Key{Name: shopName, Shop: shopName, Scopes: []shops.Scope{shops.Place, shops.Stock}}, nil
	}
	return k.Shops.Who(ctx, secret)
}

// startStorefront opens the storefront's listener where there is to be one. An address that nobody asked for and
// that is taken is no reason not to serve.
func (a *app) startStorefront(ctx context.Context) error {
	if a.shopSecret == "" {
		return nil
	}
	if err := a.s.checkShopAddr(); err != nil {
		return misconfigured(err)
	}
	payFor := max(shopPayFor, a.s.PayLeast)
	if payFor >= a.s.PayWithin || payFor > a.s.PayMost {
		payFor = 0
	}
	so := storefront.Options{
		API: dialable(a.API), Sim: a.sim.addr, Key: a.shopSecret,
		Token: func(customer string) (string, error) {
			return orderhttp.MintToken([]byte(a.JWTSecret), customer, time.Now(), shopToken)
		},
		Goods: func(ctx context.Context) (ids []string, err error) {
			all, err := a.stock.List(ctx, "", storefront.MaxGoods)
			for _, k := range all {
				ids = append(ids, k.SkuID)
			}
			return ids, err
		},
		PayFor: payFor, Now: time.Now, Log: a.log, Stopping: a.stopping,
	}
	if a.Admin != "" {
		so.Console = dialable(a.Admin)
	}
	h, err := storefront.New(so)
	if err != nil {
		return err
	}
	if a.Shop, err = a.listen(ctx, "shop", a.s.ShopAddr, "ORDERD_SHOP_ADDR", h); err != nil &&
		a.s.origins["ORDERD_SHOP_ADDR"] == "default" {
		a.announce("storefront: there is none, %s is taken (set ORDERD_SHOP_ADDR)", a.s.ShopAddr)
		return nil
	}
	return err
}

package shops_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/shops"
)

// A shop has two keys at a time, so that one takes the other's place; a secret is known by its hash, and lets in until
// it is revoked.
func TestTwoKeysAtATime(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		now := time.UnixMilli(1_800_000_000_000)
		clock := func() time.Time { return now }
		s, elsewhere := shops.New(db, clock), shops.New(db, clock)
		make := func(shop string, scopes ...shops.Scope) (shops.Key, string, error) {
			return s.Create(t.Context(), shop, scopes, "adam")
		}
		first, secret, err := make("web", shops.Stock, shops.Read, shops.Read)
		if err != nil || first.Name != "web/1" || !strings.HasPrefix(secret, shops.Prefix) ||
			!slices.Equal(first.Scopes, []shops.Scope{shops.Read, shops.Stock}) {
			t.Fatal(first, err)
		}
		if _, _, err := make("web", shops.Place); err != nil {
			t.Fatal(err)
		}
		if _, _, err := make("web", shops.Place); !errors.Is(err, shops.ErrTwoKeys) {
			t.Errorf("a third key: %v", err)
		}
		if _, _, err := make("app", shops.Place); err != nil { // another shop
			t.Fatal(err)
		}
		for _, name := range []string{"", "Web", "a b", "web/1", strings.Repeat("a", 33)} {
			if _, _, err := make(name, shops.Place); !errors.Is(err, shops.ErrName) {
				t.Errorf("%q: %v", name, err)
			}
		}
		if _, _, err := make("x"); !errors.Is(err, shops.ErrScope) {
			t.Error(err)
		}
		if _, _, err := make("x", "admin"); !errors.Is(err, shops.ErrScope) {
			t.Error(err)
		}
		if k, err := elsewhere.Who(t.Context(), secret); err != nil || k == nil || k.Name != "web/1" ||
			k.May(shops.Place) ||
			!k.May(shops.Read) {
			t.Fatal(k, err)
		}
		if k, err := s.Who(t.Context(), secret+"x"); k != nil || err != nil {
			t.Error(k, err)
		}
		if err := s.Revoke(t.Context(), "web/1"); err != nil {
			t.Fatal(err)
		}
		if err := s.Revoke(t.Context(), "web/1"); !errors.Is(err, shops.ErrNotFound) {
			t.Error(err)
		}
		if k, err := s.Who(t.Context(), secret); k != nil || err != nil {
			t.Error("a revoked key lets in", k, err)
		}
		now = now.Add(2 * time.Second)
		if k, err := elsewhere.Who(t.Context(), secret); k != nil || err != nil {
			t.Error("a revoked key lets in elsewhere after two seconds", k, err)
		}
		third, _, err := make("web", shops.Place)
		if all, e := s.List(t.Context()); err != nil || third.Name != "web/3" || e != nil || len(all) != 4 {
			t.Error(third, err, all, e)
		}
	})
}

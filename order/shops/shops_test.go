package shops_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
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

// Who knocks with secrets of his own invention must not reach the database with each: the valid keys are few, and are
// read every two seconds at most. A key that was made elsewhere lets in within that time.
func TestAWrongKeyCostsNoStatement(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	db := sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "shop"))
	now := time.UnixMilli(1_800_000_000_000)
	clock := func() time.Time { return now }
	s, elsewhere := shops.New(db, clock), shops.New(sqldbtest.Open(t, server.TCPDSN(server.Addr, "shop")), clock)
	who := func(secret, want string) {
		t.Helper()
		k, err := s.Who(t.Context(), secret)
		if err != nil || (k == nil) != (want == "") || k != nil && k.Name != want {
			t.Fatalf("%v, %v, want %q", k, err, want)
		}
	}
	wrong := func() {
		t.Helper()
		before := proxy.Commands()
		for i := range 500 {
			who(shops.Prefix+fmt.Sprint(i), "")
		}
		if n := proxy.Commands() - before; n != 0 {
			t.Errorf("500 wrong keys sent %d commands", n)
		}
	}
	before := proxy.Commands()
	who(shops.Prefix, "")
	if proxy.Commands() == before {
		t.Fatal("the keys were read without a command: nothing is counted")
	}
	wrong() // while there is no key at all, too
	_, secret, err := elsewhere.Create(t.Context(), "web", []shops.Scope{shops.Read}, "adam")
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	who(secret, "web/1")
	wrong()
	before = proxy.Commands()
	var all sync.WaitGroup
	now = now.Add(2 * time.Second)
	for range 20 {
		all.Go(func() {
			if k, err := s.Who(t.Context(), secret); err != nil || k == nil {
				t.Error(k, err)
			}
		})
	}
	all.Wait()
	if n := proxy.Commands() - before; n > 4 { // one read: begin, select, commit, and a ping perhaps
		t.Errorf("20 at once sent %d commands", n)
	}
}

// A key that this process made or revoked counts at once; keys that nobody can read let nobody in.
func TestKeysOfThisProcess(t *testing.T) {
	db := sqldbtest.SQLite(t)
	now := time.UnixMilli(1_800_000_000_000)
	s := shops.New(db, func() time.Time { return now })
	if k, err := s.Who(t.Context(), shops.Prefix); k != nil || err != nil {
		t.Fatal(k, err)
	}
	_, secret, err := s.Create(t.Context(), "web", []shops.Scope{shops.Read}, "adam")
	if err != nil {
		t.Fatal(err)
	}
	if k, err := s.Who(t.Context(), secret); err != nil || k == nil {
		t.Error("a key that was just made lets nobody in", k, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if k, err := s.Who(t.Context(), secret); err != nil || k == nil {
		t.Error("within two seconds:", k, err)
	}
	now = now.Add(2 * time.Second)
	for _, secret := range []string{secret, shops.Prefix} {
		if k, err := s.Who(t.Context(), secret); k != nil || !errors.Is(err, sqldb.ErrUnavailable) {
			t.Error(k, err)
		}
	}
}

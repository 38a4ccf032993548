package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"orderd/cmd/orderd/console"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/audit"
	"orderd/stock"
)

// Whoever looks after a sale has the shell at hand: it must show where the units are, say what it would do before it
// does it, and find what another hand has done to Redis.
func TestVerbsOfASale(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	t.Cleanup(func() { _ = a.Close() })
	if _, _, err := a.stock.Put(t.Context(), stock.Put{SkuID: "ticket", Title: "Ticket", PriceFen: 100,
		Quantity: quantityOf(2000)}); err != nil {
		t.Fatal(err)
	}
	run := func(want int, line string) string {
		t.Helper()
		code, out, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...)
		if code != want {
			t.Fatalf("%s: exit %d, want %d\n%s%s", line, code, want, out, errs)
		}
		return out + errs
	}
	redis := " --gate-redis " + a.miniURL
	if out := run(exitOK, "stock buckets ticket"); !strings.Contains(out, "is in no sale") {
		t.Error(out)
	}
	run(exitFailed, "stock buckets none")
	run(exitUsage, "stock buckets ticket --dry-run")
	run(exitUsage, "stock rebuild ticket --reason x --yes") // in no sale
	run(exitUsage, "stock rebuild --reason x --yes")
	run(exitUsage, "stock rebuild ticket --sale s --reason x --yes")
	run(exitOK, "stock gate ticket --mode redis --sale 11-11 --buckets 2 --reason x --yes")
	buckets := func() (d console.SaleDetail) {
		t.Helper()
		out := run(exitOK, "stock buckets ticket -o json"+redis)
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatal(err, out)
		}
		return d
	}
	filled := func(n int) func() bool {
		return func() bool {
			d := buckets()
			return len(d.Buckets) == n && !slices.ContainsFunc(d.Buckets, func(b console.BucketView) bool {
				return b.Remaining == 0 || b.Redis == nil || !b.Redis.Known || b.Redis.Left != b.Remaining
			})
		}
	}
	waitFor(t, "two buckets", filled(2))
	if out := run(exitOK, "stock buckets ticket"+redis); !strings.Contains(out, "buyers are told: 201") ||
		!strings.Contains(out, "at 1") {
		t.Error(out)
	}
	if out := run(exitOK, "stock buckets ticket"); !strings.Contains(out, "embedded in serve") {
		t.Error(out)
	}

	run(exitUsage, "stock buckets ticket --count 3 --yes") // no reason
	run(exitUsage, "stock buckets ticket --count 65 --reason x --yes")
	run(exitUsage, "stock buckets ticket --count 3 --reason x") // nobody can be asked
	out := run(exitOK, "stock buckets ticket --count 3 --reason x --dry-run")
	if !strings.Contains(out, "nothing was changed") {
		t.Error(out)
	}
	if d := buckets(); d.Gates[0].Version != 1 || len(d.Buckets) != 2 {
		t.Errorf("a dry run changes %+v", d)
	}
	run(exitOK, "stock buckets ticket --count 3 --reason more --yes")
	waitFor(t, "three buckets", filled(3))
	before := buckets().Gates[0]
	if before.Version != 2 || before.Reason != "more" || !strings.HasPrefix(before.Actor, "cli:") {
		t.Errorf("%+v", before)
	}
	run(exitOK, "stock rebuild --sale 11-11 --reason doubt --yes")
	waitFor(t, "three new buckets", filled(3))
	if now := buckets().Gates[0]; now.Epoch <= before.Epoch || now.Version != 3 {
		t.Errorf("%+v, before %+v", now, before)
	}
}

// A job that verifies decides by the exit code; a check that cannot fail, or one that says "all right" because Redis
// was away, is worse than none.
func TestVerifyOfRedisFromTheShell(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	t.Cleanup(func() { _ = a.Close() })
	if _, _, err := a.stock.Put(t.Context(), stock.Put{SkuID: "ticket", Title: "Ticket", PriceFen: 100,
		Quantity: quantityOf(2000)}); err != nil {
		t.Fatal(err)
	}
	run := func(want int, line string) string {
		t.Helper()
		code, out, errs := words(t, append(strings.Fields(line), "--data-dir", dir)...)
		if code != want {
			t.Fatalf("%s: exit %d, want %d\n%s%s", line, code, want, out, errs)
		}
		return out + errs
	}
	if _, err := a.stock.SetGate(t.Context(), stock.GateChange{SkuID: "ticket", Mode: stock.GateRedis, Actor: "li",
		Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	n := 0
	waitFor(t, "something is sold from Redis", func() bool {
		n++
		buy(t, a, "/v1/orders", fmt.Sprint("k", n), map[string]any{"items": []any{map[string]any{"sku_id": "ticket",
			"quantity": 1}}}, nil)
		keys, err := a.redis.Keys(t.Context(), "orderd:inventory_flow_*").Result()
		return err == nil && len(keys) == 1
	})
	verify := "stock verify --redis " + a.miniURL
	if out := run(exitOK, verify); !strings.Contains(out, "1 buckets of sales in Redis") ||
		!strings.Contains(out, "bucket.conserved") || strings.Contains(out, "payment.") {
		t.Error(out)
	}
	if out := run(exitUsage, "stock verify"); !strings.Contains(out, "embedded in serve") {
		t.Error(out)
	}
	run(exitDown, "stock verify --gate-redis redis://127.0.0.1:1/0")
	keys, err := a.redis.Keys(t.Context(), "orderd:inventory_flow_*").Result()
	if err == nil {
		err = a.redis.Del(t.Context(), keys...).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	out := run(exitInvariant, verify+" -o json")
	var r audit.Report
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil || len(r.Broken()) != 1 ||
		r.Broken()[0].ID != "redis.flows" {
		t.Errorf("%v %s", err, out)
	}
	if out := run(exitInvariant, verify); !strings.Contains(out, "orderd stock rebuild") {
		t.Error(out)
	}
	run(exitOK, "stock rebuild ticket --reason doubt --yes")
	waitFor(t, "it is mended", func() bool {
		code, _, _ := words(t, append(strings.Fields(verify), "--data-dir", dir)...)
		return code == exitOK
	})
	run(exitOK, "stock gate ticket --mode off --reason over --yes")
	run(exitOK, "stock verify") // no sale has anything in Redis
}

// Who asks doctor before a sale is told of the Redis that it will be sold from, and a queue's is not let pass.
func TestDoctorLooksAtTheRedisOfSales(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	t.Cleanup(func() { _ = a.Close() })
	server := sqldbtest.RedisServer(t)
	doctor := func(want int, flags ...string) string {
		t.Helper()
		args := append([]string{"doctor", "--data-dir", dir, "--sim-addr", a.s.SimAddr}, flags...)
		code, out, errs := words(t, args...)
		if code != want {
			t.Errorf("exit %d, want %d\n%s%s", code, want, out, errs)
		}
		return out
	}
	if out := doctor(exitOK); strings.Contains(out, "gate_redis") {
		t.Errorf("there is no sale in Redis: %s", out)
	}
	if out := doctor(exitOK, "--gate-redis", server.URL()); !strings.Contains(out, "gate_redis.write") ||
		!strings.Contains(out, "no sale has a queue") {
		t.Error(out)
	}
	if _, _, err := a.stock.Put(t.Context(), stock.Put{SkuID: "ticket", Title: "Ticket", PriceFen: 100,
		Quantity: quantityOf(2000)}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.stock.SetGate(t.Context(), stock.GateChange{SkuID: "ticket", Mode: stock.GateRedis, Rate: 50,
		Actor: "li", Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	if out := doctor(exitOK); !strings.Contains(out, "embedded in serve") {
		t.Error(out)
	}
	if out := doctor(exitFailed, "--gate-redis", server.URL()); !strings.Contains(out, "appendfsync always") {
		t.Error(out)
	}
	server.Kill()
	doctor(exitDown, "--gate-redis", server.URL())
}

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// previousRelease is the newest commit whose schema is older than today's: the program that
// an upgrade replaces. Whoever releases a schema moves it on.
const previousRelease = "62189ce872ccc8db081ca0a09f191d02ec0d7e13"

// buildPrevious builds the program of previousRelease out of the repository's history.
func buildPrevious(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	archive := exec.CommandContext(t.Context(), "git", "archive", previousRelease)
	archive.Dir = filepath.Join("..", "..")
	var tree, why bytes.Buffer
	archive.Stdout, archive.Stderr = &tree, &why
	if err := archive.Run(); err != nil {
		if os.Getenv("ORDERD_TEST_REQUIRE") == "1" {
			t.Fatalf("the previous release is in the history, which is not whole here: %v: %s", err, &why)
		}
		t.Skipf("not run: the history is not whole here (git fetch --unshallow): %s", &why)
	}
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	unpack.Stdin = &tree
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	binary := filepath.Join(t.TempDir(), "orderd-before")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary, "./cmd/orderd")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// An upgrade as docs/operations.md says it, and the way back, under load: the previous program serves while today's
// migrates, then both serve one database and one Redis, then today's alone, then the previous one again on the newer
// schema. One of each is killed with −9. Tasks that the one put into Redis are run by the other. No order is lost, each
// finds its end, WeChat Pay's ledger and ours agree, and the books balance.
func TestUpgradeUnderLoad(t *testing.T) {
	before := buildPrevious(t)
	db, redis := sqldbtest.MariaDBServer(t), sqldbtest.RedisServer(t)
	if err := db.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	dsn := db.DSN("shop")
	first, sim, secret, _ := newVictim(t)
	today := first.binary
	first.env = append(first.env, "ORDERD_DSN="+dsn, "ORDERD_REDIS="+redis.URL())
	first.binary = before
	second, third := first.twin(1), first.twin(2)
	for _, v := range []*victim{first, second} {
		v.start()
		t.Cleanup(v.bury)
	}
	verb(t, before, "stock", "import", sampleFile(t), "--yes", "--dsn", dsn, "--data-dir", t.TempDir())
	load := newShoppers(t, sim, secret, first, second)
	load.many(40)

	verb(t, today, "migrate", "up", "--dsn", dsn, "--data-dir", t.TempDir())
	load.more(20) // the previous program on the newer schema
	third.binary = today
	third.start()
	t.Cleanup(third.bury)
	load.shopAt(first, second, third)
	load.more(40) // both
	second.signal(syscall.SIGKILL)
	second.binary = today
	second.start()
	load.more(20)
	first.signal(syscall.SIGTERM)
	first.binary = today
	first.start()
	load.more(40) // today's alone, with the tasks of the previous one

	second.signal(syscall.SIGTERM)
	second.binary = before
	second.start()
	load.more(40) // and back, one after the other
	third.signal(syscall.SIGKILL)
	load.shopAt(second)
	first.signal(syscall.SIGTERM)
	first.binary = before
	first.start()
	load.shopAt(first, second)
	load.more(20)
	acked := load.end()
	settled(t, dsn, len(acked))
	for _, v := range []*victim{first, second} {
		v.signal(syscall.SIGTERM)
	}
	// What the previous program did is told the shop by the repair, as docs/operations.md says.
	verb(t, today, "verify", "--repair", "--apply", "--reason", "upgrade", "--dsn", dsn, "--data-dir", t.TempDir())
	holdAgainstWeChat(t, sim, dsn, acked)
}

// verb runs a verb of a program that was built.
func verb(t *testing.T, binary string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput(); err != nil {
		t.Fatalf("orderd %s: %v: %s", args, err, out)
	}
}

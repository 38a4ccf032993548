package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A full disk answers reads and pings. A load balancer that asks /readyz would send buyers to a process that can take
// no order.
func TestReadyzKnowsAFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fill, free := smallDisk(t, dir)
	a := embedded(t, dir)
	ready := func() int {
		res, err := http.Get("http://" + a.Admin + "/readyz") //nolint:noctx // of this process
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || !json.Valid(body) {
			t.Fatalf("%v %s", err, body)
		}
		return res.StatusCode
	}
	// An answer is kept for a second.
	until(t, "ready with room", func() bool { return ready() == http.StatusOK })
	fill()
	until(t, "not ready on a full disk", func() bool { return ready() == http.StatusServiceUnavailable })
	free()
	until(t, "ready with room again", func() bool { return ready() == http.StatusOK })
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// smallDisk makes dir a disk of 8 MB, which fill fills and free frees. Where nobody may mount
// one, its files have no folder any more while it is full: no new file finds room either.
func smallDisk(t *testing.T, dir string) (fill, free func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	away := dir + ".away"
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", dir).
		CombinedOutput(); err != nil {
		t.Logf("no small disk can be mounted here, the folder goes away instead: %v %s", err, out)
		return func() { must(os.Rename(dir, away)) }, func() { must(os.Rename(away, dir)) }
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	name := filepath.Join(dir, "full")
	return func() {
		full, err := os.Create(name)
		must(err)
		for err == nil {
			_, err = full.Write(make([]byte, 4<<10))
		}
		must(full.Close())
	}, func() { must(os.Remove(name)) }
}

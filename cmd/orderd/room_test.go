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
	if os.Getuid() != 0 {
		t.Skip("a small disk is mounted by root")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", dir).
		CombinedOutput(); err != nil {
		t.Skipf("no small disk can be mounted here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	a := embedded(t, dir)
	ready := func() (int, string) {
		res, err := http.Get("http://" + a.Admin + "/readyz") //nolint:noctx // of this process
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || !json.Valid(body) {
			t.Fatalf("%v %s", err, body)
		}
		return res.StatusCode, string(body)
	}
	if code, body := ready(); code != http.StatusOK {
		t.Errorf("with room: %d %s", code, body)
	}
	full, err := os.Create(filepath.Join(dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = full.Write(make([]byte, 4<<10))
	}
	if code, body := ready(); code != http.StatusServiceUnavailable {
		t.Errorf("on a full disk: %d %s", code, body)
	}
	if err := os.Remove(full.Name()); err != nil {
		t.Fatal(err)
	}
	_ = full.Close()
	if code, body := ready(); code != http.StatusOK {
		t.Errorf("with room again: %d %s", code, body)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"orderd/migrations/sqldb"
)

// pods are further processes of a demo: this program again, as `serve` in the role api, on the
// demo's database and Redis.
type pods struct{ all []*pod }

// pod is one of them.
type pod struct {
	cmd   *exec.Cmd
	ended chan struct{}
	said  bytes.Buffer // its standard error; read when it has ended
	saleDoors
}

// saleDoors are the addresses of a process.
type saleDoors struct{ api, admin string }

// Bounds of a further process.
const (
	podStart = 20 * time.Second // until it serves
	podStop  = 15 * time.Second // from SIGTERM to the end by force
)

// startPods starts n processes, and waits until all of them serve. The caller stops them, after
// an error too.
func (a *app) startPods(ctx context.Context, n int) (*pods, error) {
	ps := &pods{}
	self, err := os.Executable()
	if err != nil {
		return ps, err
	}
	for i := range n {
		p, err := a.startPod(self, fmt.Sprint("process-", i+2))
		if err != nil {
			return ps, fmt.Errorf("start a further process: %w", err)
		}
		ps.all = append(ps.all, p)
	}
	for _, p := range ps.all {
		if err := p.await(ctx); err != nil {
			return ps, err
		}
	}
	return ps, nil
}

// startPod starts one, whose own files are in a folder of the demo's. Secrets go by its
// environment, which other users of the machine cannot read.
func (a *app) startPod(self, name string) (*pod, error) {
	dir := filepath.Join(a.s.DataDir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The simulated merchant's keys take a second to make.
	if err := os.CopyFS(filepath.Join(dir, filepath.Base(a.s.simKeysDir())), os.DirFS(a.s.simKeysDir())); err != nil {
		return nil, err
	}
	p := &pod{ended: make(chan struct{})}
	for _, addr := range []*string{&p.api, &p.admin} {
		free, err := freeAddr()
		if err != nil {
			return nil, err
		}
		*addr = free
	}
	//nolint:gosec // G204: this program itself, on the demo's own folder
	p.cmd = exec.Command(self, "serve", "--role", "api,admin", "--data-dir", dir, "--log-level", "error")
	p.cmd.Env = append(os.Environ(), "ORDERD_DSN="+a.s.dsn(), "ORDERD_API_ADDR="+p.api, "ORDERD_ADMIN_ADDR="+p.admin,
		"ORDERD_SIM_ADDR=127.0.0.1:0", "ORDERD_NOTIFY_ADDR=127.0.0.1:0", "ORDERD_CUSTOMER_JWT_SECRET="+a.JWTSecret,
		"ORDERD_DRAIN_DELAY=0s", "ORDERD_PAY_WITHIN="+a.s.PayWithin.String())
	if a.miniURL != "" {
		p.cmd.Env = append(p.cmd.Env, "ORDERD_REDIS="+a.miniURL)
	}
	p.cmd.Stderr = &p.said
	p.cmd.SysProcAttr = childAttr()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is of no interest: what it did is in the database
	}()
	return p, nil
}

// await waits until a process serves.
func (p *pod) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, podStart)
	defer cancel()
	client := &http.Client{Timeout: podStart, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/healthz", nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			_ = res.Body.Close()
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("a further process ended at its start: %s", p.said.String())
		default:
		}
		if !sqldb.Sleep(ctx, 20*time.Millisecond) {
			return errors.New("a further process does not serve")
		}
	}
}

// doors are the addresses of all.
func (ps *pods) doors() (all []saleDoors) {
	for _, p := range ps.all {
		all = append(all, p.saleDoors)
	}
	return all
}

// stop ends the processes and waits for them; more than once it does nothing.
func (ps *pods) stop() {
	for _, p := range ps.all {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended is no error
	}
	late := time.NewTimer(podStop)
	defer late.Stop()
	for _, p := range ps.all {
		select {
		case <-p.ended:
		case <-late.C:
			_ = p.cmd.Process.Kill()
			<-p.ended
			late.Reset(0) // the time of the others is over too
		}
	}
	ps.all = nil
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
)

// What an empty configuration means. This file alone imports the in-process
// Redis and the simulator.

// The merchant of the simulator, in the form that WeChat Pay's numbers have. No such
// merchant exists.
const (
	simMchID = "1900000001"
	simAppID = "wx0000000000000001"
)

// simHeaders bounds how long a client of the simulator may take to send its headers.
const simHeaders = 10 * time.Second

// lockDataDir keeps a second service off the same embedded parts. The file stays open as
// long as the lock shall hold; flock(2) ends it with the process, however that ends,
// which a file with a process id in it would not.
func lockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another orderd serves from %s; stop it, or use another --data-dir", dir),
			f.Close())
	}
	return f, nil
}

// startRedis runs a Redis in this process, on a port of loopback that is drawn, and gives its
// URL. The password is drawn too: every user of this machine reaches the port, and whoever
// writes to the queue gives the service its tasks. It forgets everything at the end; the
// sweep sets the wake-ups again.
func startRedis() (m *miniredis.Miniredis, address string, err error) {
	m = miniredis.NewMiniRedis()
	m.ClockTTL(true) // else keys never expire: miniredis has a clock that tests move
	password := rand.Text()
	m.RequireAuth(password)
	if err := m.Start(); err != nil {
		return nil, "", err
	}
	u := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: m.Addr()}
	return m, u.String(), nil
}

// simKeysDir is where the keys of the simulated merchant are. They are kept, so that a
// simulator that runs apart (`orderd sim`) and the service agree on them.
func (s *settings) simKeysDir() string { return filepath.Join(s.DataDir, "wechat-sim") }

// simulator is a WeChat Pay in this process, on a listener of its own: the service talks
// to it by HTTP, with signatures, as it does to the real one.
type simulator struct {
	*wechatsim.Sim
	server *http.Server
	addr   string
	second *http.Server // of its other entry, nil without
}

// startSimulator runs the simulator on ORDERD_SIM_ADDR. seed decides its random choices,
// speed divides the waits between its notifications, nasty makes it lose answers and
// repeat notifications.
func (s *settings) startSimulator(seed uint64, speed float64, nasty bool, log *slog.Logger) (*simulator, error) {
	keys, err := wechatsim.LoadOrGenerateKeys(s.simKeysDir(), simMchID, simAppID)
	if err != nil {
		return nil, err
	}
	sim, err := wechatsim.New(wechatsim.Options{Keys: keys, Now: time.Now, Log: log, Seed: seed, Speed: speed,
		Nasty: nasty, AppSecret: s.ShippingSecret})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", s.SimAddr)
	if err != nil {
		sim.Close()
		return nil, fmt.Errorf("listener of the simulator: %w (set ORDERD_SIM_ADDR)", err)
	}
	srv := &http.Server{Handler: sim.Handler(), ReadHeaderTimeout: simHeaders}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("simulator", "err", err)
		}
	}()
	return &simulator{Sim: sim, server: srv, addr: l.Addr().String()}, nil
}

// listen serves the simulator's other entry.
func (s *simulator) listen(addr string, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("second listener of the simulator: %w", err)
	}
	s.second = &http.Server{Handler: h, ReadHeaderTimeout: simHeaders}
	go func() { _ = s.second.Serve(l) }() // until stop
	return nil
}

// stop ends the simulator and closes its listener; a call that a fault holds back is cut
// when ctx ends.
func (s *simulator) stop(ctx context.Context) error {
	s.Sim.Close()
	if s.second != nil {
		_ = s.second.Close() // a call that is cut was not answered; the main entry drains
	}
	if err := s.server.Shutdown(ctx); err != nil {
		return s.server.Close()
	}
	return nil
}

// simGateway is the configuration of a gateway to the simulator at addr, with keys that
// are made where there are none yet.
func (s *settings) simGateway(addr string) (wechat.Config, error) {
	keys, err := wechatsim.LoadOrGenerateKeys(s.simKeysDir(), simMchID, simAppID)
	if err != nil {
		return wechat.Config{}, err
	}
	c := keys.Client()
	return wechat.Config{
		MchID:         c.MchID,
		AppID:         c.AppID,
		SerialNo:      c.SerialNo,
		PrivateKeyPEM: c.PrivateKeyPEM,
		APIv3Key:      c.APIv3Key,
		VerifyKeys:    c.VerifyKeys,
		BaseURL:       "http://" + addr,
	}, nil
}

// saveSimSettings writes beside the keys what a service that runs apart needs of the simulator
// at addr, as lines for --config or a shell, and gives the file. No secret is in it: it names
// the files that have them.
func (s *settings) saveSimSettings(addr string) (file string, err error) {
	dir, err := filepath.Abs(s.simKeysDir())
	if err != nil {
		return "", err
	}
	c, notify, err := s.gatewayConfig(addr)
	if err != nil {
		return "", err
	}
	var verify []string
	for _, id := range slices.Sorted(maps.Keys(c.VerifyKeys)) {
		pem := filepath.Join(dir, "verify-"+id+".pem")
		if err := os.WriteFile(pem, c.VerifyKeys[id], 0o600); err != nil {
			return "", err
		}
		verify = append(verify, id+"="+pem)
	}
	file = filepath.Join(dir, "orderd.env")
	var text strings.Builder
	for _, line := range [][2]string{
		{"MCHID", c.MchID},
		{"APPID", c.AppID},
		{"SERIAL_NO", c.SerialNo},
		{"PRIVATE_KEY_FILE", filepath.Join(dir, "merchant_private_key.pem")},
		{"APIV3_KEY_FILE", filepath.Join(dir, "apiv3_key.txt")},
		{"VERIFY_KEYS", strings.Join(verify, ",")},
		{"BASE_URL", c.BaseURL},
		{"NOTIFY_URL", notify},
	} {
		_, _ = fmt.Fprintf(&text, "ORDERD_WECHAT_%s=\"%s\"\n", line[0], line[1])
	}
	if err := os.WriteFile(file+".tmp", []byte(text.String()), 0o600); err != nil {
		return "", err
	}
	return file, os.Rename(file+".tmp", file) // who waits for it reads all of it
}

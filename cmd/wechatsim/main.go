package main

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"orderd/cmd/screen"
	"orderd/payment/wechatsim"
)

const (
	// maxSeed bounds the seeds that are drawn: six digits.
	maxSeed = 1_000_000
	// shutdownPatience is how long requests under way may take after SIGTERM; the
	// ones that a fault holds back are cut then.
	shutdownPatience = 2 * time.Second
	// headerPatience keeps idle connections from piling up.
	headerPatience = 10 * time.Second
)

// helpTexts are those that are too long for a line with their flag; the tags name them.
var helpTexts = kong.Vars{
	"sim_addr": "Where to listen. The control surface answers this machine only, wherever this is.",
	"sim_keys": "Folder of the keys of both sides; made on the first run.",
	"sim_fault": "What to do wrong, repeatable: ENDPOINT=KIND[:PART]..., such as close=timeout:10%, notify=drop:5%, " +
		"close=status:429:FREQUENCY_LIMITED:x3.",
}

// flags is the command line; kong reads the tags. None of them is a variable of the
// environment.
type flags struct {
	Addr string `default:"127.0.0.1:7070" help:"${sim_addr}"`
	// Keys is where whoever uses the simulator finds the merchant's keys and WeChat
	// Pay's.
	Keys  string `default:"wechatsim-keys" help:"${sim_keys}" placeholder:"DIR"`
	MchID string `name:"mchid" default:"1900000001" help:"The merchant."`
	AppID string `name:"appid" default:"wx0000000000000001" help:"The merchant's app."`
	// Fault is repeatable; sep none: one flag is one fault, whatever characters it has.
	Fault []string `sep:"none" help:"${sim_fault}" placeholder:"FAULT"`
	// Seed is a pointer because 0 is a seed too.
	Seed          *uint64 `help:"Of every random decision; without it one is drawn and printed."`
	Calm          bool    `help:"Be well-behaved: no duplicates, delays, probes, lost answers."`
	Speed         float64 `default:"1" help:"Divide the times of the callback retries by this."`
	PublicKeyOnly bool    `help:"A merchant without platform certificates."`
	Log           string  `help:"Write every request and effect to this file, as JSON lines." placeholder:"FILE"`
}

// main ends on SIGINT and SIGTERM; an error is exit 1, a wrong command line what kong
// makes of it.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var f flags
	parser := kong.Must(&f, kong.Name("wechatsim"), helpTexts,
		kong.Description("A stand-in for WeChat Pay v3 on this machine. No real money anywhere."))
	_, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	if err := run(ctx, f, os.Stdout); err != nil {
		screen.Printf(os.Stderr, "wechatsim: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// run serves until ctx ends. What it prints first tells where everything is; tests and
// scripts wait for that. Faults are read before the listener opens: a typing error must
// not look like a calm day.
func run(ctx context.Context, f flags, out io.Writer) (err error) {
	keys, err := wechatsim.LoadOrGenerateKeys(f.Keys, f.MchID, f.AppID)
	if err != nil {
		return err
	}
	options := wechatsim.Options{
		Keys: keys, Now: time.Now, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Speed: f.Speed, Nasty: !f.Calm, PublicKeyOnly: f.PublicKeyOnly, Seed: chosenSeed(f.Seed),
	}
	if f.Log != "" {
		file, err := os.OpenFile(f.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("open effects log: %w", err)
		}
		defer func() { _ = file.Close() }() // nothing is buffered; a failed write was reported
		options.EffectsLog = file
	}
	sim, err := wechatsim.New(options)
	if err != nil {
		return err
	}
	defer sim.Close()
	for _, text := range f.Fault {
		fault, err := wechatsim.ParseFault(text)
		if err != nil {
			return err
		}
		if err := sim.AddFault(fault); err != nil {
			return err
		}
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", f.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", f.Addr, err)
	}
	announce(out, f, options, listener.Addr().String())
	return serve(ctx, sim, listener)
}

// serve runs the server and stops it cleanly when ctx ends; both are nil. An error is one
// of the listener.
func serve(ctx context.Context, sim *wechatsim.Sim, listener net.Listener) error {
	server := &http.Server{Handler: sim.Handler(), ReadHeaderTimeout: headerPatience}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	// The old context is over; what is under way gets a short one of its own.
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
	defer cancel()
	if server.Shutdown(patience) != nil {
		_ = server.Close() // the connections that are left are held by faults
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// announce prints where everything is, for people and for scripts that wait for it.
func announce(out io.Writer, f flags, o wechatsim.Options, addr string) {
	mood := "nasty; --calm makes it well-behaved"
	if f.Calm {
		mood = "calm"
	}
	client := o.Keys.Client()
	screen.Printf(out, `wechatsim: simulated WeChat Pay v3, no real money anywhere
  api       http://%[1]s
  control   http://%[1]s/control
  merchant  %[2]s, app %[3]s, certificate %[4]s
  keys      %[5]s (WeChat Pay public key %[6]s)
  seed      %[7]d (%[8]s)
`, addr, client.MchID, client.AppID, client.SerialNo, f.Keys, client.PublicKeyID, o.Seed, mood)
	for _, fault := range f.Fault {
		screen.Printf(out, "  fault     %s\n", fault)
	}
}

// chosenSeed is the given seed, or one that is drawn and short enough to type again.
func chosenSeed(given *uint64) uint64 {
	if given != nil {
		return *given
	}
	var b [8]byte
	_, _ = crand.Read(b[:]) // never fails since Go 1.24: it crashes instead
	return binary.LittleEndian.Uint64(b[:]) % maxSeed
}

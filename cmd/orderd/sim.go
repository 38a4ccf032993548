package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"orderd/cmd/screen"
	"orderd/order"
	"orderd/payment/wechatsim"
)

// simCmd is `orderd sim`: a WeChat Pay v3 on ORDERD_SIM_ADDR for a service that runs
// apart, with the keys that such a service finds in the same data directory, or by the
// settings that are written there.
type simCmd struct {
	// Fault is read by wechatsim.ParseFault; sep none: one flag is one fault, whatever
	// characters it has.
	Fault []string `sep:"none" help:"What to do wrong, such as close=timeout:10% or notify=drop:5%; repeatable."`
	Seed  uint64   `help:"Of every random decision (default: drawn)."`
	Calm  bool     `help:"Be well-behaved."`
	// SecondAddr is WeChat Pay's other entry, of the same trades.
	SecondAddr string  `placeholder:"ADDR" help:"Listen here too, as WeChat Pay's second entry."`
	Speed      float64 `default:"1" help:"Divide the times of the callback retries by this."`
}

// Run runs the simulator until a signal. A fault that cannot be read is errUsage.
func (c *simCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	sim, err := s.startSimulator(c.Seed, c.Speed, !c.Calm, s.logger(t))
	if err != nil {
		return err
	}
	if c.SecondAddr != "" {
		if err := sim.listen(c.SecondAddr, sim.SecondHandler()); err != nil {
			return err
		}
	}
	for _, text := range c.Fault {
		f, err := wechatsim.ParseFault(text)
		if err == nil {
			err = sim.AddFault(f)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	file, err := s.saveSimSettings(sim.addr)
	if err != nil {
		return errors.Join(err, sim.stop(ctx))
	}
	screen.Printf(t.Err, "simulated WeChat Pay on http://%s, no real money anywhere\ncontrol: http://%s/control/  "+
		"keys: %s  seed: %d\nsettings of a service that runs apart: %s\n",
		sim.addr, sim.addr, s.simKeysDir(), c.Seed, file)
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	return sim.stop(stop)
}

// triggerCmd is `orderd trigger`, for trying things out on the simulator: it makes one
// thing happen there, whose notification comes to the service as from WeChat Pay.
type triggerCmd struct {
	Event string `arg:"" enum:"${trigger_event_enum}" help:"${trigger_event}"`
	No    string `arg:"" name:"order-no" help:"Order number."`
}

// control is what a payment's event asks of the simulator's control surface. duplicate
// repeats the notification of a payment that was made; late pays a trade that is closed;
// bad_signature is the last one.
func (c triggerCmd) control(outTradeNo string) (path string, body map[string]any) {
	trade := "/control/trades/" + outTradeNo
	switch c.Event {
	case "payment.success":
		return trade + "/pay", map[string]any{"notify": true}
	case "payment.late":
		return trade + "/pay", map[string]any{"notify": true, "force": true}
	case "payment.duplicate":
		return trade + "/notify", map[string]any{"count": 2}
	case "payment.wrong_amount":
		return trade + "/notify", map[string]any{"mode": "wrong_amount"}
	}
	return trade + "/notify", map[string]any{"mode": "forged"}
}

// Run lets the simulator pay an order's newest trade, or end its newest refund, and shows
// what became of the order. With a merchant it is errUsage.
func (c *triggerCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	if !s.simulated() {
		return fmt.Errorf("%w: a merchant is configured; this verb only speaks to the simulator", errUsage)
	}
	return withCore(ctx, s, func(co *core) error {
		o, err := co.orders.Find(ctx, c.No)
		if err != nil {
			return err
		}
		if len(o.Attempts) == 0 {
			return fmt.Errorf("order %s was never prepaid: POST /v1/orders/%s/prepay first", c.No, c.No)
		}
		// The newest trade is the one that can be paid, if any.
		path, body := c.control(o.Attempts[len(o.Attempts)-1].OutTradeNo)
		if end, ok := strings.CutPrefix(c.Event, "refund."); ok {
			if len(o.Refunds) == 0 {
				return fmt.Errorf("order %s has no refund: POST /v1/orders/%s/refunds first", c.No, c.No)
			}
			path = "/control/refunds/" + o.Refunds[len(o.Refunds)-1].OutRefundNo + "/outcome"
			body = map[string]any{"status": strings.ToUpper(end), "after_ms": 0}
		}
		if err := post(ctx, "http://"+s.SimAddr+path, body); err != nil {
			return err
		}
		return c.report(ctx, co, t)
	})
}

// report waits a moment for the callback to do its work, and prints the order as it is
// then, also when nothing came: some events must change nothing.
func (c triggerCmd) report(ctx context.Context, co *core, t *terminal) error {
	// A notification takes some milliseconds on one machine; the simulator may lose it
	// and send it again a second later.
	const patience, step = 2 * time.Second, 50 * time.Millisecond
	var o order.Order
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(step) {
		var err error
		if o, err = co.orders.Find(ctx, c.No); err != nil {
			return err
		}
		if o.Payment != nil && !strings.HasPrefix(c.Event, "refund.") {
			break
		}
	}
	screen.Printf(t.Out, "%s is %s, version %d\n", o.OrderNo, o.State, o.Version)
	for _, r := range o.Refunds {
		screen.Printf(t.Out, "refund %s is %s\n", r.OutRefundNo, r.State)
	}
	return nil
}

// maxAnswer bounds an answer of the simulator's control, in bytes.
const maxAnswer = 64 << 10

// controlTimeout bounds a call of the simulator's control, which answers at once on the
// same machine.
const controlTimeout = 10 * time.Second

// post sends JSON to the simulator's control. No answer is errDown, a status of 300 or
// more an error with its text.
func post(ctx context.Context, url string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Timeout: controlTimeout}).Do(req)
	if err != nil {
		return fmt.Errorf("%w: no simulator answers at %s: run 'orderd serve' or 'orderd sim'", errDown, url)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("the simulator refused: %s %s", res.Status, bytes.TrimSpace(text))
	}
	return err
}

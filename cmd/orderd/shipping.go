package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment/operators"
	"orderd/payment/shipping"
)

// ships reports that shipments are reported: a mini program's shop has configured it.
func (s *settings) ships() bool { return s.ShippingSecret != "" || s.ShippingTokenURL != "" }

// checkShipping refuses settings of shipments that contradict one another.
func (s *settings) checkShipping() error {
	if s.ShippingSecret != "" && s.ShippingTokenURL != "" {
		return errors.New("set ORDERD_SHIPPING_APP_SECRET or ORDERD_SHIPPING_TOKEN_URL, not both: access tokens come " +
			"from one place")
	}
	for name, text := range map[string]string{"ORDERD_SHIPPING_TOKEN_URL": s.ShippingTokenURL,
		"ORDERD_SHIPPING_BASE_URL": s.ShippingBaseURL} {
		if text == "" {
			continue
		}
		// The text is not shown: it may have a password.
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			return fmt.Errorf("%s must be an https address (http only on this machine): access tokens go there", name)
		}
	}
	return nil
}

// loopback reports that a host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// startShipping makes the shipments of a mini program's shop; without its settings there
// are none.
func (c *core) startShipping(s *settings, appID, simAddr string, observe order.Observer, log *slog.Logger) error {
	if !s.ships() {
		return nil
	}
	client, err := s.shippingClient(appID, simAddr)
	if err != nil {
		return err
	}
	c.close = append(c.close, client.CloseIdleConnections)
	sc := shipping.Config{DB: c.db, Reporter: client, AppID: appID, Now: c.clock.Now, Log: log, Pace: s.Pace}
	if o, ok := observe.(shipping.Observer); ok {
		sc.Observe = o
	}
	c.shipping, err = shipping.New(sc)
	return err
}

// shippingClient makes the client of WeChat's server for mini programs, or of the simulator.
func (s *settings) shippingClient(appID, simAddr string) (*shipping.Client, error) {
	base := s.ShippingBaseURL
	if base == "" && s.simulated() {
		base = "http://" + simAddr
	}
	return shipping.NewClient(shipping.ClientConfig{AppID: appID, AppSecret: s.ShippingSecret,
		TokenURL: s.ShippingTokenURL, BaseURL: base, Now: time.Now})
}

// checkShipments is doctor's: it tries the access token of a mini program's shop. The
// simulator's may not be there yet, and proves nothing.
func checkShipments(ctx context.Context, p *patient) []diagnosis {
	if !p.s.ships() || p.s.simulated() {
		return nil
	}
	const id, why = "shipping.token", "what was sent is not reported, and WeChat keeps the shop's money"
	client, err := p.s.shippingClient(p.s.AppID, "")
	if err != nil {
		return failed(id, misconfigured(err), err.Error(), why, "set ORDERD_WECHAT_APPID")
	}
	defer client.CloseIdleConnections()
	v, err := client.Look(ctx)
	var refused *shipping.TokenError
	switch {
	case errors.As(err, &refused) && !refused.Passing():
		return failed(id, misconfigured(err), err.Error(), why, p.s.tokenFix())
	case err != nil:
		return failed(id, errors.Join(errDown, err), err.Error(), why, "is there a way out of this network to "+
			"WeChat's server for mini programs, and to ORDERD_SHIPPING_TOKEN_URL if it is set? Ask again")
	case v.Means == shipping.Setting || v.Means == shipping.Stale:
		found := fmt.Sprintf("WeChat refuses the account or its access token: %d %s", v.Code, v.Message)
		return failed(id, misconfigured(errors.New(found)), found, why, p.s.tokenFix())
	}
	return plain(sqldb.Finding{ID: id, Level: sqldb.LevelOK, Found: "WeChat's server for mini programs takes it"})
}

// tokenFix is what to do when WeChat refuses an access token.
func (s *settings) tokenFix() string {
	if s.ShippingTokenURL != "" {
		return "does the service at ORDERD_SHIPPING_TOKEN_URL give tokens of the mini program of " +
			"ORDERD_WECHAT_APPID, and may that one call the management of shipments?"
	}
	return "compare ORDERD_SHIPPING_APP_SECRET and ORDERD_WECHAT_APPID with the mini program's settings, put this " +
		"machine's address on its list, and see that it has the management of shipments"
}

// errNoShipping: the verbs of shipments need the settings.
var errNoShipping = fmt.Errorf("%w: shipments are off; set ORDERD_SHIPPING_APP_SECRET or ORDERD_SHIPPING_TOKEN_URL, "+
	"if the shop is a mini program under WeChat's shipping management (发货信息管理)", errUsage)

// withShipping is withCore for verbs that need shipments.
func withShipping(ctx context.Context, s *settings, do func(co *core) error) error {
	if !s.ships() {
		return errNoShipping
	}
	return withCore(ctx, s, do)
}

// shipmentCmd is `orderd shipment …`.
type shipmentCmd struct {
	List shipmentList `cmd:"" default:"withargs" help:"List them: what nobody has sent, unless another state is named."`
	Get  shipmentGet  `cmd:"" help:"Show the shipment of an order."`
	Send shipmentSend `cmd:"" help:"Say what was sent for an order; a worker reports it to WeChat."`
}

// shipmentList is `orderd shipment list`.
type shipmentList struct {
	output
	State  shipping.State `default:"owed" help:"owed, due, reported, refused or void."`
	Limit  pageRows       `default:"50" help:"1 to 200."`
	Cursor string         `help:"Go on after this cursor."`
}

// Run lists shipments.
func (c *shipmentList) Run(ctx context.Context, s *settings, t *terminal) error {
	if !slices.Contains(shipping.States, c.State) {
		return fmt.Errorf("%w: --state is owed, due, reported, refused or void", errUsage)
	}
	return withShipping(ctx, s, func(co *core) error {
		rows, next, err := co.shipping.List(ctx, c.State, c.Cursor, int(c.Limit))
		if err != nil {
			return err
		}
		if next != "" {
			defer screen.Printf(t.Err, "more: --cursor %s\n", next)
		}
		now := co.clock.Now()
		return c.show(t, viewed(rows, shipmentNow), func(w io.Writer) {
			screen.Printf(w, "ORDER\tSTATE\tPAID\tLEFT\tPARCELS\tTRIES\tNEXT\tWECHAT\n")
			for i := range rows {
				r := &rows[i]
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.OrderNo, r.State, stamp(r.PaidAt),
					r.Left(now).Round(time.Minute), parcels(&r.Content), r.Tries, stamp(r.DueAt), said(r))
			}
		})
	})
}

// parcels is how many there are, with a plus sign when more are to come.
func parcels(c *shipping.Content) string {
	more := ""
	if c.Partial {
		more = "+"
	}
	return fmt.Sprintf("%d%s", len(c.Parcels), more)
}

// said is WeChat's last answer about a shipment, for a table.
func said(s *shipping.Shipment) string {
	if s.Code == 0 {
		return s.Message
	}
	return fmt.Sprintf("%d %s", s.Code, s.Message)
}

// shipmentGet is `orderd shipment get`.
type shipmentGet struct {
	output
	No string `arg:"" name:"order-no" help:"Order number."`
}

// Run shows one.
func (c *shipmentGet) Run(ctx context.Context, s *settings, t *terminal) error {
	return withShipping(ctx, s, func(co *core) error {
		sh, ok, err := co.shipping.Find(ctx, c.No)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("no shipment is owed for order %s, or nothing was sent for it", c.No)
		}
		return c.showShipment(t, &sh)
	})
}

// shipmentNow shows a shipment as the API does.
func shipmentNow(sh *shipping.Shipment) console.ShipmentView {
	return console.ViewShipment(sh, time.Now())
}

// showShipment prints a shipment.
func (o output) showShipment(t *terminal, sh *shipping.Shipment) error {
	return o.show(t, shipmentNow(sh), func(w io.Writer) {
		screen.Printf(w, "%s  %s\n", sh.OrderNo, sh.State)
		screen.Printf(w, "payment\t%s of %s\n", sh.TransactionID, stamp(sh.PaidAt))
		for _, p := range sh.Content.Parcels {
			screen.Printf(w, "%s\t%s %s  %s\n", sh.Content.Way, p.Carrier, p.Number, p.Goods)
		}
		if sh.Content.Partial {
			screen.Printf(w, "\tmore is to come\n")
		}
		if !sh.DueAt.IsZero() {
			screen.Printf(w, "next\t%s, after %d calls\n", stamp(sh.DueAt), sh.Tries)
		}
		if text := said(sh); text != "" {
			screen.Printf(w, "WeChat\t%s\n", text)
		}
	})
}

// shipmentSend is `orderd shipment send`.
type shipmentSend struct {
	output
	person
	No  string `arg:"" name:"order-no" help:"Order number."`
	Way string `default:"express" enum:"express,city,virtual,pickup" help:"express, city, virtual or pickup."`
	// Parcel is repeatable; sep none: goods may have commas.
	Parcel  []string `required:"" sep:"none" help:"${shipment_parcel}"`
	Partial bool     `help:"More is to come."`
}

// parseParcel reads CARRIER:NUMBER:GOODS[:CONTACT], or GOODS alone for what has no carrier.
func parseParcel(text string, way shipping.Way) (shipping.Parcel, error) {
	if way != shipping.Express {
		return shipping.Parcel{Goods: text}, nil
	}
	part := strings.Split(text, ":")
	if len(part) < 3 || len(part) > 4 {
		return shipping.Parcel{}, fmt.Errorf("%w: --parcel %q: want CARRIER:NUMBER:GOODS or "+
			"CARRIER:NUMBER:GOODS:189****1234", errUsage, text)
	}
	p := shipping.Parcel{Carrier: part[0], Number: part[1], Goods: part[2]}
	if len(part) == 4 {
		p.Contact = part[3]
	}
	return p, nil
}

// Run stores what was sent.
func (c *shipmentSend) Run(ctx context.Context, s *settings, t *terminal) error {
	content := shipping.Content{Way: shipping.ParseWay(c.Way), Partial: c.Partial}
	for _, text := range c.Parcel {
		p, err := parseParcel(text, content.Way)
		if err != nil {
			return err
		}
		content.Parcels = append(content.Parcels, p)
	}
	if err := content.Check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return withShipping(ctx, s, func(co *core) error {
		by, err := c.who(ctx, co, operators.Operator)
		if err != nil {
			return err
		}
		sh, err := co.shipping.Put(ctx, shipping.Put{OrderNo: c.No, Content: content, By: by})
		if err != nil {
			return err
		}
		return c.showShipment(t, &sh)
	})
}

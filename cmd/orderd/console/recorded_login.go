package console

import (
	"context"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/order/orderhttp"
	"orderd/payment/operators"
	"orderd/payment/trail"
)

// The acts of whoever is nobody yet, in the audit trail. Each is one row, of its end: a login is written
// in the transaction that makes the session.
const (
	actLogin = "login.begin"
	actLink  = "link.use"
)

// nobodyKnown is the actor of a login by a name that nobody has: it may be a password. No person can
// have it as a name.
const nobodyKnown = "unknown"

// entered writes into the audit trail that somebody has come in, in the transaction that lets them; told is called when
// that has been committed.
func (c *console) entered(ctx echo.Context, action string) (also operators.Also, told func()) {
	if c.Trail == nil {
		return nil, func() {}
	}
	e := c.doorEntry(ctx, action)
	e.Outcome = trail.Done
	return func(ctx context.Context, tx *sqldb.Tx, s operators.Session) error {
		e.Actor, e.Target, e.Role, e.Session = s.Person, s.Person, string(s.Role), sessionMark(s)
		return trail.Insert(ctx, tx, &e)
	}, func() { c.Trail.Told(&e) }
}

// turnedAway writes into the audit trail that a login was looked at and refused. Those that were not
// looked at are not in it: whoever floods the door must not flood the trail.
func (c *console) turnedAway(ctx echo.Context, name string) {
	if c.Trail == nil {
		return
	}
	e := c.doorEntry(ctx, actLogin)
	e.Outcome = trail.Refused
	err := c.Trail.Append(ctx.Request().Context(), &e, func(ctx context.Context, tx *sqldb.Tx) error {
		known, err := operators.Exists(ctx, tx, name)
		if e.Actor = nobodyKnown; known {
			e.Actor = name
		}
		e.Target = e.Actor
		return err
	})
	if err != nil {
		c.Log.Error("the audit trail has no refused login", "err", err)
	}
}

// doorEntry is a row about whoever asks to come in.
func (c *console) doorEntry(ctx echo.Context, action string) trail.Entry {
	now := c.Now()
	return trail.Entry{Act: trail.NewID(now), Step: trail.StepEnded, At: now, What: trail.What{Action: action},
		Who: trail.Who{Address: orderhttp.AddressOf(ctx.Request(), c.TrustedProxies),
			RequestID: orderhttp.RequestID(ctx)}}
}

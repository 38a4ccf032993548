package main

import (
	"errors"

	"orderd/migrations"
	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/shops"
	"orderd/order/webhooks"
	"orderd/payment"
	"orderd/payment/reconcile"
	"orderd/payment/shipping"
	"orderd/payment/trail"
	"orderd/scheduler"
	"orderd/stock"
)

// Exit codes, a contract with scripts.
const (
	exitOK        = 0
	exitFailed    = 1 // anything that has no number of its own
	exitUsage     = 2 // the command line or the configuration is wrong; nothing was done
	exitOpen      = 3 // reconcile: differences are open
	exitInvariant = 4 // verify, demo: an invariant is broken
	exitDown      = 5 // what orderd depends on is away; the same again later may work
)

// errUsage marks mistakes of the caller, wrapped with what is wrong: exit 2. Nothing was
// changed.
var errUsage = errors.New("usage")

// errBroken marks a broken invariant: exit 4. A monitor that runs verify tells it so from
// a database that is away.
var errBroken = errors.New("an invariant is broken")

// errLost marks what a fail-over lost: exit 4, as of errBroken.
var errLost = errors.New("writes are lost")

// errDown marks a dependency that is away: exit 5. A script may run the same verb again.
var errDown = errors.New("a dependency is down")

// misconfigured marks an error of a setting, whose text names it: exit 2.
func misconfigured(err error) error {
	if err == nil {
		return nil
	}
	return settingError{err}
}

// settingError is an error that is errUsage too, with a text of its own.
type settingError struct{ error }

// Unwrap gives the error and what it is.
func (e settingError) Unwrap() []error { return []error{e.error, errUsage} }

// exitCodes is the one table of errors and their numbers, for every verb; the first row
// that fits decides. Where an error matches two of them the caller's own mistake comes
// first: running the same again would not help.
var exitCodes = []struct {
	fits func(error) bool
	code int
}{
	{is(errUsage, sqldb.ErrDSN, sqldb.ErrNoDatabase, sqldb.ErrNoCopy, sqldb.ErrChecksOff,
		migrations.ErrNoPartitions, migrations.ErrPartitions, scheduler.ErrRedisURL, reconcile.ErrRequest,
		bounds.ErrCursor, webhooks.ErrOff, shops.ErrName, shops.ErrScope, trail.ErrFile),
		exitUsage},
	{refused, exitUsage},
	{answered(payment.KindMisconfigured), exitUsage}, // our keys, or our merchant
	{is(errOpen), exitOpen},
	{is(errBroken), exitInvariant},
	{is(errLost), exitInvariant},
	{is(errDown, sqldb.ErrUnavailable, sqldb.ErrOverloaded, sqldb.ErrLostRace, payment.ErrBillNotReady,
		payment.ErrBillDamaged, reconcile.ErrRunning), exitDown},
	{answered(payment.KindUnknown, payment.KindRateLimited, payment.KindUserPaying), exitDown},
}

// refused fits what a package says of a value that it does not take: a reason, a quantity, a
// parcel. Nothing was done.
func refused(err error) bool {
	return errors.As(err, new(*order.ValidationError)) || errors.As(err, new(*stock.InvalidError)) ||
		errors.As(err, new(*shipping.InvalidError)) || errors.As(err, new(*webhooks.InvalidError)) ||
		errors.Is(err, bulk.ErrTooMany) || errors.Is(err, bulk.ErrID) || errors.Is(err, bulk.ErrReused)
}

// is fits an error that is one of those.
func is(those ...error) func(error) bool {
	return func(err error) bool {
		for _, e := range those {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
}

// answered fits an error of a call to WeChat Pay, of one of the kinds.
func answered(kinds ...payment.Kind) func(error) bool {
	return func(err error) bool {
		var g *payment.GatewayError
		if !errors.As(err, &g) {
			return false
		}
		for _, k := range kinds {
			if g.Kind == k {
				return true
			}
		}
		return false
	}
}

// exitCode gives the number of an error.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	for _, row := range exitCodes {
		if row.fits(err) {
			return row.code
		}
	}
	return exitFailed
}

// hints are the next steps after errors that people meet in their first hours. They are
// for people alone: the exit code is what scripts go by.
var hints = []struct {
	fits func(error) bool
	next string
}{
	{func(err error) bool { return errors.As(err, new(mend)) }, ""}, // doctor has said it
	{is(sqldb.ErrDSN), "Set ORDERD_DSN or --dsn."},
	{is(sqldb.ErrNoCopy), "--against is the old primary's database, of the same shop."},
	{is(sqldb.ErrNoDatabase), "Is --data-dir right? 'orderd serve' makes a database there, 'orderd migrate up' too."},
	{is(migrations.ErrSchemaBehind, sqldb.ErrChecksOff), ""}, // say it themselves
	{is(sqldb.ErrUnavailable), "Is the database running, and ORDERD_DSN right? 'orderd doctor' looks."},
	{is(order.ErrNotFound), "'orderd order list' shows what there is."},
	{is(reconcile.ErrNotFound), "'orderd reconcile list' shows what there is."},
	{is(payment.ErrBillNotReady), "A running 'orderd serve' asks again by itself."},
	{is(bulk.ErrNotFound), "'orderd bulk list' shows what there is."},
	{is(scheduler.ErrNoFailedTask), "'orderd tasks dead list' shows what there is."},
	{is(order.ErrRefundNotFound), "'orderd refund list' shows what there is."},
	{is(webhooks.ErrNotFound), "'orderd webhook list' shows what there is."},
	{is(stock.ErrSKUNotFound), "'orderd stock show' lists the SKUs, 'orderd stock import FILE.csv' makes them."},
	{answered(payment.KindMisconfigured), "WeChat Pay refuses our keys or our merchant: 'orderd doctor' says which."},
	{answered(payment.KindUnknown, payment.KindRateLimited, payment.KindUserPaying),
		"WeChat Pay gave no usable answer and nothing moved: the same again later may work; 'orderd doctor' looks."},
}

// hint is the next step after an error, "" where the error says it or nobody knows one.
func hint(err error) string {
	for _, h := range hints {
		if h.fits(err) {
			return h.next
		}
	}
	return ""
}

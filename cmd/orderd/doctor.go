package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment/wechat"
	"orderd/scheduler"
)

// doctorCmd is `orderd doctor`: every dependency, what is wrong with it, why that matters
// and how to mend it. It changes nothing.
type doctorCmd struct{ output }

const (
	// maxSkew is how far our clock may be off the database's. WeChat Pay refuses
	// signatures that are five minutes off; with NTP two machines differ by milliseconds,
	// so past one minute something is wrong.
	maxSkew = time.Minute
	// keyWarning is how long before the end of a certificate of WeChat Pay doctor warns:
	// a month is enough to plan the change to the next key.
	keyWarning = 30 * 24 * time.Hour
	// doctorLimit bounds all checks together: servers that do not answer must not keep a
	// person waiting.
	doctorLimit = 30 * time.Second
)

// Run looks at everything that orderd depends on. It ends with an error, exit 1, when
// something must be mended; a warning alone is exit 0.
func (c *doctorCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	ctx, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	found := c.examine(ctx, s)
	worst := sqldb.LevelOK
	for _, f := range found {
		if f.Level == sqldb.LevelFail || worst == sqldb.LevelOK {
			worst = f.Level
		}
	}
	err := c.show(t, found, func(w io.Writer) {
		for _, f := range found {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.Level, f.ID, f.Found)
			if f.Level != sqldb.LevelOK {
				fmt.Fprintf(w, "\t\t  why: %s\n\t\t  fix: %s\n", f.Why, f.Fix)
			}
		}
	})
	if err == nil && worst == sqldb.LevelFail {
		err = errors.New("something must be mended, see above")
	}
	return err
}

// examine looks at keys, database, schema, clock, Redis and orders, in that order, as far
// as it comes: what cannot be looked at without the one before is left out.
func (c doctorCmd) examine(ctx context.Context, s *settings) []sqldb.Finding {
	found := checkKeys(s)
	db, err := sqldb.Open(ctx, s.dsn())
	if err != nil {
		return append(found, sqldb.Finding{ID: "database.open", Level: sqldb.LevelFail, Found: err.Error(),
			Why: "nothing works without it", Fix: "start the database, set ORDERD_DSN"})
	}
	defer db.Close()
	found = append(found, sqldb.Finding{ID: "database.open", Level: sqldb.LevelOK, Found: string(db.Engine())})
	// Without its tables nothing below but Redis can be looked at.
	if err := migrations.Check(ctx, db); err != nil {
		found = append(found, sqldb.Finding{ID: "database.schema", Level: sqldb.LevelFail, Found: err.Error(),
			Why: "serve refuses an older schema", Fix: "orderd migrate up"})
		return append(found, checkRedis(ctx, s)...)
	}
	found = append(found, sqldb.Finding{ID: "database.schema", Level: sqldb.LevelOK, Found: "up to date"})
	if safety, err := db.Safety(ctx); err == nil {
		found = append(found, safety...)
	}
	found = append(found, checkClock(ctx, db))
	found = append(found, checkRedis(ctx, s)...)
	return append(found, checkOrders(ctx, s)...)
}

// checkKeys loads the merchant's keys as serve would. It asks WeChat Pay nothing: that
// the keys are those of the merchant shows at the first call.
func checkKeys(s *settings) []sqldb.Finding {
	if s.simulated() {
		return []sqldb.Finding{{ID: "wechat.merchant", Level: sqldb.LevelWarn, Found: "simulator",
			Why: "no real money can be taken", Fix: "set ORDERD_WECHAT_MCHID and its keys"}}
	}
	gc, notify, err := s.gatewayConfig("")
	if err == nil {
		gc.Now = time.Now
		var g *wechat.Gateway
		if g, err = wechat.New(gc); err == nil {
			return append(keyFindings(g), checkNotifyURL(notify))
		}
	}
	return []sqldb.Finding{{ID: "wechat.keys", Level: sqldb.LevelFail, Found: err.Error(),
		Why: "no payment can be made or believed", Fix: "correct the setting that is named"}}
}

// keyFindings says how long WeChat Pay's certificates are valid; a public key has no end.
func keyFindings(g *wechat.Gateway) []sqldb.Finding {
	found := []sqldb.Finding{{ID: "wechat.keys", Level: sqldb.LevelOK, Found: g.String()}}
	for _, k := range g.Keys() {
		f := sqldb.Finding{ID: "wechat.key." + k.ID, Level: sqldb.LevelOK, Found: "valid"}
		if !k.NotAfter.IsZero() && time.Until(k.NotAfter) < keyWarning {
			f.Level, f.Found = sqldb.LevelWarn, "ends "+k.NotAfter.Format(time.DateOnly)
			f.Why, f.Fix = "after that its answers and notifications are not believed",
				"download the new certificate, or move to WeChat Pay's public key, and add it to "+
					"ORDERD_WECHAT_VERIFY_KEYS"
		}
		found = append(found, f)
	}
	return found
}

// checkNotifyURL refuses what WeChat Pay's documentation of notify_url refuses. That it
// can be reached from outside cannot be seen from here.
func checkNotifyURL(url string) sqldb.Finding {
	f := sqldb.Finding{ID: "wechat.notify_url", Level: sqldb.LevelOK, Found: url}
	if !strings.HasPrefix(url, "https://") || strings.ContainsAny(url, "?#") {
		f.Level, f.Why, f.Fix = sqldb.LevelFail, "WeChat Pay wants HTTPS and no query string",
			"set ORDERD_WECHAT_NOTIFY_URL"
	}
	return f
}

// checkClock compares our clock with the database's; SQLite has none of its own. NOW(3)
// has milliseconds; the way to the server and back is counted as a difference.
func checkClock(ctx context.Context, db *sqldb.DB) sqldb.Finding {
	f := sqldb.Finding{ID: "clock.database", Level: sqldb.LevelOK, Found: "same machine"}
	if db.Engine() == sqldb.SQLite {
		return f
	}
	// MySQL has no clock but that of its machine: deadlines go by it.
	var seconds float64
	if err := db.QueryRowContext(ctx, "SELECT UNIX_TIMESTAMP(NOW(3))").Scan(&seconds); err != nil {
		f.Level, f.Found = sqldb.LevelWarn, "not readable"
		return f
	}
	skew := time.Since(time.UnixMilli(int64(seconds * 1000))).Round(time.Millisecond)
	f.Found = "differs by " + skew.String()
	if skew.Abs() > maxSkew {
		f.Level, f.Why, f.Fix = sqldb.LevelFail, "WeChat Pay refuses signatures five minutes off; deadlines go by "+
			"the database's clock", "run NTP on both machines"
	}
	return f
}

// checkRedis looks at the settings of Redis that can lose tasks: maxmemory-policy, and
// whether it writes to disk.
func checkRedis(ctx context.Context, s *settings) []sqldb.Finding {
	if s.embeddedRedis() {
		return []sqldb.Finding{{ID: "redis", Level: sqldb.LevelOK, Found: "embedded in serve"}}
	}
	client, err := scheduler.Connect(s.Redis)
	if err != nil {
		return []sqldb.Finding{{ID: "redis", Level: sqldb.LevelFail, Found: err.Error(), Why: "serve cannot start",
			Fix: "correct ORDERD_REDIS"}}
	}
	defer client.Close()
	return scheduler.Safety(ctx, client)
}

// checkOrders looks at what is overdue by more than a minute, and runs verify. When the
// database does not answer that is a warning: the lines above have said why.
func checkOrders(ctx context.Context, s *settings) []sqldb.Finding {
	var found []sqldb.Finding
	err := withCore(ctx, s, func(co *core) error {
		b, err := co.orders.Backlog(ctx)
		if err != nil {
			return err
		}
		f := sqldb.Finding{ID: "timeouts.overdue", Level: sqldb.LevelOK,
			Found: fmt.Sprintf("%d of %d open orders", b.Overdue,
				b.Open[order.StatePending]+b.Open[order.StateClosing])}
		if !b.Oldest.IsZero() && time.Since(b.Oldest) > time.Minute {
			f.Level, f.Why, f.Fix = sqldb.LevelWarn, "their stock is reserved for longer than it should be; the "+
				"oldest waits since "+stamp(b.Oldest), "is a worker running ('orderd serve') and WeChat Pay reachable?"
		}
		r, err := co.audit.Verify(ctx, nil)
		v := sqldb.Finding{ID: "books", Level: sqldb.LevelOK,
			Found: fmt.Sprintf("%d invariants hold over %d orders", len(r.Checks), r.Orders)}
		if err == nil && !r.OK() {
			v.Level, v.Found, v.Why, v.Fix = sqldb.LevelFail, "an invariant is broken",
				"stock or money is not accounted for", "orderd verify"
		}
		found = append(found, f, v)
		return err
	})
	if err != nil {
		found = append(found, sqldb.Finding{ID: "orders", Level: sqldb.LevelWarn, Found: err.Error(),
			Why: "they could not be looked at", Fix: "see the lines above"})
	}
	return found
}

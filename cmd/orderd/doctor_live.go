package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/echoes"
	"orderd/payment/wechat"
)

// lookEvery is the time between two looks for a callback in the database.
const lookEvery = 200 * time.Millisecond

// errNoCallback: WeChat Pay has answered a test, and its callback of it did not come.
var errNoCallback = errors.New("no callback came")

// liveTest is a question of doctor --live whose callback is looked for.
type liveTest struct {
	id, setting, address string // of the finding, of the setting, and where it is sent
	message              string
	asked                time.Time
}

// checkLive has WeChat Pay say something again (POST /v3/security/echo), which costs no money
// and opens no trade: once under each key that is configured, with a callback to each
// address. It comes to a running orderd, which notes it in the database.
func checkLive(ctx context.Context, p *patient) []diagnosis {
	switch {
	case p.wait == 0:
		return nil
	case p.gateway == nil && p.s.simulated():
		return failed("wechat.echo", misconfigured(errors.New("no merchant is configured")),
			"nothing was asked: no merchant is configured", "a live check needs the merchant's keys",
			"set ORDERD_WECHAT_MCHID and its keys, or leave out --live")
	case p.gateway == nil:
		return nil // the keys, which were told of
	}
	var store *echoes.Store
	unreadable := 0
	if p.db != nil {
		var err error
		store = echoes.New(p.db, time.Now)
		if unreadable, err = store.Count(ctx, ""); err != nil {
			store = nil // as without a database
		}
	}
	tests := liveTests(p.s)
	found, asked := askWithCallbacks(ctx, p.gateway, tests)
	if !asked {
		return found
	}
	for _, k := range p.gateway.Keys() {
		if !k.Response {
			found = append(found, askUnder(ctx, p.gateway, k.ID)...)
		}
	}
	if store == nil {
		return append(found, plain(sqldb.Finding{ID: "wechat.callback", Level: sqldb.LevelWarn,
			Found: "not looked for", Why: "the database, where a callback is noted, cannot be read",
			Fix: "mend the database, see above, and ask again"})...)
	}
	return append(found, awaitCallbacks(ctx, p, store, tests, unreadable)...)
}

// liveTests are the questions with a callback: one to each address that WeChat Pay is given.
func liveTests(s *settings) []liveTest {
	tests := []liveTest{{id: "wechat.callback", setting: "ORDERD_WECHAT_NOTIFY_URL", address: s.NotifyURL}}
	if refunds := s.refundNotifyURL(s.NotifyURL); refunds != "" {
		tests = append(tests, liveTest{id: "wechat.refund_callback", setting: "ORDERD_WECHAT_REFUND_NOTIFY_URL",
			address: refunds})
	}
	return tests
}

// askWithCallbacks asks the tests, under the usual key. asked says that WeChat Pay took all
// of them.
func askWithCallbacks(ctx context.Context, g *wechat.Gateway, tests []liveTest) (found []diagnosis, asked bool) {
	var key string
	for _, k := range g.Keys() {
		if k.Response {
			key = k.ID
		}
	}
	for i := range tests {
		t := &tests[i]
		t.message, t.asked = rand.Text(), time.Now()
		signedBy, err := g.Echo(ctx, key, t.message, t.address)
		if err != nil {
			d := wechat.Diagnose(err)
			if d.Ours {
				err = misconfigured(err)
			}
			return append(found, failed("wechat.echo", err, d.Found, d.Why, d.Fix)...), false
		}
		if i == 0 {
			found = append(found, plain(signedUnder("wechat.echo", key, signedBy))...)
		}
	}
	return found, true
}

// askUnder asks for an answer under a key that is not the usual one. What is wrong with it
// is a warning: answers and callbacks may come under it, and do not have to.
func askUnder(ctx context.Context, g *wechat.Gateway, key string) []diagnosis {
	id := "wechat.echo." + key
	signedBy, err := g.Echo(ctx, key, rand.Text(), "")
	if err == nil {
		return plain(signedUnder(id, key, signedBy))
	}
	d := wechat.Diagnose(err)
	if payment.KindOf(err) == payment.KindRejected {
		d.Fix = "is it a key of WeChat Pay's for this merchant that is still in use? If its change is over, take it " +
			"out of ORDERD_WECHAT_VERIFY_KEYS"
	}
	return plain(sqldb.Finding{ID: id, Level: sqldb.LevelWarn, Found: d.Found,
		Why: "answers and callbacks under this key would not be believed", Fix: d.Fix})
}

// signedUnder tells under which key an answer came that was asked for under another, perhaps.
func signedUnder(id, asked, signedBy string) sqldb.Finding {
	f := sqldb.Finding{ID: id, Level: sqldb.LevelOK,
		Found: "it has said it again, and its answer verifies under " + signedBy}
	if signedBy != asked {
		f.Level = sqldb.LevelWarn
		f.Found = fmt.Sprintf("asked under %s it answers under %s", asked, signedBy)
		f.Why = "the switch between certificate and public key has not been made on the merchant platform, or is " +
			"under way; both are believed as long as both are configured"
		f.Fix = "leave both in ORDERD_WECHAT_VERIFY_KEYS until the switch is at 100 %"
	}
	return f
}

// awaitCallbacks looks for the callbacks of tests until all are there or the time is over.
// unreadable is how many there were before that do not decrypt.
func awaitCallbacks(ctx context.Context, p *patient, store *echoes.Store, tests []liveTest,
	unreadable int) []diagnosis {
	ctx, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	var found []diagnosis
	for {
		var missing []liveTest
		for _, t := range tests {
			n, err := store.Count(ctx, t.message)
			switch {
			case ctx.Err() != nil, err == nil && n == 0:
				missing = append(missing, t)
			case err != nil:
				return append(found, failed(t.id, err, err.Error(), "a callback could not be seen",
					"see the database above")...)
			default:
				found = append(found, plain(sqldb.Finding{ID: t.id, Level: sqldb.LevelOK, Found: fmt.Sprintf(
					"came to %s in %s, verified and decrypted", t.address, time.Since(t.asked).Round(lookEvery/2))})...)
			}
		}
		if tests = missing; len(tests) == 0 {
			return found
		}
		if !sqldb.Sleep(ctx, lookEvery) {
			break
		}
	}
	return append(found, whyMissing(context.WithoutCancel(ctx), p, store, tests, unreadable)...)
}

// whyMissing says what a callback that did not come may have met.
func whyMissing(ctx context.Context, p *patient, store *echoes.Store, tests []liveTest, unreadable int) []diagnosis {
	var found []diagnosis
	n, err := store.Count(ctx, "")
	for _, t := range tests {
		if err == nil && n > unreadable {
			found = append(found, failed(t.id, misconfigured(errNoCallback),
				"a callback of WeChat Pay's came, rightly signed, and does not decrypt",
				"every notification of a payment is refused like it",
				"ORDERD_WECHAT_APIV3_KEY of the running orderd is not the one that is set on the merchant platform "+
					"(API security): set the same in both, restart")...)
			continue
		}
		found = append(found, failed(t.id, errNoCallback,
			fmt.Sprintf("WeChat Pay has taken the question; no callback of it came to %s within %s", t.address, p.wait),
			"notifications of payments go the same way; without them a payment is found by asking, up to "+
				"ORDERD_ASK_EVERY later",
			fmt.Sprintf("is 'orderd serve' with role notify running, on this database? Its log says 'notification "+
				"refused' and why when a callback came and was not believed. When it says nothing: %s must lead there "+
				"from outside, through firewall and proxy, which must let WeChat Pay's addresses in and change "+
				"neither headers nor body; a firewall's log shows who was kept out. WeChat Pay repeats after 15 s: "+
				"ask again with --live-wait=1m", t.setting))...)
	}
	return found
}

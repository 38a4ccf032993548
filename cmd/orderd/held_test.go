package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/operators"
)

// Money that nobody claims is written off by the same verb of two people; the shell, whom the machine knows and nobody
// else does, is none of them.
func TestHeldMoneyIsWrittenOffByVerb(t *testing.T) {
	dir := t.TempDir()
	a := embeddedWith(t, dir, slog.New(slog.DiscardHandler), func(*settings) {})
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	verb := func(exit int, says string, args ...string) {
		t.Helper()
		code, out, errs := words(t, append(args, "--data-dir", dir, "--sim-addr", a.sim.addr, "--notify-addr",
			a.Notify)...)
		if code != exit || !strings.Contains(out+errs, says) {
			t.Errorf("%v: exit %d, want %d with %q\n%s%s", args, code, exit, says, out, errs)
		}
	}
	s, err := a.orders.Settle(t.Context(), payment.Trade{OutTradeNo: "somebody-elses", State: payment.TradeSuccess,
		TransactionID: "4291", AppID: "wx_old", MchID: "1", TradeType: "NATIVE", Total: 500, Currency: payment.CNY,
		SuccessTime: time.Now()}, order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification"})
	if err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
	as := func(name string) []string {
		t.Helper()
		secret, err := a.tokens.Create(t.Context(), name, operators.Finance, operators.Bootstrap)
		file := filepath.Join(t.TempDir(), "token")
		if err = firstErr(err, os.WriteFile(file, []byte(secret+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		return []string{"held", "resolve", "4291", "--action", "WRITE_OFF", "--reason", "nobody's", "--yes",
			"--token-file", file}
	}
	anna, bea := as("anna"), as("bea")
	verb(exitFailed, "--token-file", anna[:8]...)
	verb(exitOK, "proposed, and not done yet", anna...)
	verb(exitOK, "proposed by anna", "held", "list")
	verb(exitOK, "written_off", append(bea, "-o", "json")...)
	verb(exitOK, "written_off", bea...)
	verb(exitOK, "5.00 by anna and bea", "held", "list", "--written-off")
	verb(exitOK, "orderd held list --written-off", "find", "4291")
	verb(exitFailed, "written this payment off", "held", "resolve", "4291", "--action", "REFUND", "--reason", "r",
		"--yes")
	verb(exitOK, "0 of them held", "verify")
}

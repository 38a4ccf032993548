package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"orderd/payment/wechatsim"
)

// askedBack is an order whose refund was asked for.
type askedBack struct {
	OrderNo     string `json:"order_no"`
	OutTradeNo  string `json:"out_trade_no"`
	OutRefundNo string `json:"out_refund_no"`
}

// refundAsked has a customer buy mugs, pay them and ask all of it back; key binds both.
func refundAsked(t *testing.T, a *app, key string, quantity int) (order askedBack) {
	t.Helper()
	buy(t, a, "/v1/orders", key, map[string]any{"items": []any{map[string]any{"sku_id": "1001",
		"quantity": quantity}}}, &order)
	buy(t, a, "/v1/orders/"+order.OrderNo+"/prepay", "", map[string]any{"trade_type": "NATIVE"}, &order)
	if err := a.sim.Pay(order.OutTradeNo, wechatsim.PayOptions{Notify: true}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) { // polling, not timing
		if buy(t, a, "/v1/orders/"+order.OrderNo+"/refunds", "r"+key, map[string]any{"reason": "all of it"},
			&order) == http.StatusCreated {
			return order
		}
		if time.Now().After(end) {
			t.Fatal("never paid")
		}
	}
}

// The whole way of what takes two people, as an admin would go it who wants to send money alone: by accounts of his own
// making, by another token of one person, and from the shell. None of it may move money; two people may.
func TestTwoPeopleOverHTTPAndTheShell(t *testing.T) {
	dir := t.TempDir()
	a := embeddedWith(t, dir, slog.New(slog.DiscardHandler), func(s *settings) { s.TwoPersons = 200 })
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	verb := func(exit int, says string, args ...string) string {
		t.Helper()
		code, out, errs := words(t, append(args, "--data-dir", dir, "--sim-addr", a.sim.addr, "--notify-addr",
			a.Notify, "--refund-two-persons", "200")...)
		if code != exit || !strings.Contains(out+errs, says) {
			t.Errorf("%v: exit %d, want %d with %q\n%s%s", args, code, exit, says, out, errs)
		}
		return strings.TrimSpace(out)
	}
	admin := func(token, method, path, body string, status int, says string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Admin+"/admin/v1"+path,
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		if err = firstErr(err, res.Body.Close()); err != nil || res.StatusCode != status ||
			!bytes.Contains(text, []byte(says)) {
			t.Errorf("%s %s: %d %s, want %d with %q", method, path, res.StatusCode, text, status, says)
		}
		var v struct{ Token string }
		_ = json.Unmarshal(text, &v)
		return v.Token
	}
	token := func(by, name, role string) string {
		t.Helper()
		return admin(by, "POST", "/tokens", `{"name":"`+name+`","role":"`+role+`","reason":"new"}`, 201, `"ord_`)
	}
	boss := token(a.AdminToken, "boss", "admin")
	made, other := token(boss, "made", "finance"), token(a.AdminToken, "other", "finance")
	admin(boss, "POST", "/tokens", `{"name":"Boss","role":"admin","reason":"x"}`, 422, "请换一个名字")
	admin(boss, "POST", "/tokens", `{"name":"Scheduler","role":"admin","reason":"x"}`, 422, "#/name")
	admin(boss, "POST", "/tokens", `{"person":"boss","role":"finance","reason":"x"}`, 422, "#/role")
	admin(boss, "POST", "/tokens", `{"person":"who","reason":"x"}`, 404, "NOT_FOUND")
	laptop := admin(boss, "POST", "/tokens", `{"person":"boss","name":"laptop","reason":"x"}`, 201, `"boss:laptop"`)

	order := refundAsked(t, a, "k", 2)
	at := "/refunds/" + order.OutRefundNo
	reason := `{"reason":"ok"}`
	if st := buy(t, a, "/v1/orders/"+order.OrderNo+"/refunds", "r2", map[string]any{"reason": "x", "restock": false},
		&struct{}{}); st != http.StatusBadRequest {
		t.Errorf("a customer says whether goods come back: %d", st)
	}
	file := func(secret string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(name, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	shell := []string{"refund", "approve", order.OutRefundNo, "--reason", "ok", "--yes"}
	verb(exitFailed, "--token-file", shell...) // the shell is none of two
	admin(boss, "POST", at+"/approve", reason, 200, `"fresh":true`)
	admin(laptop, "POST", at+"/approve", reason, 200, `"PENDING_APPROVAL"`) // the same person again
	admin(made, "POST", at+"/approve", reason, 403, "made 与 boss")
	verb(exitFailed, "comes from boss", append(shell, "--token-file", file(made))...)
	verb(exitFailed, "--token-file", shell...)
	verb(exitUsage, "no such file", append(shell, "--token-file", filepath.Join(dir, "none"))...)
	verb(exitFailed, "nobody's", append(shell, "--token-file", file("ord_wrong"))...)
	viewer := verb(exitOK, "ord_", "token", "create", "--operator", "viv", "--role", "viewer")
	verb(exitFailed, "viv is a viewer", append(shell, "--token-file", file(viewer))...)
	t.Setenv("ORDERD_OPERATOR_TOKEN_FILE", file(other))
	if out := verb(exitOK, "approved", append(shell, "--no-restock")...); strings.Contains(out, "pending_approval") ||
		!strings.Contains(out, "by other (account or token of less than a day)") ||
		!strings.Contains(out, "does not go back to the shelf") {
		t.Errorf("two people: %s", out)
	}
	t.Setenv("ORDERD_OPERATOR_TOKEN_FILE", "")
	verb(exitOK, "restock=false", "order", "timeline", order.OrderNo)
	admin(a.AdminToken, "POST", at+"/reject", `{"reason":"x","restock":true}`, 422, "#/restock")

	// Accounts from the shell, and what is left of one that is disabled.
	verb(exitOK, "", "operator", "create", "Zoe", "--role", "finance")
	verb(exitFailed, "looks like it", "operator", "create", "zoe")
	zoe := verb(exitOK, "ord_", "token", "create", "--person", "Zoe")
	admin(zoe, "GET", "/refunds", "", 200, order.OutRefundNo)
	verb(exitFailed, "exists or existed", "token", "create", "--person", "Zoe")
	phone := verb(exitOK, "ord_", "token", "create", "--person", "Zoe", "--label", "phone")
	verb(exitOK, "Zoe:phone", "token", "list")
	admin(boss, "POST", "/operators/Zoe/role", `{"role":"viewer","reason":"moved"}`, 204, "")
	admin(zoe, "GET", "/reconciliations", "", 403, "FORBIDDEN")
	admin(boss, "POST", "/operators/Zoe/disable", `{"reason":"left"}`, 204, "")
	admin(zoe, "GET", "/refunds", "", 401, "")
	admin(phone, "GET", "/refunds", "", 401, "")
	admin(boss, "POST", "/operators/Zoe/disable", `{"reason":"left"}`, 404, "NOT_FOUND")
	admin(boss, "POST", "/tokens", `{"person":"Zoe","name":"again","reason":"x"}`, 404, "NOT_FOUND")
	admin(boss, "GET", "/operators", "", 200, `"disabled_by":"boss"`)
	admin(boss, "POST", "/operators", `{"name":"ann","role":"viewer","reason":"new"}`, 201, `"ann"`)
	verb(exitOK, "ann", "operator", "list")
	verb(exitOK, "", "operator", "role", "ann", "--role", "finance", "--yes")
	verb(exitUsage, "add --yes", "operator", "disable", "ann")
	verb(exitOK, "", "operator", "disable", "ann", "--yes")
	verb(exitOK, "", "token", "revoke", "boss:laptop", "--yes")
	admin(a.AdminToken, "DELETE", "/tokens/made", "", 204, "")
}

// Somebody who gives a command that takes two people must learn from its help, and from the document, that nothing is
// done before a second one has given it too.
func TestBothStepsAreTold(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## What takes two people\n")
	section, _, _ = strings.Cut(section, "\n## ")
	verbs := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\|.*`orderd ([a-z]+ [a-z-]+)`").FindAllStringSubmatch(section, -1) {
		verbs[m[1]] = true
	}
	for verb := range verbs {
		code, out, errs := words(t, append(strings.Fields(verb), "--help")...)
		if code != exitOK || !strings.Contains(out, "second") {
			t.Errorf("orderd %s --help: exit %d, and no word of the second person:\n%s%s", verb, code, out, errs)
		}
	}
	if len(verbs) != 9 {
		t.Errorf("%v: the table of what takes two people is not read", verbs)
	}
	routes := regexp.MustCompile("`(POST /admin/v1/[^`]+)`").FindAllStringSubmatch(section, -1)
	for _, m := range routes {
		if _, ok := access["admin "+m[1]]; !ok {
			t.Errorf("there is no route %s", m[1])
		}
	}
	if len(routes) != 11 {
		t.Errorf("%d routes", len(routes))
	}
}

func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

package console

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/ordertest"
	"orderd/payment/feed"
)

// An administrator makes, changes, looks at and removes webhooks; the secret is in the answer that made it alone, and
// what is wrong is said. Every answer is held against the document.
func TestWebhooksOfAnAdministrator(t *testing.T) {
	var log bytes.Buffer
	d := newDeskOf(t, ordertest.New(t, sqldbtest.SQLite(t)), slog.New(slog.NewTextHandler(&log, nil)))
	const all = "/admin/v1/webhooks"
	want(t, d.ask(Finance, "GET", all, ""), http.StatusForbidden, "FORBIDDEN")
	for body, says := range map[string]string{
		`{"url":"x","reason":"new"}`:                                          "#/url",
		`{"url":"https://u@x.example/","reason":"new"}`:                       "#/url",
		`{"url":"https://x.example/","types":["order.eaten"],"reason":"new"}`: "#/types",
		`{"url":"https://x.example/"}`:                                        "#/reason",
	} {
		want(t, d.ask(Admin, "POST", all, body), http.StatusUnprocessableEntity, says)
	}
	w := d.ask(Admin, "POST", all, `{"url":"https://shop.example/orderd","types":["order.paid"],"note":"the shop",
		"reason":"a new back end"}`)
	want(t, w, http.StatusCreated, `"secret":"whsec_`)
	want(t, w, http.StatusCreated, `"why":"the-admin: a new back end"`)
	var made struct{ ID, Secret string }
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil {
		t.Fatal(err)
	}
	one := all + "/" + made.ID
	w = d.ask(Admin, "POST", all, `{"url":"https://shop.example/orderd","reason":"its answer was lost"}`)
	want(t, w, http.StatusConflict, "该地址已有 webhook "+made.ID)
	for _, path := range []string{all, one} {
		if w := d.ask(Admin, "GET", path, ""); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "whsec_") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for _, r := range [][2]string{{"PUT", one}, {"POST", one + "/rotate"}, {"POST", one + "/enable"},
		{"POST", one + "/disable"}, {"POST", one + "/redeliver"}, {"DELETE", one}} { // nobody could say why later
		want(t, d.ask(Admin, r[0], r[1], `{}`), http.StatusUnprocessableEntity, "#/reason")
		want(t, d.ask(Admin, r[0], r[1], `{"reason":" "}`), http.StatusUnprocessableEntity, "#/reason")
	}
	want(t, d.ask(Admin, "PUT", one, `{"url":"http://127.0.0.1:9/","reason":"it moved"}`), http.StatusOK, `"types":[]`)
	if w := d.ask(Admin, "POST", one+"/rotate", `{"reason":"leaked"}`); w.Code != http.StatusOK ||
		strings.Contains(w.Body.String(), made.Secret) || !strings.Contains(w.Body.String(), `"two_secrets_until":"2`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = d.ask(Admin, "POST", one+"/rotate", `{"secret_version":"0123","reason":"leaked"}`)
	want(t, w, http.StatusConflict, "the-admin: leaked")
	for _, act := range []string{"rotate", "enable", "test"} { // a word without effect is a mistake of the caller
		want(t, d.ask(Admin, "POST", one+"/"+act, `{"dry_run":true,"reason":"x"}`), http.StatusBadRequest,
			"MALFORMED_REQUEST")
	}
	want(t, d.ask(Admin, "POST", one+"/test", ""), http.StatusOK, "ORDERD_WEBHOOK_ALLOW")
	want(t, d.ask(Admin, "POST", one+"/disable", `{"reason":"it is being moved"}`), http.StatusOK,
		`"why":"the-admin: it is being moved"`)
	want(t, d.ask(Admin, "POST", one+"/enable", `{"reason":"it was moved"}`), http.StatusOK, `"state":"on"`)
	err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return feed.Insert(ctx, tx, []feed.Event{{At: d.Clock.Now(), Type: feed.PaymentHeld, Ref: "42"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, d.ask(Admin, "POST", one+"/redeliver", `{"reason":"lost"}`), http.StatusUnprocessableEntity, "#/event_id")
	want(t, d.ask(Admin, "POST", one+"/redeliver", `{"event_id":77,"reason":"lost"}`), http.StatusUnprocessableEntity,
		"#/event_id")
	want(t, d.ask(Admin, "POST", one+"/redeliver", `{"event_id":1,"reason":"lost"}`), http.StatusAccepted,
		`"events":1`)
	want(t, d.ask(Admin, "POST", one+"/redeliver", `{"since":"2020-01-01T00:00:00Z","reason":"restored"}`),
		http.StatusAccepted, `"events":1`)
	want(t, d.ask(Admin, "GET", one, ""), http.StatusOK, `"why":"the-admin: restored"`)
	want(t, d.ask(Admin, "GET", one+"/deliveries?limit=1", ""), http.StatusOK, `"next_cursor":"1"`)
	want(t, d.ask(Admin, "GET", one+"/deliveries?cursor=1", ""), http.StatusOK, `"data":[]`)
	want(t, d.ask(Admin, "GET", one+"/deliveries?cursor=x", ""), http.StatusUnprocessableEntity, "cursor")
	if w := d.ask(Admin, "DELETE", one, `{"reason":"no longer wanted"}`); w.Code != http.StatusNoContent {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	want(t, d.ask(Admin, "GET", one, ""), http.StatusNotFound, "NOT_FOUND")
	for did, reason := range map[string]string{"webhook added": `"a new back end"`, "webhook changed": `"it moved"`,
		"webhook rotated": "leaked", "webhook disabled": `"it is being moved"`, "webhook enabled": `"it was moved"`,
		"webhook sends again": "restored", "webhook removed": `"no longer wanted"`} {
		if !regexp.MustCompile(did + `.* by=the-admin reason=` + reason).MatchString(log.String()) {
			t.Errorf("the log has no %q because of %s:\n%s", did, reason, &log)
		}
	}
}

// Whoever did not see the answer sends the form of a rotation again: nothing is made, and they are told what was.
func TestARotationIsSentTwice(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "adam", Admin)
	page := b.post("/ui/webhooks/new", "url", "https://shop.example/", "reason", "new", provePassword, password)
	want(t, page, http.StatusOK, "whsec_")
	all := asJSON[struct{ Data []webhookView }](t, d.ask(Admin, "GET", "/admin/v1/webhooks", "").Body.Bytes()).Data
	if len(all) != 1 {
		t.Fatal(all)
	}
	path := "/ui/webhooks/" + all[0].ID + "/rotate"
	seen := hidden(t, b.get(path).Body.String(), "secret_version")
	want(t, b.post(path, "secret_version", seen, "reason", "泄露"), http.StatusOK, "whsec_")
	w := b.post(path, "secret_version", seen, "reason", "泄露")
	want(t, w, http.StatusConflict, "adam: 泄露")
	if now := hidden(t, w.Body.String(), "secret_version"); now == seen || strings.Contains(w.Body.String(), "whsec_") {
		t.Errorf("%s: %s", now, w.Body)
	}
}

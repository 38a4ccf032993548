package console

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/payment/feed"
)

// An administrator makes, changes, looks at and removes webhooks; the secret is in the answer that made it alone, and
// what is wrong is said. Every answer is held against the document.
func TestWebhooksOfAnAdministrator(t *testing.T) {
	d := newDesk(t)
	const all = "/admin/v1/webhooks"
	want(t, d.ask(Finance, "GET", all, ""), http.StatusForbidden, "FORBIDDEN")
	for body, says := range map[string]string{
		`{"url":"x"}`:                    "#/url",
		`{"url":"https://u@x.example/"}`: "#/url",
		`{"url":"https://x.example/","types":["order.eaten"]}`: "#/types",
	} {
		want(t, d.ask(Admin, "POST", all, body), http.StatusUnprocessableEntity, says)
	}
	w := d.ask(Admin, "POST", all, `{"url":"https://shop.example/orderd","types":["order.paid"],"note":"the shop"}`)
	want(t, w, http.StatusCreated, `"secret":"whsec_`)
	var made struct{ ID, Secret string }
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil {
		t.Fatal(err)
	}
	one := all + "/" + made.ID
	for _, path := range []string{all, one} {
		if w := d.ask(Admin, "GET", path, ""); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "whsec_") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	want(t, d.ask(Admin, "PUT", one, `{"url":"http://127.0.0.1:9/"}`), http.StatusOK, `"types":[]`)
	if w := d.ask(Admin, "POST", one+"/rotate", ""); w.Code != http.StatusOK || strings.Contains(w.Body.String(),
		made.Secret) || !strings.Contains(w.Body.String(), `"two_secrets_until":"2`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, act := range []string{"rotate", "enable", "test"} { // a word without effect is a mistake of the caller
		want(t, d.ask(Admin, "POST", one+"/"+act, `{"dry_run":true}`), http.StatusBadRequest, "MALFORMED_REQUEST")
	}
	want(t, d.ask(Admin, "POST", one+"/test", ""), http.StatusOK, "ORDERD_WEBHOOK_ALLOW")
	want(t, d.ask(Admin, "POST", one+"/disable", `{"reason":"it is being moved"}`), http.StatusOK,
		`"why":"the-admin: it is being moved"`)
	want(t, d.ask(Admin, "POST", one+"/enable", ""), http.StatusOK, `"state":"on"`)
	err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return feed.Insert(ctx, tx, []feed.Event{{At: d.Clock.Now(), Type: feed.PaymentHeld, Ref: "42"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, d.ask(Admin, "POST", one+"/redeliver", `{}`), http.StatusUnprocessableEntity, "#/event_id")
	want(t, d.ask(Admin, "POST", one+"/redeliver", `{"event_id":77}`), http.StatusUnprocessableEntity, "#/event_id")
	want(t, d.ask(Admin, "POST", one+"/redeliver", `{"event_id":1}`), http.StatusAccepted, `"events":1`)
	want(t, d.ask(Admin, "POST", one+"/redeliver", `{"since":"2020-01-01T00:00:00Z"}`), http.StatusAccepted,
		`"events":1`)
	want(t, d.ask(Admin, "GET", one+"/deliveries?limit=1", ""), http.StatusOK, `"next_cursor":"1"`)
	want(t, d.ask(Admin, "GET", one+"/deliveries?cursor=1", ""), http.StatusOK, `"data":[]`)
	want(t, d.ask(Admin, "GET", one+"/deliveries?cursor=x", ""), http.StatusUnprocessableEntity, "cursor")
	if w := d.ask(Admin, "DELETE", one, ""); w.Code != http.StatusNoContent {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	want(t, d.ask(Admin, "GET", one, ""), http.StatusNotFound, "NOT_FOUND")
}

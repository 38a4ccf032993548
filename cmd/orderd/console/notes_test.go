package console

import "testing"

// A note by the API is by the version that was read, and who paid is told with a reason only.
func TestNoteAndPayerByTheAPI(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 5)
	no := d.PlaceOne(t, "c1", "mug", 1).OrderNo
	path := "/admin/v1/orders/" + no
	want(t, d.ask(Operator, "POST", path+"/notes", `{"note":"x"}`), 428, "IF_MATCH_REQUIRED")
	want(t, d.ask(Operator, "POST", path+"/notes", `{"note":""}`, "If-Match", `"v1"`), 422, "#/note")
	want(t, d.ask(Operator, "POST", path+"/notes", `{"note":"rang"}`, "If-Match", `"v1"`), 200, `"version":2`)
	want(t, d.ask(Operator, "POST", path+"/notes", `{"note":"rang"}`, "If-Match", `"v1"`), 412, "VERSION_MISMATCH")
	want(t, d.ask(Viewer, "GET", path+"/timeline", ""), 200, `"note":"rang"`)
	want(t, d.ask(Operator, "POST", path+"/payer", `{}`), 422, "#/reason")
	want(t, d.ask(Finance, "POST", path+"/payer", `{"reason":"who"}`), 200, `"openid":""`)
	want(t, d.ask(Viewer, "POST", path+"/payer", `{"reason":"who"}`), 403, "FORBIDDEN")
}

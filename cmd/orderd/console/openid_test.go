package console

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// The openids of an order's buyer and of WeChat Pay's bill, whole.
const (
	buyersOpenID = "oBUYERSOPENIDBUYERSOPENID0001"
	billsOpenID  = "oBILLSOPENIDBILLSOPENIDBILL02"
)

// Who paid is masked on pages. A way to see it that leaves no trace, such as a file of all who paid on a day, makes the
// mask a decoration: every answer of every route, in every form, is looked at.
func TestNobodySeesAnOpenIDWithoutATrace(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	no := d.PlaceOne(t, "c1", "mug", 1).OrderNo
	if _, err := d.Prepay(t.Context(), order.PrepayRequest{OrderNo: no, CustomerID: "c",
		TradeType: payment.JSAPI, OpenID: buyersOpenID, Cause: ordertest.Customer}); err != nil {
		t.Fatal(err)
	}
	d.PaidOne(t, "c2", "mug", 1)
	date := reconcile.Day(d.Clock.Now())
	d.bills[date] = strings.ReplaceAll(bill(payment.Trade{TransactionID: "42001", OutTradeNo: "OTHERSHOP1", Total: 5}),
		"`o,`", "`"+billsOpenID+",`")
	d.Clock.Advance(24 * time.Hour)
	if _, err := d.books.Run(t.Context(), reconcile.RunRequest{Date: date}); err != nil {
		t.Fatal(err)
	}
	all, err := d.books.Differences(t.Context(), reconcile.DifferenceFilter{Date: date, Limit: 1})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	found := 0
	for _, r := range d.routes {
		if r[0] != http.MethodGet || r[1] == uiEvents || strings.HasPrefix(r[1], "/debug/") {
			continue
		}
		id := "mug"
		switch {
		case strings.Contains(r[1], "reconciliations"):
			id = date + "-ALL"
		case strings.Contains(r[1], "differences"):
			id = all[0].ID
		}
		path := strings.NewReplacer(":no", no, ":id", id, ":month", date[:7], ":name", "x").Replace(r[1])
		for _, accept := range []string{"application/json", "text/csv", xlsxType, "*/*"} {
			before := len(d.trailed(t))
			w := d.ask(Admin, "GET", path, "", "Accept", accept)
			if !hasOpenID(w.Body.Bytes()) {
				continue
			}
			if found++; len(d.trailed(t)) != before+2 {
				t.Errorf("GET %s as %s shows an openid, and nobody knows to whom", path, accept)
			}
		}
	}
	if found != 8 { // the bill and the proof, whatever is asked for
		t.Errorf("%d answers have an openid: have the others been looked at?", found)
	}
	var trace []string
	for _, row := range d.trailed(t) {
		if strings.HasPrefix(row, "the-admin bill.read "+date+"-ALL") ||
			strings.HasPrefix(row, "the-admin proof.read ") {
			trace = append(trace, row)
		}
	}
	if len(trace) != 16 {
		t.Errorf("the trail has %q", trace)
	}
	before := len(d.trailed(t))
	want(t, d.ask(Admin, "GET", "/debug/pprof/heap?debug=1", ""), 200, "heap profile")
	if rows := d.trailed(t); len(rows) != before+2 || !strings.HasPrefix(rows[before], "the-admin profile.read heap") {
		t.Errorf("the memory of the service was read, and the trail has %q", rows[before:])
	}
}

// hasOpenID reports that a file has an openid whole, also inside of an archive.
func hasOpenID(body []byte) bool {
	if bytes.Contains(body, []byte(buyersOpenID)) || bytes.Contains(body, []byte(billsOpenID)) {
		return true
	}
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return false
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return true // it cannot be looked at
		}
		text, err := io.ReadAll(r)
		if err != nil || bytes.Contains(text, []byte(buyersOpenID)) || bytes.Contains(text, []byte(billsOpenID)) {
			return true
		}
	}
	return false
}

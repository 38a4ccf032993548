package console

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/xuri/excelize/v2"

	"orderd/order"
	"orderd/payment/sheet"
)

// The orders of a filter as a file are all of them, however many pages that is, and no text in them is a formula.
func TestOrdersAsFiles(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 1000)
	for i := range maxRows + 1 {
		d.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
	}
	paid := d.PaidOne(t, "paid", "mug", 2)
	if _, err := d.DB.Pool().ExecContext(t.Context(), "UPDATE orders SET remark = '=1+1' WHERE order_no = '"+
		paid.OrderNo+"'"); err != nil {
		t.Fatal(err)
	}
	const path = "/admin/v1/orders"
	get := func(query, media string) []byte {
		t.Helper()
		w := d.ask(Viewer, "GET", path+query, "", "Accept", media)
		want(t, w, 200, "")
		if !strings.HasPrefix(w.Header().Get("Content-Type"), media) ||
			!strings.Contains(w.Header().Get("Content-Disposition"), `filename="orders.`) {
			t.Errorf("%v", w.Header())
		}
		return w.Body.Bytes()
	}
	rows, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(get("?limit=1", "text/csv"),
		[]byte("\ufeff")))).ReadAll()
	if err != nil || len(rows) != maxRows+3 || rows[0][0] != "order_no" {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	column := func(name string) int {
		for i, n := range rows[0] {
			if n == name {
				return i
			}
		}
		return -1
	}
	first := rows[1] // the newest
	if first[0] != paid.OrderNo || first[column("state")] != "paid" || first[column("amount_yuan")] != "2.00" ||
		first[column("items")] != "mug × 2" || first[column("remark")] != "'=1+1" || first[column("due_at")] != "" {
		t.Errorf("%q", first)
	}
	book, err := excelize.OpenReader(bytes.NewReader(get("?state=paid", xlsxType)))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	cells, err := book.GetRows("Orders")
	if err != nil || len(cells) != 2 || cells[1][0] != paid.OrderNo || cells[1][column("remark")] != "=1+1" ||
		!strings.HasSuffix(cells[0][0], " order_no") {
		t.Errorf("%q %v", cells, err)
	}
	for _, media := range []string{"text/csv", xlsxType} { // before the first byte it is a problem
		want(t, d.ask(Viewer, "GET", path+"?sku_id=mug", "", "Accept", media), 422, "NEEDS_RANGE")
	}
}

// failsLater has a first page of orders, and no other.
type failsLater struct {
	Orders
	pages int
}

func (f *failsLater) List(ctx context.Context, o order.Filter) ([]order.Order, string, error) {
	if f.pages--; f.pages < 0 {
		return nil, "", errors.New("away")
	}
	return f.Orders.List(ctx, o)
}

// A file that ends in the middle looks like one that is whole: the connection must be cut instead, and somebody must
// hear of it.
func TestAFileThatFailsIsCut(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 1000)
	for i := range maxRows + 1 {
		d.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
	}
	for _, tt := range []struct {
		media string
		cut   bool
	}{{"text/csv", true}, {xlsxType, false}} { // of a workbook nothing was sent
		log, metrics := &bytes.Buffer{}, NewMetrics()
		e, err := New(Options{Orders: &failsLater{Orders: d.Service, pages: 1}, Stock: d.Admin, Refunds: d.Service,
			Reconciler: d.books, Failures: d.failures, TokenStore: d.tokens, Metrics: metrics, Now: d.Clock.Now,
			Tokens: deskTokens(), Ready: NewReadiness(d.Clock.Now), Log: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		d.Handler = e
		func() {
			defer func() {
				if v := recover(); (v == http.ErrAbortHandler) != tt.cut { //nolint:errorlint // as net/http compares it
					t.Errorf("%s: %v", tt.media, v)
				}
			}()
			want(t, d.ask(Viewer, "GET", "/admin/v1/orders", "", "Accept", tt.media, "X-Request-Id", "the-cut-one"),
				500, "INTERNAL")
		}()
		count := 0.0
		if tt.cut {
			count = 1
		}
		if got := testutil.ToFloat64(metrics.cut); got != count || strings.Contains(log.String(),
			"answer cut short") != tt.cut || strings.Count(log.String(), "request_id=the-cut-one") != 1 {
			t.Errorf("%s: %v, %s", tt.media, got, log)
		}
	}
}

// Workbooks take memory and disk: a few at a time, and who is too many is told when to come again. A text is not one.
func TestWorkbooksAtOnceAreBounded(t *testing.T) {
	d := newDesk(t)
	const path = "/admin/v1/orders"
	c := &console{Options: Options{Now: d.Clock.Now}, workbooks: make(chan struct{}, workbooksAtOnce)}
	e := newEcho(d.Clock.Now, slog.New(slog.DiscardHandler), d.metrics, false, c.problem)
	begun, end := make(chan struct{}), make(chan struct{})
	var result error
	e.GET(path, func(ctx echo.Context) error {
		media, ext, _ := asFile(ctx.Request())
		return c.sendFile(ctx, media, "orders."+ext, "created_from", func(io.Writer) error {
			if media == xlsxType {
				begun <- struct{}{}
				<-end
			}
			return result
		})
	})
	d.Handler = described(t, e)
	ask := func(media string) *httptest.ResponseRecorder { return d.ask(Viewer, "GET", path, "", "Accept", media) }
	var made sync.WaitGroup
	for range workbooksAtOnce {
		made.Go(func() { ask(xlsxType) })
		<-begun
	}
	w := ask(xlsxType)
	want(t, w, http.StatusTooManyRequests, "RATE_LIMITED")
	if w.Header().Get("Retry-After") != "30" || w.Header().Get("Content-Disposition") != "" {
		t.Errorf("%v", w.Header())
	}
	if w := ask("text/csv"); w.Code != http.StatusOK {
		t.Errorf("a text: %d", w.Code)
	}
	close(end)
	made.Wait()
	result = fmt.Errorf("write the workbook: %w", sheet.ErrTooLong)
	made.Go(func() { <-begun })
	want(t, ask(xlsxType), http.StatusUnprocessableEntity, "NEEDS_RANGE")
	made.Wait()
}

// Finance reads a file in the shop's own time and words; a script reads it by the columns that it always had.
func TestTheFileOfOrdersHasTheShopsTimesAndWords(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 5)
	o := d.PlaceOne(t, "c1", "mug", 1)
	csv := d.ask(Viewer, "GET", "/admin/v1/orders", "", "Accept", "text/csv").Body.String()
	rows := strings.Split(strings.TrimSpace(csv),
		"\n")
	if len(rows) != 2 || !strings.Contains(rows[0], "reference,state_zh,close_reason_zh,created_at_beijing") {
		t.Fatalf("%q", rows)
	}
	for _, text := range []string{"pending", "待支付", o.CreatedAt.UTC().Format(time.RFC3339),
		o.CreatedAt.In(beijing).Format(time.DateTime), o.ExpireAt.In(beijing).Format(time.DateTime)} {
		if !strings.Contains(rows[1], text) {
			t.Errorf("no %q in %q", text, rows[1])
		}
	}
	sheets := sheetsOf(t, d.ask(Viewer, "GET", "/ui/orders.xlsx", ""))
	if head := strings.Join(sheets["Orders"][0], "|"); !strings.Contains(head, "下单时间(UTC) created_at") ||
		!strings.Contains(head, "下单时间(北京 UTC+8) created_at_beijing") {
		t.Errorf("%s", head)
	}
}

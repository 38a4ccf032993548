package console

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"orderd/order/orderhttp"
	"orderd/payment"
)

// billForm is a form with an empty bill and such fields, and its media type.
func billForm(t *testing.T, fields ...[2]string) (body []byte, media string) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for _, f := range fields {
		if err := form.WriteField(f[0], f[1]); err != nil {
			t.Fatal(err)
		}
	}
	file, err := form.CreateFormFile("bill", "a.csv")
	if err == nil {
		_, err = io.WriteString(file, bill())
	}
	if err != nil || form.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes(), form.FormDataContentType()
}

// A bill that takes longer to come than any other body may is not cut, as long as something comes.
func TestASlowUploadIsNotCut(t *testing.T) {
	d := newDesk(t)
	server := httptest.NewUnstartedServer(d.console)
	server.Config = orderhttp.Server(d.console)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 200*time.Millisecond, 300*time.Millisecond
	server.Start()
	defer server.Close()
	whole, media := billForm(t, [2]string{"bill_date", "2027-01-15"})
	from, to := io.Pipe()
	go func() {
		for i := range 4 { // a second in all
			time.Sleep(250 * time.Millisecond)
			part := whole[i*len(whole)/4 : (i+1)*len(whole)/4]
			if _, err := to.Write(part); err != nil {
				return // the server has hung up: the answer tells
			}
		}
		_ = to.Close() // a pipe's Close never fails
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/admin/v1/reconciliations", from)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("Authorization", "Bearer "+secret(Finance))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusAccepted {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

// A bill that takes longer to go than any other answer may is not cut, as long as its reader reads.
func TestASlowDownloadIsNotCut(t *testing.T) {
	d := newDesk(t)
	var trades []payment.Trade
	for i := range 800 { // more than the kernel keeps for a reader
		trades = append(trades, payment.Trade{TransactionID: fmt.Sprintf("42000099999999999999%08d", i),
			OutTradeNo: fmt.Sprintf("OTHERSHOP%d", i), Total: 555})
	}
	d.bills["2027-01-15"] = bill(trades...)
	want(t, d.ask(Finance, "POST", "/admin/v1/reconciliations", `{"bill_date":"2027-01-15"}`), 202, "2027-01-15-ALL")
	server := httptest.NewUnstartedServer(d.console)
	server.Config = orderhttp.Server(d.console)
	server.Config.WriteTimeout = 300 * time.Millisecond
	server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateNew { // so that what was not read yet waits in the handler and not in the kernel
			_ = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
		}
	}
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String()) //nolint:noctx // of this process
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET /admin/v1/reconciliations/2027-01-15-ALL/bill HTTP/1.1\r\nHost: here\r\n"+
		"Authorization: Bearer %s\r\nConnection: close\r\n\r\n", secret(Finance)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // the reader does something else for a while
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != d.bills["2027-01-15"] {
		t.Errorf("%d, %d bytes of %d, %v", res.StatusCode, len(text), len(d.bills["2027-01-15"]), err)
	}
}

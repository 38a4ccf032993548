package console

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/reconcile"
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

// A bill, or a workbook, that takes longer to come than any other body may is not cut, as long as something comes.
func TestASlowUploadIsNotCut(t *testing.T) {
	d := newDesk(t)
	server := httptest.NewUnstartedServer(d.console)
	server.Config = orderhttp.Server(d.console)
	server.Config.ReadTimeout, server.Config.WriteTimeout = time.Second, 1500*time.Millisecond
	server.Start()
	defer server.Close()
	bill, billMedia := billForm(t, [2]string{"bill_date", "2027-01-15"})
	var ends sync.WaitGroup
	defer ends.Wait()
	for _, c := range []struct {
		path, media string
		body        []byte
		status      int
	}{
		{"/admin/v1/reconciliations", billMedia, bill, http.StatusAccepted},
		{"/admin/v1/differences/import", xlsxType, []byte("no workbook"), http.StatusUnprocessableEntity},
		{"/admin/v1/stock/import", "application/json", []byte(`{"csv":"x","mode":"both"}`),
			http.StatusUnprocessableEntity},
	} {
		from, to := io.Pipe()
		ends.Go(func() {
			for i := range 4 { // longer in all than either
				time.Sleep(500 * time.Millisecond)
				part := c.body[i*len(c.body)/4 : (i+1)*len(c.body)/4]
				if _, err := to.Write(part); err != nil {
					return // the server has hung up: the answer tells
				}
			}
			_ = to.Close() // a pipe's Close never fails
		})
		ends.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+c.path, from)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", c.media)
			req.Header.Set("Authorization", "Bearer "+secret(Admin))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(c.path, err)
				return
			}
			defer res.Body.Close()
			if text, _ := io.ReadAll(res.Body); res.StatusCode != c.status {
				t.Errorf("%s: %d %s", c.path, res.StatusCode, text)
			}
		})
	}
}

// deadlines is a connection that notes until when it may be read.
type deadlines struct {
	http.ResponseWriter
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.read = t; return nil }
func (*deadlines) SetWriteDeadline(time.Time) error    { return nil }

// Whoever sends a byte every half minute holds a connection, and one of the few places for files, for as long as a
// whole bill may take.
func TestAnUploadThatTricklesIsEnded(t *testing.T) {
	began := time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		every time.Duration
		bytes int
		least time.Duration // it goes on at least so long
		most  time.Duration // and ends by then
	}{
		"a byte at a time":      {29 * time.Second, 1, time.Second, time.Minute},
		"a page every second":   {time.Second, 4 << 10, time.Second, time.Minute},
		"a slow line":           {time.Second, 32 << 10, billTimeout - time.Minute, billTimeout + time.Minute},
		"everything but slowly": {20 * time.Second, 1 << 20, billTimeout - time.Minute, billTimeout + time.Minute},
	} {
		now, conn := began, &deadlines{}
		body := &slowBody{r: endless{}, now: func() time.Time { return now }, began: began,
			conn: http.NewResponseController(conn), until: began.Add(billTimeout)}
		piece := make([]byte, c.bytes)
		for {
			if _, err := body.Read(piece); err != nil {
				t.Fatal(err)
			}
			if now = now.Add(c.every); now.After(conn.read) {
				break // the server would have hung up while it waited
			}
		}
		if took := now.Sub(began); took < c.least || took > c.most {
			t.Errorf("%s: it was ended after %v", name, took)
		}
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Files that come in take memory and room: there are few at a time, whichever way they come, and who is refused comes
// again.
func TestFewFilesComeInAtATime(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "ann", Admin)
	to := func(path, media string, body io.Reader) int {
		r := httptest.NewRequest("POST", path, body)
		r.Header.Set("Authorization", "Bearer "+secret(Admin))
		r.Header.Set("Content-Type", media)
		w := httptest.NewRecorder()
		d.console.ServeHTTP(w, r)
		return w.Code
	}
	post := func(body io.Reader) int { return to("/admin/v1/differences/import", xlsxType, body) }
	var ends sync.WaitGroup
	var pipes []*io.PipeWriter
	for range uploadsAtOnce {
		from, to := io.Pipe()
		ends.Go(func() {
			if status := post(from); status != http.StatusUnprocessableEntity {
				t.Error(status)
			}
		})
		if _, err := to.Write([]byte("x")); err != nil { // it is read
			t.Fatal(err)
		}
		pipes = append(pipes, to)
	}
	if status := post(http.NoBody); status != http.StatusTooManyRequests {
		t.Errorf("one too many: %d", status)
	}
	for _, path := range []string{"/admin/v1/stock/import", "/admin/v1/stock/import/apply"} {
		if status := to(path, "application/json", strings.NewReader("{}")); status != http.StatusTooManyRequests {
			t.Errorf("one too many to %s: %d", path, status)
		}
	}
	for path, file := range map[string]string{uiDiffs + "/import": "workbook", uiSKUs + "/import": "csv"} {
		if w := b.giveAll(t, path, [][2]string{{file, "x"}}); w.Code != http.StatusTooManyRequests {
			t.Errorf("one too many to %s: %d", path, w.Code)
		}
	}
	for _, to := range pipes {
		_ = to.Close() // a pipe's Close never fails
	}
	ends.Wait()
	if status := post(http.NoBody); status != http.StatusUnprocessableEntity {
		t.Errorf("after them: %d", status)
	}
	long := strings.NewReader(strings.Repeat(" ", maxStockImport+1))
	if status := to("/admin/v1/stock/import", "application/json", long); status != http.StatusRequestEntityTooLarge {
		t.Errorf("one too long: %d", status)
	}
}

// A file in JSON has its place before anybody reads it, also whoever writes down what is asked.
func TestAFileInJSONHasAPlaceBeforeItIsRead(t *testing.T) {
	d := newDesk(t)
	post := func(body io.Reader) int {
		r := httptest.NewRequest("POST", "/admin/v1/stock/import/apply", body)
		r.Header.Set("Authorization", "Bearer "+secret(Admin))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		d.console.ServeHTTP(w, r)
		return w.Code
	}
	var ends sync.WaitGroup
	defer ends.Wait() // the pipes are closed before
	for range uploadsAtOnce {
		from, to := io.Pipe()
		ends.Go(func() {
			if status := post(from); status != http.StatusBadRequest {
				t.Errorf("half of a body: %d", status)
			}
		})
		if _, err := to.Write([]byte("{")); err != nil { // it is read
			t.Fatal(err)
		}
		defer to.Close()
	}
	if status := post(strings.NewReader("{}")); status != http.StatusTooManyRequests {
		t.Errorf("one too many: %d", status)
	}
}

// A form with a file is held in memory: each of its fields has a bound, and comes once.
func TestTheFormsOfFilesAreBounded(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "ann", Admin)
	type form struct {
		fields [][2]string
		status int
		says   string
	}
	bounded := func(path, file string, most int, notOne string, more map[string]form) {
		t.Helper()
		whole := strings.Repeat("x", most)
		more64 := base64.StdEncoding.EncodeToString([]byte(whole + "x"))
		all := map[string]form{
			"of the bound":      {[][2]string{{file, whole}}, 422, notOne},
			"a byte more":       {[][2]string{{file, whole + "x"}}, 413, ""},
			"more in base64":    {[][2]string{{"again", more64}}, 413, ""},
			"no base64":         {[][2]string{{"again", "x!"}}, 400, "重新选择文件"},
			"half of base64":    {[][2]string{{"again", "eHh4e"}}, 400, "重新选择文件"},
			"a long password":   {[][2]string{{provePassword, whole}, {file, "x"}}, 413, ""},
			"twice":             {[][2]string{{file, "x"}, {file, "y"}}, 400, "重复"},
			"both":              {[][2]string{{file, "x"}, {"again", "eA=="}}, 400, "重复"},
			"both, again first": {[][2]string{{"again", "eA=="}, {file, "x"}}, 400, "重复"},
			"something unknown": {[][2]string{{"limit", "x"}}, 400, "未知"},
		}
		maps.Copy(all, more)
		for name, c := range all {
			if w := b.giveAll(t, path, c.fields); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s of %s: %d, want %d with %q: %.2000s", name, path, w.Code, c.status, c.says, w.Body)
			}
		}
	}
	bounded(uiDiffs+"/import", "workbook", reconcile.MaxImport, "不是工作簿", nil)
	long := strings.Repeat("x", maxStockFile)
	bounded(uiSKUs+"/import", "csv", maxStockFile, "", map[string]form{
		"of the bound":  {[][2]string{{"csv", long}, {"mode", "add"}}, 200, `class="why bad"`},
		"a long reason": {[][2]string{{"reason", long}}, 413, ""},
		"a long mode":   {[][2]string{{"mode", long}}, 413, ""},
		"much seen":     {[][2]string{{"seen", strings.Repeat(" ", maxStockSeen) + "[]"}}, 413, ""},
		"seen twice":    {[][2]string{{"seen", "[]"}, {"seen", "[]"}}, 400, "重复"},
		"no JSON":       {[][2]string{{"seen", "x"}}, 400, "重新选择文件"},
	})
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
	server.Config.WriteTimeout = time.Second
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
	time.Sleep(1500 * time.Millisecond) // the reader does something else for a while
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != d.bills["2027-01-15"] {
		t.Errorf("%d, %d bytes of %d, %v", res.StatusCode, len(text), len(d.bills["2027-01-15"]), err)
	}
}

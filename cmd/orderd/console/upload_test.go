package console

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"orderd/order/orderhttp"
)

// A bill that takes longer to come than any other body may is not cut, as long as something comes.
func TestASlowUploadIsNotCut(t *testing.T) {
	d := newDesk(t)
	server := httptest.NewUnstartedServer(d)
	server.Config = orderhttp.Server(d)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 200*time.Millisecond, 300*time.Millisecond
	server.Start()
	defer server.Close()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	if err := form.WriteField("bill_date", "2027-01-15"); err != nil {
		t.Fatal(err)
	}
	file, err := form.CreateFormFile("bill", "a.csv")
	if err == nil {
		_, err = io.WriteString(file, bill())
	}
	if err != nil || form.Close() != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
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
	req.Header.Set("Content-Type", form.FormDataContentType())
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

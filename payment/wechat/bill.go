package wechat

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha1" //nolint:gosec // WeChat's choice of a hash; the file comes over TLS and its hash in a signed answer
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-pay/gopay"
	wechatv3 "github.com/go-pay/gopay/wechat/v3"

	"orderd/migrations/bounds"
	"orderd/payment"
)

const (
	// stallTimeout ends a download in which nothing comes: a bill may take
	// minutes, a pause in it may not. Time that w takes does not count.
	stallTimeout = 30 * time.Second
	// maxBillURL bounds a download address; WeChat's have some 200 bytes.
	maxBillURL = 2048
	// maxErrorBody bounds what is read of an answer that is no file: its code is
	// all that is wanted.
	maxErrorBody = 64 << 10
)

// The addresses that a bill is fetched from, whatever the answer says: the two hosts of
// every page of WeChat's API, and the two paths of its pages (pay.weixin.qq.com/doc/v3/
// merchant/4012084430 of 2024-09-19 has billdownload/file, and so have captured answers;
// the newest example of the application for a trade bill has bill/downloadurl).
var (
	billHosts = []string{productionURL, secondURL}
	billPaths = []string{"/v3/billdownload/file", "/v3/bill/downloadurl"}
)

// FetchBill asks for the bill of a day of Beijing (YYYY-MM-DD) and writes it to
// w as it comes, uncompressed and whole. The file itself carries no signature:
// its SHA-1 came in a signed answer, and only a nil error means that it fits, so
// that nothing may be done with what was written before. A file is fetched from
// WeChat's two hosts only; with another host configured, a simulator, from that one.
//
// Errors: payment.ErrNoBill, ErrBillNotReady, ErrBillDamaged, those of w, or a
// *payment.GatewayError.
func (g *Gateway) FetchBill(ctx context.Context, date string, t payment.BillType, w io.Writer) (payment.Bill, error) {
	if _, err := time.Parse(time.DateOnly, date); err != nil {
		return payment.Bill{}, refusal(opBill, "the date is not YYYY-MM-DD")
	}
	ask, query := g.client.tradeBill, gopay.BodyMap{"bill_date": date, "tar_type": "GZIP"}
	switch t {
	case payment.BillAll, payment.BillSuccess, payment.BillRefund:
		query.Set("bill_type", string(t))
	case payment.BillFundFlow:
		ask = g.client.fundFlowBill
		query.Set("account_type", "BASIC")
	default: // not one of ours: a word from outside
		return payment.Bill{}, refusal(opBill, "the type is not ALL, SUCCESS, REFUND or FUNDFLOW")
	}
	where, hash, err := g.applyBill(ctx, date, ask, query)
	if err != nil {
		return payment.Bill{}, err
	}
	b := payment.Bill{Date: date, Type: t, SHA1: strings.ToLower(hash)}
	b.Size, err = g.download(ctx, where, b.SHA1, w)
	return b, err
}

// askBill is one of the two calls by which a bill is asked for.
type askBill func(context.Context, gopay.BodyMap) (*wechatv3.BillRsp, error)

// applyBill asks where the bill is and gives its address and hash. "Nothing happened" and "not made yet" are
// believed only where the table believes them: signed, and at a 4xx.
func (g *Gateway) applyBill(ctx context.Context, date string, ask askBill, query gopay.BodyMap) (target, hash string,
	err error) {
	var bill *wechatv3.TradeBill
	f, v, err := g.call(ctx, opBill, date, func(ctx context.Context) error {
		rsp, err := ask(ctx, maps.Clone(query)) // gopay writes into the one it is given
		if err != nil || rsp.Code != wechatv3.Success {
			return err
		}
		bill = rsp.Response
		if bill.HashType != "SHA1" || len(bill.HashValue) != 2*sha1.Size ||
			!payment.MadeOf(bill.HashValue, payment.HexDigits) {
			return badAnswer("it has no SHA-1 of the bill")
		}
		target, err = g.billTarget(bill.DownloadUrl)
		return err
	})
	switch {
	case err == nil:
		return target, bill.HashValue, nil
	case v.kind == payment.KindRejected && spelling(f.code) == "NOSTATEMENTEXIST":
		return "", "", payment.ErrNoBill
	case v.kind == payment.KindRejected && spelling(f.code) == "STATEMENTCREATING":
		return "", "", payment.ErrBillNotReady
	}
	return "", "", err
}

// billTarget checks a download address and gives the one to ask, which keeps the host that
// WeChat Pay gave.
func (g *Gateway) billTarget(address string) (string, error) {
	address = strings.TrimSpace(address) // the documents' example has a space before it
	u, err := url.Parse(address)
	if err != nil || !payment.Visible(address, maxBillURL) || u.RawQuery == "" || u.User != nil ||
		!slices.Contains(billHosts, bounds.Origin(u)) || !slices.Contains(billPaths, u.EscapedPath()) {
		return "", badAnswer("its download_url is not that of a bill")
	}
	base := g.hosts.of(address, g.hosts.list[0])
	if slices.Contains(billHosts, base) {
		base = bounds.Origin(u)
	}
	return base + u.EscapedPath() + "?" + u.RawQuery, nil
}

// download fetches the file, unpacks it and compares its hash.
func (g *Gateway) download(ctx context.Context, target, hash string, w io.Writer) (int64, error) {
	began := g.now()
	size, err := g.fetch(ctx, target, hash, w)
	outcome := "ok"
	if err != nil {
		outcome = payment.KindOf(err).String()
	}
	g.observe(opBillFile, outcome, g.now().Sub(began))
	return size, err
}

// fetch downloads the file into w and compares its hash. Its errors say what failed: the way
// there (*payment.GatewayError), the file (payment.ErrBillDamaged), or w (*writeError).
func (g *Gateway) fetch(ctx context.Context, target, hash string, w io.Writer) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(g.stall, func() { cancel(errTimeout) })
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, refusal(opBillFile, "the address cannot be used")
	}
	req.Header.Set("Accept", "*/*")
	if err := g.authorize(opBillFile, req, ""); err != nil {
		return 0, err
	}
	res, err := g.files.Do(req)
	if err != nil {
		return 0, fileError(ctx, err)
	}
	defer res.Body.Close()
	if err := refusedFile(res); err != nil {
		return 0, err
	}
	packed := &meter{r: res.Body, stalled: stalled, limit: g.stall}
	size, sum, err := unpack(packed, w)
	switch {
	case errors.As(err, new(*writeError)): // the caller's disk, not WeChat's file
		return size, err
	case ctx.Err() != nil:
		return size, fileError(ctx, ctx.Err())
	case errors.Is(err, errBomb), errors.Is(err, errTooLarge), errors.Is(err, gzip.ErrHeader),
		errors.Is(err, gzip.ErrChecksum):
		return size, fmt.Errorf("%w: %w", payment.ErrBillDamaged, err)
	case err != nil:
		return size, fmt.Errorf("%w: it was cut after %d bytes", payment.ErrBillDamaged, size)
	case subtle.ConstantTimeCompare([]byte(sum), []byte(hash)) != 1:
		return size, fmt.Errorf("%w: the SHA-1 of its %d bytes is another", payment.ErrBillDamaged, size)
	}
	return size, nil
}

// fileError makes the error of a download that did not come to its end. Why the context was
// cancelled (the time-out of a stalled download) says more than that it was.
func fileError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &payment.GatewayError{Op: opBillFile, Kind: payment.KindUnknown, Err: safeCause(err)}
}

// refusedFile turns an answer that is no file into an error.
func refusedFile(res *http.Response) error {
	if res.StatusCode == http.StatusOK && !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // for the code only
	code, _ := errorWords(body)
	if res.StatusCode == http.StatusOK {
		return fmt.Errorf("%w: a web page came instead of a file", payment.ErrBillDamaged)
	}
	kind := judge(opBillFile, &facts{status: res.StatusCode, distrust: errHeaders}).kind
	return &payment.GatewayError{Op: opBillFile, Kind: kind, Status: res.StatusCode, Code: code,
		RequestID: plainToken(res.Header.Get("Request-ID"), maxRequestID)}
}

// Why a bill is not unpacked to its end.
var (
	errBomb     = errors.New("it grows beyond all measure when it is unpacked")
	errTooLarge = errors.New("it is larger than 4 GiB")
)

// writeError is an error of the caller's writer.
type writeError struct{ error }

// Unwrap gives the writer's own error.
func (e *writeError) Unwrap() error { return e.error }

// meter counts what has come, and lets the timer run only while something is waited for.
type meter struct {
	r       io.Reader
	n       int64
	stalled *time.Timer
	limit   time.Duration
}

// Read restarts the time-out before it waits and stops it afterwards, so that only the time in
// which WeChat sends nothing counts.
func (m *meter) Read(p []byte) (int, error) {
	m.stalled.Reset(m.limit)
	n, err := m.r.Read(p)
	m.stalled.Stop()
	m.n += int64(n)
	return n, err
}

// unpack copies the file to w, gunzipped when it is gzip, and gives size and
// SHA-1 of what was written.
func unpack(packed *meter, w io.Writer) (size int64, sum string, err error) {
	in := bufio.NewReaderSize(packed, 64<<10)
	var plain io.Reader = in
	if magic, _ := in.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = z.Close() }() // Read has reported every error
		plain = z
	}
	hash := sha1.New() //nolint:gosec // see above
	buffer := make([]byte, 64<<10)
	for {
		n, readErr := plain.Read(buffer)
		size += int64(n)
		switch {
		case size > payment.MaxBillBytes:
			return size, "", errTooLarge
		case size > payment.InflationSlack+payment.MaxInflation*packed.n:
			return size, "", errBomb
		}
		_, _ = hash.Write(buffer[:n]) // never fails
		if _, err := w.Write(buffer[:n]); err != nil {
			return size, "", &writeError{err}
		}
		if errors.Is(readErr, io.EOF) {
			return size, hex.EncodeToString(hash.Sum(nil)), nil
		} else if readErr != nil {
			return size, "", readErr
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order/orderhttp"
)

// Bounds of asking a notify_url.
const (
	// askURLTimeout is for the whole of one look: a public address that does not answer in
	// this time will not answer WeChat Pay's five seconds in a burst either.
	askURLTimeout = 5 * time.Second
	// maxURLAnswer is how much of the answer is read, in bytes: a problem of ours has some
	// 300.
	maxURLAnswer = 4 << 10
)

// checkNotifyURLs looks at both addresses that WeChat Pay is given.
func checkNotifyURLs(ctx context.Context, p *patient) []diagnosis {
	if p.gateway == nil {
		return nil
	}
	found := p.checkNotifyURL(ctx, "wechat.notify_url", "ORDERD_WECHAT_NOTIFY_URL", p.s.NotifyURL,
		orderhttp.PathNotifyPayment)
	if refunds := p.s.refundNotifyURL(p.s.NotifyURL); refunds != "" {
		found = append(found, p.checkNotifyURL(ctx, "wechat.refund_notify_url",
			"ORDERD_WECHAT_REFUND_NOTIFY_URL", refunds, orderhttp.PathNotifyRefund)...)
	}
	return found
}

// checkNotifyURL refuses what WeChat Pay's documentation of notify_url refuses (another
// scheme than https, a query), what only this network can reach, and an address at which
// something else answers than orderd. It is asked by GET, which changes nothing there. A
// simulator on this machine may call this machine's own address, by plain http.
func (p *patient) checkNotifyURL(ctx context.Context, id, setting, address, path string) []diagnosis {
	bad := func(found, why string) []diagnosis {
		return failed(id, misconfigured(errors.New(found)), found, why,
			"set "+setting+" to the public address of "+path)
	}
	u, err := url.Parse(address)
	here := err == nil && p.s.wechatHere() && u.Scheme == "http" && loopback(u.Hostname())
	if err != nil || u.Scheme != "https" && !here || u.Host == "" || strings.ContainsAny(address, "?#") {
		return bad(address, "WeChat Pay wants HTTPS and no query string")
	}
	if why := private(ctx, u.Hostname()); why != "" && !here {
		return bad(address+": "+why, "WeChat Pay calls from the Internet and cannot reach it")
	}
	f := sqldb.Finding{ID: id, Level: sqldb.LevelOK, Found: address + ", where an orderd answers"}
	who, err := whoAnswers(ctx, address)
	switch {
	case err != nil:
		f.Level, f.Found = sqldb.LevelWarn, address+": "+err.Error()
		f.Why = "it could not be asked from here; notifications may not come either"
		f.Fix = "call it from outside: 'curl " + address + "' has to be answered with \"code\":\"FAIL\" by orderd"
	case who != "":
		return bad(address+": "+who, "what answers there is no orderd: it takes the notifications and loses them")
	case u.Path != path:
		f.Level, f.Why = sqldb.LevelWarn, "orderd takes these notifications at "+path
		f.Fix = "let the proxy in front lead there, and make a payment of one fen"
	}
	return plain(f)
}

// private says why a host can be reached from this network alone, "" when it may be public.
// A name counts by its addresses; one that has none is not public either.
func private(ctx context.Context, host string) string {
	ips := []net.IP{net.ParseIP(host)}
	if ips[0] == nil {
		ctx, cancel := context.WithTimeout(ctx, askURLTimeout)
		defer cancel()
		found, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
		var missing *net.DNSError
		switch {
		case errors.As(err, &missing) && missing.IsNotFound:
			return "there is no such host"
		case err != nil:
			return "" // this machine cannot ask; whoAnswers will say so
		}
		ips = found
	}
	for _, ip := range ips {
		if !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast() && !ip.IsUnspecified() {
			return ""
		}
	}
	return fmt.Sprintf("%s is a private address", ips[0])
}

// whoAnswers asks an address, and gives "" for an orderd, which refuses a GET of a
// notification's path in the form that WeChat Pay wants; else what it is that answers. The
// error says why nobody could be asked.
func whoAnswers(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askURLTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Timeout: askURLTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // WeChat Pay follows none
	}}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxURLAnswer))
	if err != nil {
		return "", err
	}
	var p struct{ Code string }
	if json.Unmarshal(body, &p) == nil && p.Code == "FAIL" && res.Header.Get("X-Request-Id") != "" {
		return "", nil
	}
	return fmt.Sprintf("%s, server %q", res.Status, res.Header.Get("Server")), nil
}

package main

import (
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/order"
	"orderd/payment/wechatsim"
)

// withShop starts a service with a storefront.
func withShop(t *testing.T, dir string, change func(*settings)) *app {
	t.Helper()
	return embeddedWith(t, dir, slog.New(slog.DiscardHandler), func(s *settings) {
		s.ShopAddr, s.PayWithin, s.PayMost = "127.0.0.1:0", time.Hour, time.Hour
		s.AskEvery = 0 // a payment is found by nothing but what a test does
		change(s)
	})
}

// visitor is somebody in a browser of their own.
type visitor struct {
	t    *testing.T
	shop string
	http *http.Client
}

func newVisitor(t *testing.T, a *app) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, "http://" + a.Shop, &http.Client{Jar: jar, Timeout: 30 * time.Second}}
}

// read loads a page, in English.
func (v *visitor) read(path string) (status int, text string, at *url.URL) {
	v.t.Helper()
	return v.send("GET", path, nil)
}

func (v *visitor) send(method, path string, form url.Values) (status int, text string, at *url.URL) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.shop+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Accept-Language", "en")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := v.http.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return res.StatusCode, html.UnescapeString(string(b)), res.Request.URL
}

var (
	keyOfPage = regexp.MustCompile(`name="key" value="([^"]+)"`)
	leftOf    = regexp.MustCompile(`class="left"(?: data-sku="1001")?>([\d,]+)<`)
)

// buys presses the button and gives the address of the order.
func (v *visitor) buys(sku string) string {
	v.t.Helper()
	_, page, _ := v.read("/")
	key := keyOfPage.FindStringSubmatch(page)[1]
	status, text, at := v.send("POST", "/orders", url.Values{"sku": {sku}, "key": {key}})
	if status != http.StatusOK || !strings.HasPrefix(at.Path, "/orders/") {
		v.t.Fatalf("buying leads to %s with %d\n%s", at, status, text)
	}
	return at.Path
}

// does presses a button of the phone, and gives the page after it.
func (v *visitor) does(order, act string) string {
	v.t.Helper()
	status, page, at := v.send("POST", order+"/"+act, url.Values{})
	if status != http.StatusOK || at.Path != order {
		v.t.Fatalf("%s leads to %s with %d\n%s", act, at, status, page)
	}
	return page
}

// sees waits until the page of an order says something.
func (v *visitor) sees(order, what string) string {
	v.t.Helper()
	var page string
	waitFor(v.t, order+" never says: "+what, func() bool {
		_, page, _ = v.read(order)
		return strings.Contains(page, what)
	})
	return page
}

func shelfOf(t *testing.T, page string) string {
	t.Helper()
	m := leftOf.FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no stock on the page\n%s", page)
	}
	return m[1]
}

// The reason of the product in a minute: whatever the buyer's phone does, the page says in one sentence what happened,
// and the stock adds up. Without it the storefront could show a race that it does not run.
func TestStorefrontShowsEveryRace(t *testing.T) {
	dir := t.TempDir()
	a := withShop(t, dir, func(s *settings) { s.Pace = 20 })
	v := newVisitor(t, a)
	_, page, _ := v.read("/")
	if shelfOf(t, page) != "1,000" || !strings.Contains(page, "Blue mug") || !strings.Contains(page, "Concert ticket") {
		t.Fatal(page)
	}
	buys := func() string {
		t.Helper()
		o := v.buys("1001")
		v.sees(o, "One unit is held for you")
		return o
	}

	o := buys()
	if _, qr, _ := v.read(o + "/qr.svg"); !strings.HasPrefix(qr, "<svg") {
		t.Errorf("the code is %.80s", qr)
	}
	v.does(o, "pay")
	if page := v.sees(o, "by WeChat Pay's signed word"); shelfOf(t, page) != "999" ||
		!strings.Contains(page, "signed callback: paid (answered 204)") {
		t.Error(page)
	}

	o = buys()
	if page := v.does(o, "lose"); !strings.Contains(page, "its callback is lost. The unit stays held") ||
		shelfOf(t, page) != "998" {
		t.Error(page)
	}
	if page := v.does(o, "ask"); !strings.Contains(page, "The callback was lost, and the order is paid all the same") ||
		shelfOf(t, page) != "998" {
		t.Error(page)
	}

	o = buys()
	if page := v.does(o, "instant"); !strings.Contains(page, "paid in that instant: the payment won") ||
		!strings.Contains(page, "409: it cannot be cancelled, it is paid") ||
		!strings.Contains(page, "one unit, two owners") ||
		!strings.Contains(page, "“close it” → it is paid already") || shelfOf(t, page) != "997" {
		t.Error(page)
	}
	v.does(o, "instant") // again, from a page that is old
	if armed := a.sim.Faults(); len(armed) != 0 {
		t.Errorf("what was armed stays: %v", armed)
	}

	twice := buys()
	v.does(twice, "twice")
	v.sees(twice, "Paid twice: one payment is the order's, the other is going back by itself")

	o = buys()
	if page := v.does(o, "cancel"); !strings.Contains(page, "WeChat Pay closed it first") ||
		!strings.Contains(page, "closed: the unit is back, 996 in stock") {
		t.Error(page)
	}
	v.does(o, "late")
	v.sees(o, "It was closed, and money came all the same")
	late := o

	o = buys()
	v.does(o, "pay")
	v.sees(o, "by WeChat Pay's signed word")
	page = v.does(o, "refund")
	no := regexp.MustCompile(`<code>(\w+-R\w+)</code>`).FindStringSubmatch(page)
	if no == nil || !strings.Contains(page, `href="http://`+a.Admin+`/ui/refunds"`) ||
		!strings.Contains(page, "waits for a person") {
		t.Fatal(page)
	}
	if r, err := a.orders.FindRefund(t.Context(), no[1]); err != nil || r.State != order.RefundStatePending {
		t.Error("a refund that a buyer asked for is ", r.State, err)
	}
	verb := func(args ...string) (int, string) {
		t.Helper()
		code, out, errs := words(t, append(args, "--data-dir", dir, "--sim-addr", a.sim.addr, "--notify-addr",
			a.Notify)...)
		return code, out + errs
	}
	if code, out := verb("refund", "approve", no[1], "--reason", "fits nobody", "--yes"); code != exitOK {
		t.Fatal(out)
	}
	v.sees(o, "The money is back, and the unit is on the shelf again (996 in stock)")
	v.sees(twice, "the other has gone back by itself, once")
	v.sees(late, "The money that came after the close has gone back, once")

	if code, out := verb("verify"); code != exitOK {
		t.Error(out)
	}
	if _, page, _ := v.read("/"); shelfOf(t, page) != "996" { // 1000 and four sold
		t.Errorf("%s are left", shelfOf(t, page))
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// An order that nobody pays: WeChat Pay closes it first, and the page says so by itself.
func TestStorefrontRunsOutOfTime(t *testing.T) {
	a := withShop(t, t.TempDir(), func(s *settings) { s.PayWithin, s.CloseGrace = 2*time.Second, -1 })
	defer a.Close()
	v := newVisitor(t, a)
	o := v.buys("1001")
	v.does(o, "leave")
	page := v.sees(o, "Nobody paid. WeChat Pay closed it first")
	if !strings.Contains(page, "query → closed, it can never be paid") || shelfOf(t, page) != "1,000" {
		t.Error(page)
	}
}

// A page that is open hears what happens without being loaded again, and a stop does not wait for it.
func TestStorefrontTellsOpenPages(t *testing.T) {
	a := withShop(t, t.TempDir(), func(*settings) {})
	v := newVisitor(t, a)
	o := v.buys("1001")
	v.sees(o, "One unit is held")
	rev := regexp.MustCompile(`data-rev="(\w+)"`)
	_, page, _ := v.read(o)
	heard := make(chan string, 1)
	go func() {
		_, news, _ := v.read(o + "/live?seen=" + rev.FindStringSubmatch(page)[1])
		heard <- news
	}()
	v.does(o, "pay")
	if news := <-heard; strings.Contains(news, "<html") || !strings.Contains(news, "verdict") {
		t.Errorf("%.200s", news)
	}
	page = v.sees(o, "sold once")
	asked := make(chan int, 1)
	go func() {
		for { // until nothing is new: a callback may be told after the payment
			status, _, _ := v.read(o + "/live?seen=" + rev.FindStringSubmatch(page)[1])
			if status == http.StatusNoContent {
				asked <- status
				return
			}
			_, page, _ = v.read(o)
		}
	}()
	home := newVisitor(t, a)
	_, page2, _ := home.read("/")
	home.read("/live?seen=" + rev.FindStringSubmatch(page2)[1] + "x") // another: at once
	began := time.Now()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("a stop took %s", took)
	}
	if status := <-asked; status != http.StatusNoContent {
		t.Error(status)
	}
}

// The last units, in many browsers and twice in one: each is sold once, and who comes too late is told that nothing
// was taken. A button that is pressed twice is one order.
func TestStorefrontSellsTheLastOnce(t *testing.T) {
	a := withShop(t, t.TempDir(), func(*settings) {})
	defer a.Close()
	type answer struct {
		status int
		text   string
		at     *url.URL
	}
	const many = 12
	answers := make([]answer, many)
	var wg sync.WaitGroup
	for i := range answers {
		v := newVisitor(t, a)
		_, page, _ := v.read("/")
		key := keyOfPage.FindStringSubmatch(page)[1]
		wg.Go(func() {
			r := &answers[i]
			r.status, r.text, r.at = v.send("POST", "/orders", url.Values{"sku": {"1002"}, "key": {key}})
			status, _, again := v.send("POST", "/orders", url.Values{"sku": {"1002"}, "key": {key}})
			if r.status == http.StatusOK && (status != http.StatusOK || again.Path != r.at.Path) {
				t.Errorf("the same button again: %d %s, after %s", status, again, r.at)
			}
		})
	}
	wg.Wait()
	sold := 0
	for _, r := range answers {
		switch {
		case r.status == http.StatusOK && strings.HasPrefix(r.at.Path, "/orders/"):
			sold++
		case r.status == http.StatusConflict && strings.Contains(r.text, "Nothing was taken"):
		default:
			t.Errorf("%d %s %.300s", r.status, r.at, r.text)
		}
	}
	if sold != 3 {
		t.Errorf("%d of 3 were sold", sold)
	}
	if _, page, _ := newVisitor(t, a).read("/"); !strings.Contains(page, `id="buy-1002" disabled>Sold out`) {
		t.Error("the page does not say that they are sold out")
	}
}

// The service is restarted while a page is open: the visitor is the same, the paid order is paid, and of the one that
// was not paid the page says what the simulator has forgotten.
func TestStorefrontAfterARestart(t *testing.T) {
	dir := t.TempDir()
	a := withShop(t, dir, func(*settings) {})
	v := newVisitor(t, a)
	open, bought := v.buys("1001"), v.buys("1001")
	v.does(bought, "pay")
	v.sees(bought, "sold once")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = withShop(t, dir, func(*settings) {})
	defer a.Close()
	v.shop = "http://" + a.Shop
	if page := v.sees(bought, "by WeChat Pay's signed word"); !strings.Contains(page, "Only what happened since") {
		t.Error(page)
	}
	if page := v.does(open, "pay"); !strings.Contains(page, "has forgotten this trade") {
		t.Error(page)
	}
	if _, page, _ := v.read("/"); strings.Count(page, `<a href="/orders/`) != 2 || shelfOf(t, page) != "998" {
		t.Error(page)
	}
	if page := v.does(v.buys("1001"), "pay"); !strings.Contains(page, "WeChat Pay") {
		t.Error(page)
	}
}

// Who may pay without money must be on this machine, and asked by its own page.
func TestStorefrontIsNobodyElses(t *testing.T) {
	a := withShop(t, t.TempDir(), func(*settings) {})
	defer a.Close()
	v := newVisitor(t, a)
	o := v.buys("1001")
	cookie := v.http.Jar.Cookies(&url.URL{Scheme: "http", Host: a.Shop, Path: "/"})[0].String()
	ask := func(method, path, body string, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Shop+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", cookie)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(headers); i += 2 {
			if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
				r.Host = headers[i+1]
			}
		}
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	for _, c := range []struct {
		method, path string
		headers      []string
		status       int
	}{
		{"GET", "/", []string{"Host", "shop.example.com"}, 403}, {"GET", "/", []string{"Host", "192.0.2.1"}, 403},
		{"GET", o, []string{"Host", "127.0.0.1.example.com:80"}, 403},
		{"POST", o + "/pay", []string{"Host", "rebound.example.com"}, 403},
		{"GET", "/", []string{"Host", "localhost:" + strings.Split(a.Shop, ":")[1]}, 200},
		{"GET", "/", []string{"Host", "[::1]:9"}, 200},
		{"POST", o + "/pay", []string{"Origin", "https://evil.example"}, 403},
		{"POST", o + "/pay", []string{"Origin", "null"}, 403},
		{"POST", o + "/pay", []string{"Origin", "http://" + a.Admin}, 403},
		{"POST", o + "/pay", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", o + "/pay", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"POST", "/orders", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", "/language", []string{"Origin", "https://evil.example"}, 403},
		{"GET", o + "/pay", nil, 404}, {"POST", o + "/nonsense", nil, 404}, {"GET", "/nonsense", nil, 404},
		{"POST", o + "/leave", []string{"Sec-Fetch-Site", "same-origin"}, 303},
	} {
		res := ask(c.method, c.path, "", c.headers...)
		if res.StatusCode != c.status {
			t.Errorf("%s %s with %v: %d, want %d", c.method, c.path, c.headers, res.StatusCode, c.status)
		}
		for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Referrer-Policy": "same-origin", "Content-Security-Policy": "default-src 'none'; script-src 'self'; " +
				"style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; " +
				"frame-ancestors 'none'; base-uri 'none'"} {
			if got := res.Header.Get(header); got != want {
				t.Errorf("%s %s: %s is %q", c.method, c.path, header, got)
			}
		}
	}
	if res := ask("POST", "/orders", "sku="+strings.Repeat("1", 5000)); res.StatusCode != 422 {
		t.Errorf("a large form: %d", res.StatusCode)
	}
	if n := v.readOnly(o); strings.Contains(n, "pays ¥") || !strings.Contains(n, "puts the phone away") {
		t.Error("a stranger's page paid, or its own did nothing", n)
	}

	// Somebody else in another browser.
	other := newVisitor(t, a)
	for _, path := range []string{o, o + "/live?seen=x", o + "/qr.svg", "/orders/01M8Q8VRN553KQTMWN28SZ7C48",
		"/orders/x"} {
		if status, _, _ := other.read(path); status != http.StatusNotFound {
			t.Errorf("somebody else reads %s: %d", path, status)
		}
	}
	if status, _, _ := other.send("POST", o+"/cancel", url.Values{}); status != http.StatusNotFound {
		t.Errorf("somebody else cancels: %d", status)
	}
	if _, page, _ := other.read("/"); strings.Contains(page, strings.TrimPrefix(o, "/orders/")) {
		t.Error("somebody else sees the order")
	}
}

// readOnly is the text of a page.
func (v *visitor) readOnly(path string) string {
	v.t.Helper()
	_, text, _ := v.read(path)
	return text
}

// One visitor with a robot must not take what all others need.
func TestStorefrontIsBounded(t *testing.T) {
	a := withShop(t, t.TempDir(), func(*settings) {})
	defer a.Close()
	v := newVisitor(t, a)
	var refused atomic.Bool
	var robots sync.WaitGroup
	for range 8 { // ten forms a second are taken: on a slow machine one robot alone may send no more
		robots.Go(func() {
			for n := 0; n < 100 && !refused.Load(); n++ {
				status, _, _ := v.send("POST", "/language", url.Values{"to": {"en"}, "back": {"//evil.example"}})
				if status == http.StatusTooManyRequests {
					refused.Store(true)
				}
			}
		})
	}
	robots.Wait()
	if !refused.Load() {
		t.Error("800 forms at once were all taken")
	}
}

// The limits of a customer are a visitor's too, and the page says what to do.
func TestStorefrontVisitorsAreCustomers(t *testing.T) {
	a := withShop(t, t.TempDir(), func(s *settings) { s.MaxOpen = 2 })
	defer a.Close()
	v := newVisitor(t, a)
	first := v.buys("1001")
	v.buys("1001")
	_, page, _ := v.read("/")
	form := url.Values{"sku": {"1001"}, "key": {keyOfPage.FindStringSubmatch(page)[1]}}
	status, page, _ := v.send("POST", "/orders", form)
	if status != http.StatusTooManyRequests || !strings.Contains(page, "pay or cancel one") ||
		shelfOf(t, page) != "998" {
		t.Errorf("a third unpaid order: %d\n%s", status, page)
	}
	v.does(first, "cancel")
	v.sees(first, "WeChat Pay closed it first")
	v.buys("1001")
}

// A storefront that everybody reaches, or beside real money, would be a till that is open.
func TestStorefrontIsOnlyForTryingOut(t *testing.T) {
	for addr, fits := range map[string]bool{"127.0.0.1:7071": true, "localhost:0": true, "[::1]:9": true, "": true,
		"off": true, ":7071": false, "0.0.0.0:7071": false, "[::]:7071": false, "192.0.2.1:7071": false,
		"shop.example.com:7071": false, "7071": false, "on": false} {
		s := settings{ShopAddr: addr, AdminAddr: "127.0.0.1:0"}
		err := s.usable(nil)
		if (err == nil) != fits || !fits && (!strings.Contains(err.Error(), "ORDERD_SHOP_ADDR") ||
			!strings.Contains(err.Error(), "this machine alone")) {
			t.Errorf("%q: %v", addr, err)
		}
	}
	if code, _, errs := words(t, "serve", "--shop-addr", "0.0.0.0:0", "--data-dir", t.TempDir()); code != exitUsage ||
		!strings.Contains(errs, "this machine alone") {
		t.Errorf("serve: exit %d, %s", code, errs)
	}
	for name, change := range map[string]func(*settings){
		"off": func(s *settings) { s.ShopAddr = "off" }, "empty": func(s *settings) { s.ShopAddr = "" },
	} {
		a := withShop(t, t.TempDir(), change)
		if a.Shop != "" || a.shopSecret != "" {
			t.Errorf("%s: a storefront at %s", name, a.Shop)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	merchant := newShop(t, wechatsim.Options{}, func(_ *shop, s *settings) { s.ShopAddr = "127.0.0.1:0" })
	if merchant.Shop != "" || merchant.shopSecret != "" {
		t.Errorf("a storefront with a merchant, at %s", merchant.Shop)
	}
	if res := buyAs(t, merchant.app, ""); res != http.StatusUnauthorized {
		t.Errorf("no key at all lets in: %d", res)
	}
}

// buyAs places an order with a shop's secret for a customer, and gives the status.
func buyAs(t *testing.T, a *app, secret string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+a.API+"/v1/orders",
		strings.NewReader(`{"items":[{"sku_id":"1001","quantity":1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Authorization": "Bearer " + secret, "Orderd-Customer": "c9",
		"Idempotency-Key": fmt.Sprint("k", time.Now().UnixNano()), "Content-Type": "application/json"} {
		r.Header.Set(name, value)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// The storefront's key ends with the process, opens what a shop's key with its scopes opens, and nothing is like it.
func TestStorefrontKeyIsOfThisProcess(t *testing.T) {
	dir := t.TempDir()
	a := withShop(t, dir, func(*settings) {})
	secret := a.shopSecret
	if st := buyAs(t, a, secret); st != http.StatusCreated {
		t.Errorf("its own key: %d", st)
	}
	if st := buyAs(t, a, secret+"x"); st != http.StatusUnauthorized {
		t.Errorf("another key: %d", st)
	}
	k, err := a.shopKeys(options{roles: allRoles}).Who(t.Context(), a.shopSecret)
	if err != nil || k == nil || k.May("refund") || k.May("read") || !k.May("place") || !k.May("stock") {
		t.Error(k, err)
	}
	if all, err := a.shops.List(t.Context()); err != nil || len(all) != 0 {
		t.Error("it is in the table", all, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = withShop(t, dir, func(*settings) {})
	defer a.Close()
	if st := buyAs(t, a, secret); st != http.StatusUnauthorized {
		t.Errorf("the key of the process before: %d", st)
	}
}

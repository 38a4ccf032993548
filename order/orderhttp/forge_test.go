package orderhttp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/echoes"
	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
)

// letter is a notification as it came over the wire.
type letter struct {
	path   string
	header http.Header
	body   []byte
}

// door is the real listener of notifications, over TCP, on a real service that
// believes WeChat Pay's signatures alone; what the simulator sends is kept and
// not delivered.
type door struct {
	*ordertest.Fixture
	sim     *wechatsim.Sim
	gateway *wechat.Gateway
	letters chan letter
	post    string // where the simulator sends to
	addr    string
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{letters: make(chan letter, 64)}
	keys, err := simKeys()
	if err != nil {
		t.Fatal(err)
	}
	if d.sim, err = wechatsim.New(wechatsim.Options{Keys: keys, Now: time.Now, Speed: 1e6}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(d.sim.Handler())
	post := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.letters <- letter{r.URL.Path, r.Header, body}
		w.WriteHeader(http.StatusNoContent)
	}))
	d.post = post.URL
	t.Cleanup(func() { d.sim.Close(); api.Close(); post.Close() })
	db := sqldbtest.SQLite(t)
	clock := &ordertest.Clock{}
	clock.Set(time.Now())
	d.Fixture = ordertest.NewWith(t, db, func(c *order.Config) {
		k := keys.Client()
		d.gateway, err = wechat.New(wechat.Config{MchID: k.MchID, AppID: k.AppID, SerialNo: k.SerialNo,
			PrivateKeyPEM: k.PrivateKeyPEM,
			APIv3Key:      k.APIv3Key, VerifyKeys: k.VerifyKeys, BaseURL: api.URL, Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.gateway.CloseIdleConnections)
		c.Gateway, c.Now, c.NotifyURL, c.RefundNotifyURL = d.gateway, clock.Now, post.URL+PathNotifyPayment,
			post.URL+PathNotifyRefund
		c.RefundAutoApprove = payment.MaxFen
	})
	d.Clock = clock
	e, err := NewNotify(NotifyOptions{Notifications: d.gateway, Settler: d.Service, Echoes: echoes.New(db, d.Clock.Now),
		Now: d.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	d.addr, _ = serve(t, e, nil)
	return d
}

// next waits for what the simulator sends.
func (d *door) next(t *testing.T) letter {
	t.Helper()
	select {
	case l := <-d.letters:
		return l
	case <-time.After(time.Minute):
		t.Fatal("the simulator sends nothing")
		return letter{}
	}
}

// signed are the headers that make a notification WeChat Pay's.
var signed = []string{"Wechatpay-Serial", "Wechatpay-Signature", "Wechatpay-Signature-Type", "Wechatpay-Timestamp",
	"Wechatpay-Nonce"}

// wire gives a letter as bytes of HTTP, whatever is in its headers.
func (l letter) wire() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", l.path,
		len(l.body))
	for _, name := range signed {
		fmt.Fprintf(&b, "%s: %s\r\n", name, l.header.Get(name))
	}
	b.WriteString("\r\n")
	b.Write(l.body)
	return b.Bytes()
}

// caller posts letters over one connection, and over a new one when the server
// ends it.
type caller struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
}

func (c *caller) post(t *testing.T, l letter) int {
	for try := 0; ; try++ {
		if c.conn == nil {
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				t.Error(err)
				return 0
			}
			c.conn, c.in = conn, bufio.NewReader(conn)
		}
		_, err := c.conn.Write(l.wire())
		var resp *http.Response
		if err == nil {
			resp, err = http.ReadResponse(c.in, nil)
		}
		if err != nil {
			c.close()
			if try == 0 {
				continue
			}
			t.Error(err)
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.Close {
			c.close()
		}
		return resp.StatusCode
	}
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn = nil
}

// flips gives every letter that differs from l in one bit of its body or of a
// signed header.
func (l letter) flips(yield func(what string, flipped letter) bool) {
	flip := func(b []byte, bit int) []byte {
		b = slices.Clone(b)
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
	for bit := range len(l.body) * 8 {
		if !yield(fmt.Sprintf("bit %d of the body", bit), letter{l.path, l.header, flip(l.body, bit)}) {
			return
		}
	}
	for _, name := range signed {
		value := []byte(l.header.Get(name))
		for bit := range len(value) * 8 {
			h := l.header.Clone()
			h.Set(name, string(flip(value, bit)))
			if !yield(fmt.Sprintf("bit %d of %s", bit, name), letter{l.path, h, l.body}) {
				return
			}
		}
	}
}

// refusesFlips posts every letter that is one bit off: all are refused, and the
// database stays as it is.
func (d *door) refusesFlips(t *testing.T, l letter) {
	t.Helper()
	type job struct {
		what string
		letter
	}
	jobs := make(chan job)
	before := sqldbtest.Contents(t, d.DB)
	var all sync.WaitGroup
	var tried atomic.Int64
	for range 4 {
		all.Go(func() {
			c := caller{addr: d.addr}
			defer c.close()
			for j := range jobs {
				tried.Add(1)
				if status := c.post(t, j.letter); status != 401 && status != 400 {
					t.Errorf("%s: %d", j.what, status)
				}
			}
		})
	}
	for what, flipped := range l.flips {
		jobs <- job{what, flipped}
	}
	close(jobs)
	all.Wait()
	if n := tried.Load(); n < 6000 {
		t.Errorf("only %d bits were tried", n)
	} else {
		t.Logf("%s: %d bits flipped", l.path, n)
	}
	if changed := sqldbtest.Changed(before, sqldbtest.Contents(t, d.DB)); len(changed) > 0 {
		t.Errorf("forged notifications changed %v", changed)
	}
}

// believedOnce posts the letter itself: taken once, harmless again, refused when it is old.
func (d *door) believedOnce(t *testing.T, l letter) {
	t.Helper()
	c := caller{addr: d.addr}
	defer c.close()
	before := sqldbtest.Contents(t, d.DB)
	if status := c.post(t, l); status != 204 || len(sqldbtest.Changed(before, sqldbtest.Contents(t, d.DB))) == 0 {
		t.Fatalf("the true notification: %d", status)
	}
	before = sqldbtest.Contents(t, d.DB)
	for range 3 {
		if status := c.post(t, l); status != 204 {
			t.Errorf("its repeat: %d", status)
		}
	}
	d.Clock.Advance(4 * time.Minute)
	if status := c.post(t, l); status != 204 {
		t.Errorf("its repeat after four minutes: %d", status)
	}
	d.Clock.Advance(90 * time.Second)
	if status := c.post(t, l); status != 401 {
		t.Errorf("its replay after more than five minutes: %d", status)
	}
	d.Clock.Set(time.Now())
	if changed := sqldbtest.Changed(before, sqldbtest.Contents(t, d.DB)); len(changed) > 0 {
		t.Errorf("repeats changed %v", changed)
	}
}

// One bit that can be changed on the way is money for whoever finds it: over the wire, at every address that
// WeChat Pay calls. A notification for one address must not be accepted at the other either.
func TestEveryFlippedBitIsRefusedOverHTTP(t *testing.T) {
	d := newDoor(t)
	d.SKU(t, "1001", 10)
	o := d.PlaceOne(t, "k", "1001", 3)
	if err := d.sim.Pay(d.Prepaid(t, o.OrderNo), wechatsim.PayOptions{Notify: true}); err != nil {
		t.Fatal(err)
	}
	paid := d.next(t)
	d.refusesFlips(t, paid)
	astray := paid
	astray.path = PathNotifyRefund
	c := caller{addr: d.addr}
	defer c.close()
	if status := c.post(t, astray); status != 400 || d.State(t, o.OrderNo) != order.StatePending {
		t.Errorf("a payment at the refunds' door: %d, %s", status, d.State(t, o.OrderNo))
	}
	d.believedOnce(t, paid)
	if got := d.State(t, o.OrderNo); got != order.StatePaid {
		t.Fatalf("the order is %s", got)
	}

	asked, err := d.AskRefund(t.Context(), order.AskRefund{OrderNo: o.OrderNo, CustomerID: "c", RequestID: "r",
		Reason: "x", Cause: ordertest.Customer})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Refund(t.Context(), asked.Refund.OutRefundNo, ordertest.Scheduler); err != nil {
		t.Fatal(err)
	}
	back := d.next(t)
	d.refusesFlips(t, back)
	astray = back
	astray.path = PathNotifyPayment
	if status := c.post(t, astray); status != 400 || strings.Contains(string(astray.body), o.OrderNo) {
		t.Errorf("a refund at the payments' door: %d", status)
	}
	d.believedOnce(t, back)
	if got := d.State(t, o.OrderNo); got != order.StateRefunded {
		t.Errorf("the order is %s", got)
	}
}

// doctor --live sends a question, and its answer comes to the listener of payments: refused, the only evidence that
// costs nothing would never be there. Whoever may forge one must not be able to fake it.
func TestEchoIsTakenAndCannotBeForged(t *testing.T) {
	d := newDoor(t)
	store := echoes.New(d.DB, d.Clock.Now)
	counted := func(message string, want int) {
		t.Helper()
		if n, err := store.Count(t.Context(), message); err != nil || n != want {
			t.Errorf("%q was heard %d times (%v), want %d", message, n, err, want)
		}
	}
	message := strings.Repeat("A", 26)
	key := d.gateway.Keys()[0].ID
	for _, k := range d.gateway.Keys() {
		if k.Response {
			key = k.ID
		}
	}
	signedBy, err := d.gateway.Echo(t.Context(), key, message, d.post+PathNotifyPayment)
	if err != nil || signedBy != key {
		t.Fatal(signedBy, err)
	}
	l := d.next(t)
	d.refusesFlips(t, l)
	c := caller{addr: d.addr}
	defer c.close()
	for range 2 {
		if status := c.post(t, l); status != 204 {
			t.Fatalf("the callback of a test was answered %d", status)
		}
	}
	counted(message, 1)
	l.path = PathNotifyRefund
	if status := c.post(t, l); status != 204 {
		t.Errorf("at the other address: %d", status)
	}
	counted(message, 1)
	counted("", 0)
	d.Clock.Advance(6 * time.Minute)
	if status := c.post(t, l); status != 401 {
		t.Errorf("an old one: %d", status)
	}
}

package storefront

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/bounds"
)

//go:embed ui/*.html ui/static/*
var files embed.FS

// pages is the template of all pages.
var pages = template.Must(template.New("").Funcs(template.FuncMap{"asset": asset, "yuan": yuan, "shown": bounds.Shown}).
	ParseFS(files, "ui/*.html"))

// statics are the files that pages load, by their names with their sums.
var statics = readStatics()

func readStatics() map[string][]byte {
	all := map[string][]byte{}
	found, err := fs.ReadDir(files, "ui/static")
	if err != nil {
		panic(err) // it was built in
	}
	for _, f := range found {
		body, err := fs.ReadFile(files, "ui/static/"+f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(body)
		ext := path.Ext(f.Name())
		all[strings.TrimSuffix(f.Name(), ext)+"."+hex.EncodeToString(sum[:4])+ext] = body
	}
	return all
}

// asset gives the address of a file of ui/static.
func asset(name string) (string, error) {
	ext := path.Ext(name)
	for with := range statics {
		if strings.HasPrefix(with, strings.TrimSuffix(name, ext)+".") && path.Ext(with) == ext {
			return "/static/" + with, nil
		}
	}
	return "", fmt.Errorf("no file ui/static/%s", name)
}

// static is GET /static/{name}.
func static(w http.ResponseWriter, r *http.Request) {
	body, known := statics[r.PathValue("name")]
	if !known {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(r.PathValue("name"))))
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(body)
}

// yuan writes fen for people.
func yuan(fen int64) string { return fmt.Sprintf("¥%s.%02d", number(fen/100), fen%100) }

// number writes a count with its thousands apart.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// page is what a page is made of. Live is the part that is replaced when it changes.
type page struct {
	visit
	Console string
	Back    string
	Live    template.HTML
	LiveAt  string // where news come from, "" where there are none
	Rev     string
	Key     string // of the next order, so that a button pressed twice is one order
	Said    string // the sentence that is read out

	Message string // an error, by its word
	Goods   []goodsView
	Orders  []orderView
	Order   *orderPage
}

// T is a text of the page.
func (p *page) T(key string, args ...any) string { return p.lang.word(key, args...) }

// Lang and Other are languages.
func (p *page) Lang() lang  { return p.lang }
func (p *page) Other() lang { return 1 - p.lang }

// goodsView is a SKU of the home page.
type goodsView struct {
	goods
	Name, Picture string
	Left          string // how many there are
	Out           bool
}

// viewOf shows a SKU. The names of the sample's goods are in both languages.
func (l lang) viewOf(g goods) goodsView {
	v := goodsView{goods: g, Name: bounds.Shown(g.Title), Picture: "goods.svg", Left: "∞"}
	if _, known := words["goods."+g.Title]; known {
		v.Name = l.word("goods." + g.Title)
	}
	for word, file := range map[string]string{"mug": "mug.svg", "ticket": "ticket.svg"} {
		if strings.Contains(strings.ToLower(g.Title), word) {
			v.Picture = file
		}
	}
	if g.Available != nil {
		v.Left, v.Out = number(*g.Available), *g.Available <= 0
	}
	return v
}

// orderPage is an order with the phone beside it.
type orderPage struct {
	orderView
	Item                    goodsView
	Verdict, Tone           string
	Steps                   []stepView
	Phone                   string
	Whole                   bool // nothing of it is missing
	CanPay, CanAsk, CanLate bool
	CanRefund, CanCode      bool
	Waits                   bool // until its time is over
	RefundNo                string
}

// stepView is a step in a language; Way is the arrow's class.
type stepView struct {
	At, Way, Who, Text string
	Lost               bool
}

// show makes the page of an order of its story.
func (s *Shop) show(v visit, st *story) *orderPage {
	st.mu.Lock()
	defer st.mu.Unlock()
	o := &orderPage{orderView: st.order, Item: v.lang.viewOf(st.item), Whole: st.fromStart}
	o.Verdict, o.Tone = st.verdict()
	steps := st.inOrder()
	for _, one := range steps {
		w := stepView{At: "+" + since(one.At.Sub(steps[0].At)), Way: string(one.From) + "-" + string(one.To),
			Text: v.lang.word(one.Word, one.Args...), Lost: one.Lost, Who: v.lang.word("who." + string(one.From))}
		if one.From != one.To {
			w.Who += " → " + v.lang.word("who."+string(one.To))
		}
		o.Steps = append(o.Steps, w)
	}
	unpaid := st.order.State == pending && st.money == 0 && !st.forgotten
	o.CanCode = unpaid && len(st.trades) == 0 && st.fromStart
	o.CanPay = unpaid && !o.CanCode && s.o.Now().Before(st.order.TimeExpire)
	o.CanAsk = st.order.State == pending && st.money > 0
	o.CanLate = st.order.State == closed && len(st.trades) > 0 && st.money == 0
	asked := st.refund("aftersale")
	o.CanRefund = st.order.State == paid && (asked == nil || asked.RefundStatus == "REJECTED")
	o.Waits = st.order.State == pending && st.money == 0
	if asked != nil && asked.RefundStatus == askedFor {
		o.RefundNo = asked.OutRefundNo
	}
	o.Phone = "phone." + st.order.State
	switch {
	case st.order.State == pending && st.money > 0:
		o.Phone = "phone.sent"
	case o.CanPay && st.left:
		o.Phone = "phone.left"
	case st.order.State == pending && !o.CanPay && !o.CanCode:
		o.Phone = "phone.over"
	}
	return o
}

// since writes a duration for people: seconds with two places.
func since(d time.Duration) string {
	ms := max(d.Milliseconds(), 0)
	return fmt.Sprintf("%d.%02ds", ms/1000, ms%1000/10)
}

// Sentence is a verdict with its numbers.
func (p *page) Sentence(verdict string) string {
	return p.lang.word(verdict, p.Order.Item.Left)
}

// Else is what would have happened in a shop that does otherwise, "" where there is nothing to say.
func (p *page) Else(verdict string) string {
	key := "else." + strings.TrimPrefix(verdict, "verdict.")
	if _, known := words[key]; !known {
		return ""
	}
	return p.T(key)
}

// render makes the live part of a page and its sum.
func (p *page) render(name string) error {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, p); err != nil {
		return err
	}
	sum := sha256.Sum256(b.Bytes())
	p.Live, p.Rev = template.HTML(b.String()), hex.EncodeToString(sum[:8]) //nolint:gosec // G203: of our own template
	return nil
}

// write answers with a whole page.
func (s *Shop) write(w http.ResponseWriter, status int, p *page, name string) {
	var b bytes.Buffer
	err := p.render(name)
	if err == nil {
		err = pages.ExecuteTemplate(&b, "page", p)
	}
	if err != nil {
		s.o.Log.Error("storefront", "page", name, "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", p.lang.Tag())
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// page begins a page.
func (s *Shop) page(v visit, back string) *page {
	return &page{visit: v, Console: s.o.Console, Back: back}
}

// fail answers with a page that says what is wrong.
func (s *Shop) fail(w http.ResponseWriter, v visit, status int, word string) {
	p := s.page(v, "/")
	p.Message = word
	s.write(w, status, p, "error")
}

// failed answers for an error of the client.
func (s *Shop) failed(w http.ResponseWriter, r *http.Request, v visit, err error) {
	var p *problem
	switch {
	case r.Context().Err() != nil: // nobody reads it
	case errors.As(err, &p) && p.Status == http.StatusNotFound:
		s.fail(w, v, http.StatusNotFound, "error.order")
	default:
		s.o.Log.Warn("storefront", "path", r.URL.Path, "err", err)
		w.Header().Set("Retry-After", "1")
		s.fail(w, v, http.StatusServiceUnavailable, "error.away")
	}
}

// MaxGoods bounds the goods that the home page shows, and its orders.
const MaxGoods = 6

// homeOf makes the home page.
func (s *Shop) homeOf(ctx context.Context, v visit, key string) (*page, error) {
	p := s.page(v, "/")
	p.LiveAt, p.Key = "/live", key
	if !bounds.IdempotencyKey.Fits(key) {
		p.Key = rand.Text()
	}
	ids, err := s.o.Goods(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.client.goods(ctx, ids[:min(len(ids), MaxGoods)])
	if err != nil {
		return nil, err
	}
	for _, g := range found {
		p.Goods = append(p.Goods, v.lang.viewOf(g))
	}
	var mine struct {
		Data []orderView `json:"data"`
	}
	err = s.client.ask(ctx, call{method: http.MethodGet, path: "/v1/orders?limit=" + strconv.Itoa(MaxGoods),
		customer: v.customer, own: true, into: &mine})
	p.Orders = mine.Data
	return p, err
}

// home is GET /.
func (s *Shop) home(w http.ResponseWriter, r *http.Request, v visit) {
	p, err := s.homeOf(r.Context(), v, "")
	if err != nil {
		s.failed(w, r, v, err)
		return
	}
	s.write(w, http.StatusOK, p, "home")
}

// known gives a story whose order the API knows as this customer's.
func (s *Shop) known(ctx context.Context, v visit, no string) (*story, error) {
	if !validOrderNo(no) {
		return nil, &problem{Status: http.StatusNotFound}
	}
	s.mu.Lock()
	st := s.stories[v.customer+" "+no]
	s.mu.Unlock()
	if st == nil { // a number that somebody made up must not push out a story
		if err := s.client.ask(ctx, call{method: http.MethodGet, path: "/v1/orders/" + no, customer: v.customer,
			own: true}); err != nil {
			return nil, err
		}
		st = s.story(v.customer, no)
	}
	return st, s.look(ctx, st)
}

// orderOf makes the page of an order.
func (s *Shop) orderOf(ctx context.Context, v visit, no string) (*page, time.Time, error) {
	st, err := s.known(ctx, v, no)
	if err != nil {
		return nil, time.Time{}, err
	}
	s.story(v.customer, no) // it is used
	p := s.page(v, "/orders/"+no)
	p.LiveAt = "/orders/" + no + "/live"
	p.Order = s.show(v, st)
	p.Said = p.Sentence(p.Order.Verdict)
	st.mu.Lock()
	defer st.mu.Unlock()
	return p, st.moved, nil
}

// order is GET /orders/{no}.
func (s *Shop) order(w http.ResponseWriter, r *http.Request, v visit) {
	p, _, err := s.orderOf(r.Context(), v, r.PathValue("no"))
	if err != nil {
		s.failed(w, r, v, err)
		return
	}
	s.write(w, http.StatusOK, p, "order")
}

// homeLive is GET /live: the live part of the home page as soon as it is another than ?seen=.
func (s *Shop) homeLive(w http.ResponseWriter, r *http.Request, v visit) {
	key := r.URL.Query().Get("key")
	s.live(w, r, v, "home", func(ctx context.Context) (*page, time.Time, error) {
		p, err := s.homeOf(ctx, v, key)
		return p, s.o.Now(), err
	})
}

// orderLive is GET /orders/{no}/live.
func (s *Shop) orderLive(w http.ResponseWriter, r *http.Request, v visit) {
	s.live(w, r, v, "order", func(ctx context.Context) (*page, time.Time, error) {
		return s.orderOf(ctx, v, r.PathValue("no"))
	})
}

// live waits until a part of a page is another than the one that was seen, 204 when it stays the same. Its sum is
// in the header Shop-Rev, the sentence that is read out in its first line.
func (s *Shop) live(w http.ResponseWriter, r *http.Request, v visit, name string,
	now func(context.Context) (*page, time.Time, error)) {
	seen := r.URL.Query().Get("seen")
	end := time.NewTimer(waitFor)
	defer end.Stop()
	for {
		p, moved, err := now(r.Context())
		if err == nil {
			err = p.render(name)
		}
		if err != nil {
			s.failed(w, r, v, err)
			return
		}
		if p.Rev != seen {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Shop-Rev", p.Rev)
			_, _ = w.Write([]byte(p.Live))
			return
		}
		every := lookEvery
		if s.o.Now().Sub(moved) > quietAfter {
			every = time.Second
		}
		select {
		case <-time.After(every + every/4):
		case <-end.C:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-s.o.Stopping:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// qr is GET /orders/{no}/qr.svg, the API's.
func (s *Shop) qr(w http.ResponseWriter, r *http.Request, v visit) {
	no := r.PathValue("no")
	var picture []byte
	err := error(&problem{Status: http.StatusNotFound})
	if validOrderNo(no) {
		err = s.client.ask(r.Context(), call{method: http.MethodGet, path: "/v1/orders/" + no + "/qrcode.svg",
			customer: v.customer, own: true, into: &picture})
	}
	var p *problem
	switch {
	case errors.As(err, &p):
		http.Error(w, p.Code, p.Status)
	case err != nil:
		s.failed(w, r, v, err)
	default:
		w.Header().Set("Content-Type", "image/svg+xml")
		_, _ = w.Write(picture)
	}
}

// place is POST /orders: it buys one, and leads to the order.
func (s *Shop) place(w http.ResponseWriter, r *http.Request, v visit) {
	sku, key := r.PostFormValue("sku"), r.PostFormValue("key")
	if !bounds.SkuID.Fits(sku) || !bounds.IdempotencyKey.Fits(key) {
		s.fail(w, v, http.StatusUnprocessableEntity, "error.form")
		return
	}
	st, err := s.buy(r.Context(), v.customer, sku, key, v.lang == en)
	var p *problem
	switch {
	case errors.As(err, &p) && p.Status < http.StatusInternalServerError:
		s.notBought(w, r, v, p)
	case err != nil && st == nil:
		s.failed(w, r, v, err)
	default:
		http.Redirect(w, r, "/orders/"+st.no, http.StatusSeeOther)
	}
}

// notBought is the home page with the reason why nothing was bought.
func (s *Shop) notBought(w http.ResponseWriter, r *http.Request, v visit, no *problem) {
	p, err := s.homeOf(r.Context(), v, "")
	if err != nil {
		s.failed(w, r, v, err)
		return
	}
	p.Message = "no.buy." + no.Code
	if _, known := words[p.Message]; !known {
		p.Message = "no.buy"
	}
	p.Said = p.T(p.Message)
	s.write(w, no.Status, p, "home")
}

// do is POST /orders/{no}/{do}: one of the acts.
func (s *Shop) do(w http.ResponseWriter, r *http.Request, v visit) {
	no, name := r.PathValue("no"), r.PathValue("do")
	if acts[name] == nil {
		s.fail(w, v, http.StatusNotFound, "error.none")
		return
	}
	st, err := s.known(r.Context(), v, no)
	if err == nil {
		err = s.act(r.Context(), st, name)
	}
	if err != nil {
		s.failed(w, r, v, err)
		return
	}
	http.Redirect(w, r, "/orders/"+st.no, http.StatusSeeOther)
}

// language is POST /language. Back is a page of this listener, or the home page.
func (s *Shop) language(w http.ResponseWriter, r *http.Request, _ visit) {
	to := zh
	if r.PostFormValue("to") == en.String() {
		to = en
	}
	setCookie(w, cookieLanguage, to.String())
	back := "/"
	if no, ok := strings.CutPrefix(r.PostFormValue("back"), "/orders/"); ok && validOrderNo(no) {
		back += "orders/" + no
	}
	http.Redirect(w, r, back, http.StatusSeeOther) //nolint:gosec // G710: of this listener
}

// actView is a button of the phone.
type actView struct{ No, Do, Class, Text string }

// Act makes a button of an act.
func (p *page) Act(do, class string) actView {
	return actView{p.Order.OrderNo, do, class, p.T("do." + do)}
}

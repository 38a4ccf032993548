package console

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"text/template/parse"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order/orderhttp"
)

// strictCSP allows the pages' own files and forms, and nothing else: nothing inline, no frame,
// nothing from elsewhere.
const strictCSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// uiFiles are the templates of the pages and the files that they load.
//
//go:embed ui/templates/*.html ui/static/*
var uiFiles embed.FS

// asset is a file that pages load. Its name has its sum, so that a browser may keep it for good.
type asset struct {
	path, media string
	body        []byte
}

// assets are the files of ui/static by their plain names.
var assets = readAssets()

func readAssets() map[string]asset {
	all := map[string]asset{}
	files, err := fs.ReadDir(uiFiles, "ui/static")
	for _, f := range files {
		body, e := fs.ReadFile(uiFiles, "ui/static/"+f.Name())
		err = cmp.Or(err, e)
		ext := path.Ext(f.Name())
		sum := sha256.Sum256(body)
		name := strings.TrimSuffix(f.Name(), ext) + "." + hex.EncodeToString(sum[:4]) + ext
		all[f.Name()] = asset{"/static/" + name, mime.TypeByExtension(ext), body}
	}
	if err != nil {
		panic(err) // it was built in
	}
	return all
}

// assetPath is where a file of ui/static is served.
func assetPath(name string) (string, error) {
	a, known := assets[name]
	if !known {
		return "", fmt.Errorf("no file ui/static/%s", name)
	}
	return a.path, nil
}

// static is GET /static/:name. Whoever loads it is not asked who they are: it is the same for all, and
// the page that asks for a password has it too.
func (c *console) static(ctx echo.Context) error {
	if err := orderhttp.CheckQuery(ctx); err != nil {
		return err
	}
	for _, a := range assets {
		if a.path == ctx.Request().URL.Path {
			h := ctx.Response().Header()
			h.Set(echo.HeaderCacheControl, "public, max-age=31536000, immutable")
			h.Set("Content-Security-Policy", strictCSP)
			return ctx.Blob(http.StatusOK, a.media, a.body)
		}
	}
	return echo.ErrNotFound
}

// uiRoutes are those of the pages that need nobody's name.
func (c *console) uiRoutes() []route {
	return []route{
		{http.MethodGet, "/static/:name", "", c.static},
		{http.MethodPost, "/ui/language", "", c.setLanguage},
	}
}

// languageCookie keeps the language that somebody has chosen.
const languageCookie = "orderd_lang"

// languageOf is the language of a page: what was chosen, else what the browser prefers.
func languageOf(r *http.Request) lang {
	if chosen, err := r.Cookie(languageCookie); err == nil {
		for _, l := range langs {
			if l.String() == chosen.Value {
				return l
			}
		}
	}
	if orderhttp.PrefersEnglish(r.Header) {
		return en
	}
	return zh
}

// maxChoice bounds the form of setLanguage, in bytes.
const maxChoice = 8 << 10

// setLanguage is POST /ui/language: it keeps the choice in the browser and goes back to the page. It
// needs nobody's name: the page that asks for it has the switch too, and nothing is stored here.
func (c *console) setLanguage(ctx echo.Context) error {
	r := ctx.Request()
	r.Body = http.MaxBytesReader(ctx.Response(), r.Body, maxChoice)
	to, back := zh, backPage(ctx.FormValue("back"))
	if ctx.FormValue("to") == en.String() {
		to = en
	}
	//nolint:gosec // Secure where there is TLS: loopback has none, and the cookie no secret
	ctx.SetCookie(&http.Cookie{Name: languageCookie, Value: to.String(), Path: "/", MaxAge: 365 * 24 * 3600,
		HttpOnly: true, Secure: c.secure(r), SameSite: http.SameSiteLaxMode})
	return ctx.Redirect(http.StatusSeeOther, back)
}

// pageNames are the pages; each has a template of its name, and its title is the word title.NAME.
var pageNames = readPageNames()

func readPageNames() []string {
	files, err := fs.Glob(uiFiles, "ui/templates/*.html")
	if err != nil {
		panic(err) // it was built in
	}
	var names []string
	for _, f := range files {
		if name := strings.TrimSuffix(path.Base(f), ".html"); name != "layout" && name != "parts" {
			names = append(names, name)
		}
	}
	return names
}

// pages are the parsed templates of each page in each language. html/template escapes by where a value
// stands: what customers wrote cannot become markup. Every value passes shown, because what is no
// markup can still turn a line around.
var pages = parsePages()

func parsePages() map[lang]map[string]*template.Template {
	all := map[lang]map[string]*template.Template{}
	for _, l := range langs {
		all[l] = map[string]*template.Template{}
		for _, name := range pageNames {
			t := template.New("").Funcs(funcsOf(l))
			all[l][name] = allShown(template.Must(t.ParseFS(uiFiles, "ui/templates/layout.html",
				"ui/templates/parts.html", "ui/templates/"+name+".html")))
		}
	}
	return all
}

// lines is text of several lines, for a page to show as they are.
type lines string

// shown is a value as a page shows it; a pointer is what it points to, as html/template has it.
func shown(v any) string {
	if at := reflect.ValueOf(v); at.Kind() == reflect.Pointer && !at.IsNil() {
		if _, says := v.(fmt.Stringer); !says {
			v = at.Elem().Interface()
		}
	}
	if text, ok := v.(lines); ok {
		return bounds.ShownLines(string(text), "")
	}
	return bounds.Shown(fmt.Sprint(v))
}

// allShown puts every value that the templates write through shown, so that none of them can
// forget to.
func allShown(all *template.Template) *template.Template {
	for _, t := range all.Templates() {
		if t.Tree != nil {
			showNodes(t.Tree.Root)
		}
	}
	return all
}

// showNodes adds shown to the end of each action below a node that writes something.
func showNodes(n parse.Node) {
	var branch *parse.BranchNode
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, inner := range n.Nodes {
				showNodes(inner)
			}
		}
	case *parse.ActionNode:
		if len(n.Pipe.Decl) == 0 {
			last := parse.NewIdentifier("shown").SetPos(n.Pos)
			n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos,
				Args: []parse.Node{last}})
		}
	case *parse.IfNode:
		branch = &n.BranchNode
	case *parse.RangeNode:
		branch = &n.BranchNode
	case *parse.WithNode:
		branch = &n.BranchNode
	}
	if branch != nil {
		showNodes(branch.List)
		showNodes(branch.ElseList)
	}
}

// roleKey is where guard keeps the role of whoever asks in the echo.Context.
const roleKey = "role"

// frame is what the layout shows around a page.
type frame struct {
	Lang, Other lang
	Title       string // a word
	Nav         []navItem
	Back        string // this page, for whoever changes the language
	Query       string // what was searched
	Simulated   bool
	Operator    string
	Done        string           // the word of what this browser has just done, "" for nothing
	SignedIn    bool             // in this browser, which then has a page of the account
	Counts      map[string]int64 // what waits for people, by the words of Nav
	Lights      []pulseLight
	Live        string // where the page hears of changes, "" for nowhere
	Watch       string // of what it wants to hear: see watchOf
	Refresh     int    // seconds after which a browser without scripts loads it anew, 0 for never
	Now         time.Time
	Data        any
}

// navItem is an entry of the menu. Key is the letter that goes there, after g.
type navItem struct {
	Word, Path, Key string
	Current         bool
	need            Role
}

// nav is the menu of a role; some pages are for whoever is signed in by a browser alone.
func (c *console) nav(role Role, at string, signedIn bool) []navItem {
	all := []navItem{
		{"nav.overview", "/", "", false, Viewer},
		{"nav.orders", "/ui/orders", "o", false, Viewer},
		{"nav.refunds", "/ui/refunds", "r", false, Viewer},
		{"nav.books", "/ui/reconciliations", "b", false, Finance},
		{"nav.held", "/ui/held", "h", false, Viewer},
		{"nav.stock", uiStock, "s", false, Viewer},
		{"nav.sales", "/ui/gates", "", false, Viewer},
		{"nav.timeouts", "/ui/timeouts", "t", false, Viewer},
		{"nav.tasks", "/ui/tasks", "d", false, Viewer},
		{"nav.callbacks", "/ui/callbacks", "", false, Viewer},
	}
	if c.Trail != nil {
		all = append(all, navItem{"nav.trail", "/ui/trail", "", false, Admin})
	}
	if c.Shipments != nil {
		all = append(all, navItem{"nav.shipments", "/ui/shipments", "", false, Viewer})
	}
	if c.Webhooks != nil {
		all = append(all, navItem{"nav.webhooks", "/ui/webhooks", "", false, Admin})
	}
	if signedIn {
		all = append(all, navItem{"nav.people", "/ui/people", "", false, Admin})
	}
	all = append(all, navItem{"nav.health", "/ui/health", "", false, Viewer})
	var mine []navItem
	best := -1
	for _, item := range all {
		if role == "" || !role.May(item.need) {
			continue
		}
		if at == item.Path || item.Path != "/" && strings.HasPrefix(at, item.Path+"/") {
			best = len(mine)
		}
		mine = append(mine, item)
	}
	if best >= 0 {
		mine[best].Current = true
	}
	return mine
}

// quietPages ask for secrets or show them: the script sends nothing from there, and nothing changes under them.
var quietPages = []string{"login", "prove", "setup", "link", "secret", "me", "password", "totp", "act"}

// addPulse adds to a page what it shows of the whole.
func (c *console) addPulse(ctx echo.Context, f *frame, name string) {
	if f.Nav == nil {
		return
	}
	p := c.pulse(ctx.Request().Context())
	role, _ := ctx.Get(roleKey).(Role)
	f.Counts, f.Lights = c.countsOf(p, role), p.Lights
	if c.Feed != nil && !slices.Contains(quietPages, name) {
		f.Live, f.Watch = uiEvents, c.watchOf(ctx, name)
	}
}

// show answers with a page.
func (c *console) show(ctx echo.Context, name string, data any) error {
	body, err := c.render(ctx, name, data)
	if err != nil {
		return err
	}
	return ctx.HTMLBlob(http.StatusOK, body)
}

// render makes a page and sets the headers that every page has. It is made whole before anything is
// sent, so that an error in a template is a 500 and no half page.
func (c *console) render(ctx echo.Context, name string, data any) ([]byte, error) {
	r := ctx.Request()
	role, _ := ctx.Get(roleKey).(Role)
	signedIn := sessionOf(ctx).Person != ""
	f := frame{Lang: languageOf(r), Title: "title." + name, Nav: c.nav(role, r.URL.Path, signedIn), Back: backOf(r),
		Query: r.URL.Query().Get("q"), Simulated: c.Simulated, Operator: operator(ctx), SignedIn: signedIn,
		Done: takeDone(ctx), Now: c.Now(), Data: data}
	if r.URL.Path == "/" && r.URL.RawQuery == "" || r.URL.Path != "/ui/search" {
		f.Query = ""
	}
	f.Other = f.Lang.other()
	f.Refresh, _ = ctx.Get(refreshKey).(int)
	c.addPulse(ctx, &f, name)
	var b bytes.Buffer
	if err := pages[f.Lang][name].ExecuteTemplate(&b, "layout", f); err != nil {
		return nil, err
	}
	h := ctx.Response().Header()
	h.Set("Content-Security-Policy", strictCSP)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Language", f.Lang.String())
	return b.Bytes(), nil
}

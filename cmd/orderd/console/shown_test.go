package console

import (
	"go/ast"
	"go/parser"
	"go/token"
	"html/template"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever a page writes passes shown, wherever in the template it stands: what turns a line around is no markup, and
// html/template lets it through.
func TestPagesForgeNothing(t *testing.T) {
	const evil = "a\u202e\u200b<b>\x1b\n"
	const tame = `a\u202e\u200b&lt;b&gt;\x1b\n`
	var b strings.Builder
	page := allShown(template.Must(template.New("x").Funcs(template.FuncMap{"shown": shown}).Parse(
		`{{define "in"}}{{.}}{{end}}{{.A}}|{{range .L}}{{.}}{{else}}none{{end}}|{{range .N}}{{.}}` +
			`{{else}}{{$.A}}{{end}}|{{with .A}}{{if .}}{{.}}{{end}}{{end}}|{{template "in" .A}}|` +
			`{{$v := .A}}{{$v}}|{{or .E .A}}|` +
			`<a href="/x/{{.A}}">{{.Seven}}</a><pre>{{.Text}}</pre>`)))
	if err := page.Execute(&b, map[string]any{"A": evil, "L": []string{evil}, "N": nil, "E": "", "Seven": 7,
		"Text": lines("one\u202e\ntwo")}); err != nil {
		t.Fatal(err)
	}
	text, link, _ := strings.Cut(b.String(), `<a href`)
	if want := strings.Repeat(tame+"|", 7); text != want {
		t.Errorf("%q, want %q", text, want)
	}
	if strings.ContainsAny(link, "\u202e\u200b") || !strings.HasSuffix(link, `>7</a><pre>one\u202e`+"\ntwo</pre>") {
		t.Errorf("%q", link)
	}
	d := newDesk(t)
	d.SKU(t, "a", 5)
	o := d.PlaceOne(t, "r1", "a", 1)
	if _, err := d.DB.Pool().ExecContext(t.Context(), "UPDATE order_events SET actor_id = 'ann\u202e'"); err != nil {
		t.Fatal(err)
	}
	w := d.ask(Viewer, "GET", "/ui/orders/"+o.OrderNo, "")
	want(t, w, 200, o.OrderNo)
	if strings.Contains(w.Body.String(), "\u202e") {
		t.Errorf("%s", w.Body)
	}
}

// checksReason are the functions that refuse a reason that does not fit.
var checksReason = []string{"decodeReasoned", "needReason", "checkReason", "change"}

// noReason are the functions that read a reason and pass it to nobody.
var noReason = map[string]string{"readRun": "a day is reconciled whoever asks; the reason is accepted and not kept"}

// A handler that reads a reason checks it, or one that nobody can see would count.
func TestEveryReasonIsChecked(t *testing.T) {
	files := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || noReason[f.Name.Name] != "" {
				continue
			}
			reads, checks := false, false
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Field:
					reads = reads || n.Tag != nil && strings.HasPrefix(n.Tag.Value, "`json:\"reason\"")
				case *ast.Ident:
					for _, name := range checksReason {
						checks = checks || n.Name == name
					}
				}
				return true
			})
			if reads && !checks {
				t.Errorf("%s: %s reads a reason and does not check it", files.Position(f.Pos()), f.Name.Name)
			}
			if reads {
				read++
			}
		}
	}
	if read < 12 {
		t.Errorf("only %d handlers read a reason", read)
	}
}

// A pointer on a page is an address of memory, unless what it points to is shown.
func TestPointersAreShownAsWhatTheyPointTo(t *testing.T) {
	n, text := int64(12), "a"
	at := time.UnixMilli(0).UTC()
	for v, want := range map[any]string{&n: "12", &text: "a", &at: at.String(), n: "12"} {
		if got := shown(v); got != want {
			t.Errorf("%T: %q, want %q", v, got, want)
		}
	}
}

package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"orderd/migrations/bounds"
)

var update = flag.Bool("update", false, "rewrite docs/limits.md")

// limits are the numbers that documents state, by chapter: each is read from the sources, with the comment that gives
// its reason. A name is a constant (order.pageLimit), a variable with a list (scheduler.slotQueues), or, written
// FUNCTION/FIELD, a default that a function gives to a field (order.setWaits/CloseRetry).
var limits = []struct {
	title string
	names []string
}{
	{"Transactions and pages", []string{
		"sqldb.defaultMaxBatch", "sqldb.defaultMaxQueue", "order.defaultLanes", "order.pageLimit",
		"order.politeLimit", "order.politePause", "order.mostRest", "order.customersFor", "order.minPage",
		"order.askedAtOnce", "stock.tight",
		"sqldb.maxWait", "sqldb.lastChance", "sqldb.txBudget", "sqldb.ioTimeout",
		"sqldb.deadAfter",
	}},
	{"Orders and payments", []string{
		"order.defaultPayWithin", "order.defaultPayLeast", "order.defaultPayMost",
		"order.defaultGrace", "order.maxAttempts",
		"order.defaultPrepayInFlight", "order.maxOpenCalls", "order.maxPrepayRounds",
		"bounds.PayWithin", "bounds.CodeValid", "bounds.H5Valid", "order.payMargin",
		"order.setWaits/CloseRetry", "order.defaultAskEvery", "order.adoptEvery", "order.adoptPage",
		"order.StuckAfter", "order.MaxListRange", "order.defaultCloseUnprepaid", "order.openHorizon",
		"order.unknownAfter", "order.selfClosed", "order.vouchAfter",
	}},
	{"Refunds", []string{
		"operators.FreshFor",
		"order.MaxRefunds", "order.refundWithin", "order.processingFor", "order.defaultSpacing",
		"order.setWaits/RefundRetry", "order.setWaits/RefundPoll",
	}},
	{"Timeouts and tasks", []string{
		"scheduler.slotQueues", "scheduler.QueueRefund", "scheduler.QueueReconcile", "scheduler.QueueExpire",
		"scheduler.partSize", "scheduler.firstPage", "scheduler.pagesAtOnce", "scheduler.linePagesAtOnce",
		"scheduler.ratePages", "scheduler.leastBurst", "scheduler.rememberFor", "scheduler.taskTimeout",
		"scheduler.enqueueTimeout", "scheduler.partTimeout", "scheduler.maxRetry", "scheduler.maxBackoff",
		"scheduler.lookAhead", "scheduler.lookEvery",
		"scheduler.lookAheadAfterLoss", "scheduler.sweepPage", "scheduler.sweepMaxRows", "scheduler.maxFailures",
		"scheduler.longestPause", "scheduler.lineShare",
		"scheduler.askEvery", "scheduler.askPage", "scheduler.asksTogether",
		"scheduler.askPagesAtOnce", "scheduler.askReadFor", "scheduler.askPause",
		"scheduler.askUnknowns",
	}},
	{"Webhooks", []string{
		"webhooks.MaxEndpoints", "webhooks.atOnce", "webhooks.turnFor", "webhooks.lease", "webhooks.lookEvery",
		"webhooks.ringEvery", "scheduler.QueueRing", "scheduler.ringPoll", "scheduler.ringUnique",
	}},
	{"Flash sales", []string{
		"stock.MarkFor", "stock.ReopenAfter", "stock.MaxAutoGates", "stock.KeepPerHolder", "stock.leastGrant",
		"gate.lookEvery", "gate.staleAfter", "gate.seenEvery", "gate.deadAfter", "gate.keysHorizon",
		"gate.hotSeconds", "gate.coolRate", "gate.coolAfter", "gate.idleAfter", "gate.leaving",
	}},
	{"HTTP", []string{
		"orderhttp.maxBody", "orderhttp.maxDepth", "orderhttp.maxHeaderBytes", "orderhttp.MaxWait",
		"orderhttp.notifyBudget", "orderhttp.storeBudget", "orderhttp.wechatBudget", "orderhttp.defaultParallel",
		"console.maxUpload", "console.uploadsAtOnce", "console.leastPace", "console.workbooksAtOnce",
		"orderd.drainTimeout",
	}},
	{"Logins of the console", []string{
		"operators.MostWrong", "operators.WrongWithin", "operators.SessionIdle", "operators.SessionMost",
		"operators.ProvedFor", "operators.LinkFor", "operators.SessionsKept",
	}},
	{"WeChat Pay", []string{
		"wechat.defaultTimeout", "wechat.maxClockSkew", "wechat.MaxNotification", "wechat.maxAnswer",
	}},
	{"Storefront", []string{
		"orderd.shopPayFor", "storefront.maxAtOnce", "storefront.actsAtOnce", "storefront.waitFor",
		"storefront.lookEvery", "storefront.maxStories", "storefront.maxSteps", "storefront.MaxGoods",
	}},
	{"Reconciliation", []string{
		"reconcile.billHour", "reconcile.catchUpDays", "reconcile.chunkSize", "reconcile.healPage",
		"reconcile.leaseFor", "reconcile.closeTries", "reconcile.importRows", "reconcile.MaxImport", "sheet.mostTexts",
	}},
}

// folders of the packages above, by name.
var folders = map[string]string{
	"sqldb": "migrations/sqldb", "operators": "payment/operators",
	"order": "order", "scheduler": "scheduler", "orderhttp": "order/orderhttp", "webhooks": "order/webhooks",
	"console": "cmd/orderd/console", "orderd": "cmd/orderd", "storefront": "cmd/orderd/storefront",
	"wechat":    "payment/wechat",
	"reconcile": "payment/reconcile", "sheet": "payment/sheet", "stock": "stock", "gate": "stock/gate",
	"bounds": "migrations/bounds", "wechatsim": "payment/wechatsim",
}

// A number in a document that is no longer the program's sends whoever tunes it the wrong way: decisions once said 64
// and 1,000 where the code had 32 and 2,000.
func TestLimitsAreTheProgrammes(t *testing.T) {
	c := newChecker()
	var b strings.Builder
	b.WriteString("# Limits: the numbers that constants decide\n\nGenerated from the sources and their comments by " +
		"`go test ./docs -run Limits -update`; a test compares them. Other documents refer to this page, or repeat " +
		"a number with a mark that the same test checks ([contributing](contributing.md#numbers-in-documents)).\n")
	for _, chapter := range limits {
		fmt.Fprintf(&b, "\n## %s\n\n| constant | value | what it is, and why |\n|---|---|---|\n", chapter.title)
		for _, name := range chapter.names {
			value, comment, err := c.find(name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if comment == "" {
				t.Errorf("%s has no comment: what is it, and why is it this number?", name)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, value, comment)
		}
	}
	b.WriteString(fieldsTable())
	b.WriteString("\n## Settings\n\nA flag has a variable of the same name: `--pay-within` is " +
		"`ORDERD_PAY_WITHIN`.\n\n| setting | default | what it is |\n|---|---|---|\n")
	for _, s := range settings(t, c) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.env, s.value, s.help)
	}
	const file = "docs/limits.md"
	if *update && !t.Failed() {
		if err := os.WriteFile(filepath.Join(root, file), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(filepath.Join(root, file)); err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the sources say (%v): go test ./docs -run Limits -update", file, err)
	}
}

// fieldsTable shows the table of package bounds.
func fieldsTable() string {
	var b strings.Builder
	b.WriteString("\n## Fields\n\nWhat a field may hold on its way into the database or to WeChat Pay, from " +
		"`migrations/bounds`: decoders, services, the configuration, the gateway and the simulator ask this one " +
		"table. A value that does not fit is refused with the name of its field (422 over HTTP), unless the table " +
		"says that it is cut, replaced, not believed (what WeChat Pay says) or never made (what this service makes " +
		"itself). A test holds the table against the columns of the schema.\n\n" +
		"| field | how long | of what | else | at WeChat Pay | columns | why |\n|---|---|---|---|---|---|---|\n")
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for _, f := range bounds.Fields {
		over := string(f.Over)
		if f.Over == bounds.Refused {
			over = "refused"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", f.Name, f.Rule(), cell(f.Of.String()), over, f.WeChat,
			strings.ReplaceAll(f.Columns, " ", ", "), cell(f.Why))
	}
	b.WriteString("\n| number | bounds | columns | why |\n|---|---|---|---|\n")
	for _, n := range bounds.Numbers {
		fmt.Fprintf(&b, "| %s | %d to %d %s | %s | %s |\n", n.Name, n.Least, n.Most, n.Unit,
			strings.ReplaceAll(n.Columns, " ", ", "), n.Why)
	}
	return b.String()
}

// A client that is written by openapi.yaml must not be refused, nor learn of a bound by a 422 in production.
func TestOpenAPIHasTheBounds(t *testing.T) {
	says(t, "docs/openapi.yaml",
		fmt.Sprintf("attach: type: string maxLength: %d description: >- At most %[1]d bytes in UTF-8",
			bounds.Attach.Most),
		fmt.Sprintf("which is %d Chinese characters", bounds.Attach.Most/len("字")),
		fmt.Sprintf("remark: {type: string, maxLength: %d}", bounds.Remark.Most),
		fmt.Sprintf("openid: {type: string, minLength: 1, maxLength: %d, pattern: '^[0-9A-Za-z_.-]+$'}",
			bounds.OpenID.Most),
		fmt.Sprintf("payer_client_ip: {type: string, maxLength: %d,", bounds.PayerIP.Most),
		fmt.Sprintf("type: {type: string, enum: [%s]}",
			strings.ReplaceAll(bounds.H5Kind.String(), " or ", ", ")),
		fmt.Sprintf("reason: {type: string, maxLength: %d}", bounds.Note.Most),
		fmt.Sprintf("reason: {type: string, minLength: 1, maxLength: %d}", bounds.Reason.Most),
		fmt.Sprintf("SkuID: {type: string, pattern: '^[0-9A-Za-z_.:-]{1,%d}$'}", bounds.SkuID.Most),
		fmt.Sprintf(`schema: {type: string, pattern: '^"?[0-9A-Za-z_-]{1,%d}"?$'}`, bounds.IdempotencyKey.Most),
		fmt.Sprintf("maxItems: %d ", bounds.Lines.Most),
		fmt.Sprintf("quantity: {type: integer, format: int64, minimum: 1, maximum: %d}", bounds.Quantity.Most),
		fmt.Sprintf("maximum: %d, description: Fen.}", bounds.TotalFen.Most))
	says(t, "docs/admin-openapi.yaml",
		fmt.Sprintf("Reason: {type: string, minLength: 1, maxLength: %d,", bounds.Reason.Most),
		fmt.Sprintf("reason: {type: string, maxLength: %d,", bounds.Note.Most),
		fmt.Sprintf("SkuID: {type: string, pattern: '^[0-9A-Za-z_.:-]{1,%d}$'}", bounds.SkuID.Most),
		fmt.Sprintf(`schema: {type: string, pattern: '^"?[0-9A-Za-z_-]{1,%d}"?$'}`, bounds.IdempotencyKey.Most),
		fmt.Sprintf("maxItems: %d ", bounds.Lines.Most),
		fmt.Sprintf("title: {type: string, minLength: 1, maxLength: %d}", bounds.Title.Most),
		fmt.Sprintf("total: {type: integer, format: int64, minimum: 1, maximum: %d, description: Fen.}",
			bounds.PriceFen.Most),
		fmt.Sprintf("quantity: {type: integer, format: int64, minimum: -1, maximum: %d,", bounds.Stock.Most),
		fmt.Sprintf("quantity: {type: integer, format: int64, minimum: 1, maximum: %d}", bounds.Stock.Most),
		fmt.Sprintf("delta: {type: integer, format: int64, minimum: -%d, maximum: %[1]d,", bounds.Stock.Most),
		fmt.Sprintf("reference_no: {type: string, maxLength: %d,", bounds.ReferenceNo.Most),
		fmt.Sprintf("sale: {type: string, maxLength: %d}", bounds.Sale.Most),
		fmt.Sprintf("buckets: {type: integer, format: int64, minimum: 0, maximum: %d}", bounds.GateBuckets.Most),
		fmt.Sprintf("count: {type: integer, format: int64, minimum: 1, maximum: %d}", bounds.GateBuckets.Most),
		fmt.Sprintf("rate: {type: integer, format: int64, minimum: 0, maximum: %d,", bounds.GateRate.Most),
		fmt.Sprintf("per_customer: {type: integer, format: int64, minimum: 0, maximum: %d,", bounds.PerCustomer.Most),
		fmt.Sprintf("carrier: {type: string, maxLength: %d,", bounds.Carrier.Most),
		fmt.Sprintf("number: {type: string, maxLength: %d,", bounds.ParcelNo.Most),
		fmt.Sprintf("goods: {type: string, minLength: 1, maxLength: %d,", bounds.Goods.Most),
		fmt.Sprintf("contact: {type: string, maxLength: %d,", bounds.Contact.Most),
		fmt.Sprintf("PersonName: type: string minLength: 1 maxLength: %d ", bounds.Operator.Most))
}

// says wants texts in a document, whose lines do not matter.
func says(t *testing.T, name string, texts ...string) {
	t.Helper()
	doc := strings.Join(strings.Fields(read(t, name)), " ")
	for _, want := range texts {
		if !strings.Contains(doc, want) {
			t.Errorf("%s does not say %q", name, want)
		}
	}
}

// marked is a number in a document with the name of what decides it: 2,000<!-- = order.pageLimit -->. Markdown shows
// nothing of the mark.
var marked = regexp.MustCompile(`<!-- = (\S+) -->`)

// A marked number says what the program does.
func TestNumbersInDocumentsAreTrue(t *testing.T) {
	c := newChecker()
	of := map[string]string{}
	for _, s := range settings(t, c) {
		of[s.env] = s.value
	}
	_, version, _ := strings.Cut(read(t, "go.mod"), "\ngo ")
	version, _, _ = strings.Cut(version, "\n")
	of["go.mod"] = strings.TrimSuffix(version, ".0")
	seen := 0
	for _, d := range documents(t) {
		for _, at := range marked.FindAllStringSubmatchIndex(d.text, -1) {
			seen++
			name := d.text[at[2]:at[3]]
			want, ok := of[name]
			if !ok {
				var err error
				if want, _, err = c.find(name); err != nil {
					t.Errorf("%s: %s: %v", d.path, name, err)
					continue
				}
			}
			before := d.text[:at[0]]
			said := before[max(0, len(before)-len(want)-1):]
			if !strings.HasSuffix(said, want) || regexp.MustCompile(`^[0-9.,]`).MatchString(said) {
				t.Errorf("%s says …%s of %s, which is %s", d.path, before[max(0, len(before)-20):], name, want)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d numbers are marked", seen)
	}
}

// checker evaluates the constants of packages of this repository from their sources.
type checker struct {
	files    *token.FileSet
	packages map[string]*source
}

// source is a package: its files, its constants, and the values of the constant expressions in it.
type source struct {
	files []*ast.File
	types *types.Package
	info  *types.Info
}

func newChecker() *checker {
	return &checker{files: token.NewFileSet(), packages: map[string]*source{}}
}

// timePackage is what constants need of package time. The type checker is given no other package than this and our
// own: what it then cannot resolve is not a constant that is asked for.
const timePackage = `package time

type Duration int64

const (
	Nanosecond  Duration = 1
	Microsecond          = 1000 * Nanosecond
	Millisecond          = 1000 * Microsecond
	Second               = 1000 * Millisecond
	Minute               = 60 * Second
	Hour                 = 60 * Minute
)
`

// Import implements types.Importer.
func (c *checker) Import(name string) (*types.Package, error) {
	if name == "time" {
		f, err := parser.ParseFile(c.files, "time.go", timePackage, 0)
		if err != nil {
			return nil, err
		}
		return c.check("time", []*ast.File{f}).types, nil
	}
	if folder, ok := strings.CutPrefix(name, "orderd/"); ok {
		s, err := c.load(folder)
		if err != nil {
			return nil, err
		}
		return s.types, nil
	}
	return nil, fmt.Errorf("%s is not read", name)
}

func (c *checker) check(name string, files []*ast.File) *source {
	if s := c.packages[name]; s != nil {
		return s
	}
	s := &source{files: files, info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}}
	config := types.Config{Importer: c, Error: func(error) {}} // what cannot be resolved is passed over
	s.types, _ = config.Check(name, c.files, files, s.info)
	c.packages[name] = s
	return s
}

// load reads the production files of a folder of the repository.
func (c *checker) load(folder string) (*source, error) {
	if s := c.packages[folder]; s != nil {
		return s, nil
	}
	paths, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(c.files, p, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return c.check(folder, files), nil
}

// find gives the value of a limit as people write it, and its comment on one line.
func (c *checker) find(name string) (value, comment string, err error) {
	pkg, rest, _ := strings.Cut(name, ".")
	folder, ok := folders[pkg]
	if !ok {
		return "", "", fmt.Errorf("package %q is not known here", pkg)
	}
	s, err := c.load(folder)
	if err != nil {
		return "", "", err
	}
	if function, field, ok := strings.Cut(rest, "/"); ok {
		return s.assigned(function, field)
	}
	for _, f := range s.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok {
					continue
				}
				for i, id := range v.Names {
					if id.Name != rest {
						continue
					}
					value, err = s.valueOf(id.Name, v, i)
					comment = commentOf(v.Doc, v.Comment)
					field, isDefault := strings.CutPrefix(rest, "default")
					if isDefault && (comment == "" || strings.Contains(comment, "the default of")) {
						comment = s.commentOfField(field) // the reason stands where whoever sets it looks for it
					}
					if comment == "" {
						comment = commentOf(g.Doc)
					}
					return value, comment, err
				}
			}
		}
	}
	return "", "", fmt.Errorf("package %s does not declare it", folder)
}

// valueOf gives the value of the i-th name of a declaration.
func (s *source) valueOf(name string, v *ast.ValueSpec, i int) (string, error) {
	if k, ok := s.types.Scope().Lookup(name).(*types.Const); ok {
		var written ast.Expr
		if i < len(v.Values) {
			written = v.Values[i]
		}
		return show(k.Val(), k.Type(), written)
	}
	if i < len(v.Values) {
		if list, ok := v.Values[i].(*ast.CompositeLit); ok {
			return s.list(list.Elts)
		}
	}
	return "", fmt.Errorf("%s is neither a constant nor a list", name)
}

// list gives the values of expressions, with commas between them.
func (s *source) list(expressions []ast.Expr) (string, error) {
	all := make([]string, len(expressions))
	for i, e := range expressions {
		tv := s.info.Types[e]
		if tv.Value == nil {
			return "", fmt.Errorf("element %d is not a constant", i)
		}
		var err error
		if all[i], err = show(tv.Value, tv.Type, e); err != nil {
			return "", err
		}
	}
	return strings.Join(all, ", "), nil
}

// assigned gives the default of a field: the constant that the function assigns to it, or the constants that stand
// behind its address in a call. Its comment is that of the field.
func (s *source) assigned(function, field string) (value, comment string, err error) {
	value, err = "", fmt.Errorf("no default of %s in %s", field, function)
	isField := func(e ast.Expr) bool {
		sel, ok := e.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == field
	}
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				return n.Name.Name == function
			case *ast.AssignStmt:
				if len(n.Lhs) == 1 && isField(n.Lhs[0]) {
					value, err = s.list(n.Rhs)
				}
			case *ast.CallExpr:
				if len(n.Args) < 2 {
					break
				}
				if u, ok := n.Args[0].(*ast.UnaryExpr); ok && u.Op == token.AND && isField(u.X) {
					value, err = s.list(n.Args[1:])
				}
			}
			return true
		})
	}
	return value, s.commentOfField(field), err
}

// commentOfField gives the comment of the field of this name, "" without one.
func (s *source) commentOfField(field string) (comment string) {
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if n, ok := n.(*ast.Field); ok && comment == "" {
				for _, id := range n.Names {
					if id.Name == field {
						comment = commentOf(n.Doc, n.Comment)
					}
				}
			}
			return true
		})
	}
	return comment
}

// commentOf gives the first comment that is there, on one line.
func commentOf(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if g != nil {
			return strings.ReplaceAll(strings.Join(strings.Fields(g.Text()), " "), "|", `\|`)
		}
	}
	return ""
}

// show gives a constant as people write it: 2,000, 64 KiB, 1.5 s, 30 min. written tells a size from a number: sizes are
// shifted by 10, 20 or 30 bits.
func show(v constant.Value, typ types.Type, written ast.Expr) (string, error) {
	if v.Kind() == constant.String {
		return constant.StringVal(v), nil
	}
	n, exact := constant.Int64Val(constant.ToInt(v))
	if !exact {
		return "", fmt.Errorf("%s is no whole number", v)
	}
	if named, ok := typ.(*types.Named); ok && named.Obj().Name() == "Duration" {
		return showDuration(time.Duration(n)), nil
	}
	if shift, ok := written.(*ast.BinaryExpr); ok && shift.Op == token.SHL {
		if bits, ok := shift.Y.(*ast.BasicLit); ok {
			if unit := map[string]string{"10": "KiB", "20": "MiB", "30": "GiB"}[bits.Value]; unit != "" {
				k, err := strconv.Atoi(bits.Value)
				return fmt.Sprintf("%d %s", n>>k, unit), err
			}
		}
	}
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits, nil
}

func showDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d >= time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
	}
	return fmt.Sprintf("%d ms", d/time.Millisecond)
}

// literal gives a text of the source, also one that is put together from several with +; "" for anything else.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return text
		}
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}

// setting is one setting of orderd.
type setting struct{ env, value, help string }

// settings reads the configuration of orderd from the tags of its struct, and the sentences that they name.
func settings(t *testing.T, c *checker) []setting {
	t.Helper()
	s, err := c.load("cmd/orderd")
	if err != nil {
		t.Fatal(err)
	}
	helps := map[string]string{}
	var tags []reflect.StructTag
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr: // of kong.Vars, which is not read: its texts are put together here
				if text := literal(n.Value); text != "" {
					helps["${"+literal(n.Key)+"}"] = text
				}
			case *ast.TypeSpec:
				fields, ok := n.Type.(*ast.StructType)
				if !ok || n.Name.Name != "settings" {
					break
				}
				for _, field := range fields.Fields.List {
					if field.Tag == nil {
						continue
					}
					tag, err := strconv.Unquote(field.Tag.Value)
					if err != nil {
						t.Fatal(err)
					}
					tags = append(tags, reflect.StructTag(tag))
				}
			}
			return true
		})
	}
	var all []setting
	for _, tag := range tags {
		name := tag.Get("name")
		if _, hidden := tag.Lookup("hidden"); name == "" || hidden {
			continue
		}
		help := tag.Get("help")
		if text, ok := helps[help]; ok {
			help = text
		}
		all = append(all, setting{"ORDERD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")), tag.Get("default"),
			strings.ReplaceAll(help, "|", `\|`)})
	}
	if len(all) < 20 {
		t.Fatalf("only %d settings were found", len(all))
	}
	return all
}

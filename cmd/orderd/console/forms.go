package console

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/trail"
)

// act is what a person does by a form: a page that says what will happen and asks for what is needed, which posts
// to itself. What is posted becomes a request to the route of the API that does the same, so that there is one
// rule for both: who may, what is checked, what the audit trail has.
//
// Its words are act.NAME (title and button), act.NAME.what (what will happen) and act.NAME.done (when it did).
type act struct {
	name string // of its words
	path string // of its page; its parameters are those of route
	// route is METHOD PATH of the API.
	route  string
	fields []field
	// show reads what the act is about.
	show func(ctx echo.Context) (subject, error)
	// stepUp says whether the password has to be given again; nil: never.
	stepUp func(ctx echo.Context) (bool, error)
	// fixed is what the body has beside the fields: what this act is among those of one route.
	fixed map[string]any
	// key is the letter that opens the act of the row that j and k have chosen, or of the page; "" for none.
	key string
	// reveal is a field of the answer that is shown once in place of going back, such as a secret; "" for none.
	// keep says that whoever sees it has to keep it: it is never shown again.
	reveal string
	keep   bool
	// to is the page that one is led to when it is done; nil: back to what it is about.
	to func(form map[string]string) string
	// begun reports that what is sent has begun by the same key: one is then led to its page, whatever show would say
	// by now; nil: the API knows.
	begun func(ctx echo.Context, form map[string]string) (bool, error)
	// preview says what would happen before it does: the form is then sent twice, the second time with what it said.
	preview func(ctx echo.Context, s *subject, form map[string]string) ([]fact, error)
	// waits says that the API may answer 202: somebody else, or WeChat Pay, has a word before it is done. There is
	// then a word act.NAME.accepted.
	waits bool
	// said gives, of the API's answer, which word says what came of it: "" for act.NAME.done, else act.NAME.THIS.done;
	// nil: always done. outcomes are all that it gives.
	said     func(body []byte) string
	outcomes []string
	// limit is the word of what is summed up that takes two people above a limit, which the form then says; "" where
	// there is no such limit.
	limit string
	// danger marks what cannot be taken back.
	danger bool
	// makes is the field that names what is made, in place of the parameter of the route; it must not be there yet.
	makes string
	// body makes the body of the request where fields do not say it; nil: they do.
	body func(s *subject, form map[string]string) (map[string]any, error)
}

// kind is what a field of a form takes, and what becomes of it in JSON.
type kind string

// The kinds of fields.
const (
	asText   kind = "text"   // a text
	asReason kind = "reason" // a text of several words; every act has one
	asWhole  kind = "whole"  // a whole number
	asYuan   kind = "yuan"   // yuan, as a number of fen
	asChoice kind = "choice" // one of subject.choices
	asCheck  kind = "check"  // true or false
	asTime   kind = "time"   // a time of Beijing
	asHidden kind = "hidden" // a text that the page knows
	asYesNo  kind = "yesno"  // true, false, or left out
	asSecret kind = "secret" // a text that is never shown again, in no page and no trail
	asLong   kind = "long"   // a text of several lines
	// asCount is typed by the person and must be subject.values[name]: whoever acts on many says on how many.
	asCount kind = "count"
)

// field is a field of a form. Its label is the word field.NAME, with dots where the body nests: price.total.
type field struct {
	name string
	kind kind
	need bool
	most int // characters, 0 for bounds.Reason's
	// label stands in place of the word, for what only the subject knows, such as a line of an order.
	label string
}

// Fields that are headers of the API's request and no part of its body.
const (
	fieldVersion = "version" // If-Match: the version of what the person has read
	fieldKey     = "key"     // Idempotency-Key: a form that is sent twice acts once
	fieldSeen    = "seen"    // what a preview said, so that what is done is what was seen
)

// The fields that many acts have.
var (
	withReason  = field{name: "reason", kind: asReason, need: true}
	withVersion = field{name: fieldVersion, kind: asHidden, need: true}
	withKey     = field{name: fieldKey, kind: asHidden, need: true}
)

// subject is what an act is about: facts that a person decides by, what the fields have before the person
// changes them, and the page to which one goes back.
type subject struct {
	facts   []fact
	values  map[string]string
	choices map[string][]choice
	fields  []field // before those of the act
	back    string
	// off is a word that says why the act cannot be done now; "" when it can. why is what the rule itself says.
	off, why string
}

// fact is a line of what an act is about; Word is its label. ID is true for a number to copy.
type fact struct {
	Word, Text string
	ID         bool
}

// choice is a value of asChoice and the word that stands for it.
type choice struct{ Value, Word string }

// input is a field as a page shows it.
type input struct {
	Name, Kind, Value, Wrong string
	Label                    string // "" for the word of its name
	Need                     bool
	Most                     int
	Choices                  []choice
	Typed                    lines // what was typed, where something else is there now; else ""
}

// Text is what the field has, line by line where it may have several. A browser ends lines by two characters, and
// what was pasted from a sheet has tabs between its cells: neither is to be seen.
func (i input) Text() lines {
	return lines(withCommas(i.Value))
}

// actView is the page of an act.
type actView struct {
	Name, Action, Back string
	Facts              []fact
	Inputs             []input
	Danger             bool
	Off, Why           string
	Changed            bool   // since the person has read what it is about
	Unclear            string // a word, where nobody knows whether it was done: what to do now; else ""
	Used               bool   // what was sent with the same key before, and was another thing, has been done
	*orderhttp.Problem        // what is wrong with what was sent, nil for nothing
	Todo               string
	Reveal             string
	Keep               bool
	Preview            []fact
	Limit              string // above which it takes two people, "" for none
}

// doneCookie tells the next page what was done; it lives for a page.
const doneCookie = "orderd_done"

// formRoutes are the pages of acts and what they post.
func (c *console) formRoutes(api []route) []route {
	known := map[string]route{}
	for _, r := range api {
		known[r.method+" "+r.path] = r
	}
	var all []route
	c.forms, c.formRoles = c.formActs(), map[string]Role{}
	for _, a := range c.forms {
		r, there := known[a.route]
		if !there {
			continue // of a part that this console does not have
		}
		c.formRoles[a.route] = r.role
		all = append(all, route{http.MethodGet, a.path, r.role, c.actAsked(&a, func(ctx echo.Context) error {
			return c.actPage(ctx, &a)
		})}, route{http.MethodPost, a.path, r.role, c.actStep(&a, func(ctx echo.Context) error {
			return c.actPosted(ctx, &a, &r)
		})})
	}
	return all
}

// actStep has the password given again where the act wants that.
func (c *console) actStep(a *act, h echo.HandlerFunc) echo.HandlerFunc {
	if a.stepUp == nil {
		return h
	}
	return func(ctx echo.Context) error {
		must, err := a.stepUp(ctx)
		if err != nil {
			return err
		}
		if !must {
			return h(ctx)
		}
		if form, err := readForm(ctx); err == nil && !sessionOf(ctx).Proved(c.Now()) {
			for _, f := range a.fields { // the page that asks for the password repeats what was sent
				if f.kind == asSecret {
					form.Del(f.name)
				}
			}
		}
		return c.stepUp(h)(ctx)
	}
}

// secret reports that an act has a field that is not shown again.
func (a *act) secret() bool {
	return slices.ContainsFunc(a.fields, func(f field) bool { return f.kind == asSecret })
}

// actAsked has the password given before the page of an act is shown whose fields could not be sent twice.
func (c *console) actAsked(a *act, h echo.HandlerFunc) echo.HandlerFunc {
	if a.stepUp == nil || !a.secret() {
		return h
	}
	return func(ctx echo.Context) error {
		now := sessionOf(ctx) // a token has none, and cannot send the form
		if must, err := a.stepUp(ctx); err != nil || !must || now.ID == "" || now.Proved(c.Now()) {
			if err != nil {
				return err
			}
			return h(ctx)
		}
		return c.showLogin(ctx, http.StatusForbidden, "prove", map[string]any{"Said": "", "Hidden": map[string]lines{},
			"Action": ctx.Request().URL.Path, "Back": backOf(ctx.Request()), "Minutes": minutes(operators.ProvedFor)})
	}
}

// actPage is GET of an act's page.
func (c *console) actPage(ctx echo.Context, a *act) error {
	s, err := a.show(ctx)
	if err != nil {
		return err
	}
	return c.show(ctx, "act", c.view(ctx, a, &s, nil))
}

// view makes the page of an act; sent is what a person has filled in, nil at first.
func (c *console) view(ctx echo.Context, a *act, s *subject, sent map[string]string) *actView {
	v := &actView{Name: a.name, Action: ctx.Request().URL.Path, Back: s.back, Facts: s.facts, Danger: a.danger,
		Off: s.off, Why: s.why, Changed: a.changed(s, sent)}
	if a.limit != "" {
		v.Limit = c.limitText(languageOf(ctx.Request()), a.limit)
	}
	for _, f := range slices.Concat(s.fields, a.fields) {
		value := s.values[f.name]
		if f.name == fieldKey && value == "" {
			value = trail.NewID(c.Now())
		}
		// What is there now stands in place of what was typed when that was about something else: whoever sends it
		// again has seen it.
		typed, given := sent[f.name]
		if given && (value == "" || f.name == fieldKey || f.kind != asHidden && !v.Changed) {
			value = typed
		}
		before := lines("")
		if given && v.Changed && f.shown() && strings.TrimSpace(typed) != strings.TrimSpace(value) {
			before = lines(withCommas(typed))
		}
		if f.kind == asCount && (sent == nil || v.Changed) || f.kind == asSecret {
			value = ""
		}
		most := f.most
		if most == 0 {
			most = bounds.Reason.Most
		}
		v.Inputs = append(v.Inputs, input{Name: f.name, Kind: string(f.kind), Value: value, Label: f.label,
			Need: f.need, Most: most, Choices: s.choices[f.name], Typed: before})
	}
	return v
}

// The words of limits: what is summed up.
const (
	limitPayment = "limit.payment" // the refunds of a payment
	limitRun     = "limit.run"     // all that a run approves
)

// limitText says above which sum an act takes two people, by the limits of today.
func (c *console) limitText(l lang, of string) string {
	limits := c.Refunds.RefundLimits()
	text := l.word("limit.one")
	if limits.TwoPersons > 0 {
		text = l.word(of, yuan(limits.TwoPersons))
	}
	if limits.AutoApprove > 0 && of == limitPayment {
		text += l.word("limit.auto", yuan(limits.AutoApprove))
	}
	return text
}

// shown reports that what is typed into a field may be shown as a text.
func (f *field) shown() bool {
	switch f.kind {
	case asHidden, asSecret, asCount, asCheck, asYesNo, asChoice:
		return false
	case asText, asReason, asWhole, asYuan, asTime, asLong:
	}
	return true
}

// changed reports that what an act is about is not any more what the person has read: a hidden field, such as the
// version, says what they have read.
func (a *act) changed(s *subject, sent map[string]string) bool {
	return slices.ContainsFunc(slices.Concat(s.fields, a.fields), func(f field) bool {
		read, given := sent[f.name]
		return f.kind == asHidden && f.name != fieldKey && given && s.values[f.name] != "" && read != s.values[f.name]
	})
}

// actPosted is POST of an act's page: it asks the API, and goes back to where the person came from. What cannot
// be done is said on the same page, with what was filled in.
func (c *console) actPosted(ctx echo.Context, a *act, r *route) error {
	if begun, err := a.hasBegun(ctx); err != nil || begun != "" {
		if err != nil {
			return err
		}
		setDone(ctx, a.name)
		return see(ctx, begun)
	}
	s, err := a.show(ctx)
	if err != nil {
		return err
	}
	names := []string{fieldSeen}
	for _, f := range slices.Concat(s.fields, a.fields) {
		names = append(names, f.name)
	}
	form, err := fields(ctx, names...)
	if err != nil {
		return err
	}
	if _, proved := form[provePassword]; proved && len(form) == 1 {
		return c.actPage(ctx, a) // it was asked for before the page
	}
	if a.preview != nil {
		if seen, err := c.previewed(ctx, a, &s, form); err != nil || !seen {
			return err
		}
	}
	answer, err := c.askAPI(ctx, a, r, &s, form)
	if err != nil {
		return c.actRefused(ctx, a, &s, form, err)
	}
	if a.reveal != "" {
		v := c.view(ctx, a, &s, form)
		var body map[string]any
		if err := json.Unmarshal(answer.body.Bytes(), &body); err != nil {
			return err
		}
		v.Reveal, v.Keep = cmp.Or(fmt.Sprint(body[a.reveal]), "–"), a.keep
		return c.show(ctx, "act", v)
	}
	word := a.name
	if a.waits && answer.status == http.StatusAccepted {
		word += ".accepted"
	} else if a.said != nil {
		if of := a.said(answer.body.Bytes()); of != "" {
			word += "." + of
		}
	}
	setDone(ctx, word)
	if a.to != nil {
		return see(ctx, a.to(form))
	}
	return see(ctx, s.back)
}

// hasBegun gives the page of what was sent before by the same key, "" for none.
func (a *act) hasBegun(ctx echo.Context) (string, error) {
	if a.begun == nil {
		return "", nil
	}
	values, err := readForm(ctx)
	if err != nil {
		return "", err
	}
	form := map[string]string{}
	for name := range values {
		form[name] = values.Get(name)
	}
	if begun, err := a.begun(ctx, form); err != nil || !begun {
		return "", err
	}
	return a.to(form), nil
}

// previewed reports that a person has seen what would happen by what they typed; else it shows that, with the form to
// be sent again.
func (c *console) previewed(ctx echo.Context, a *act, s *subject, form map[string]string) (bool, error) {
	facts, err := a.preview(ctx, s, form)
	if err != nil {
		return false, c.actRefused(ctx, a, s, form, err)
	}
	sum := sha256.New() // of what was typed and of the version: units that move meanwhile change nothing of it
	for _, f := range slices.Concat(s.fields, a.fields) {
		if f.kind != asReason && f.name != fieldKey {
			fmt.Fprintf(sum, "%s=%q;", f.name, form[f.name])
		}
	}
	seen := hex.EncodeToString(sum.Sum(nil))
	if form[fieldSeen] == seen {
		return true, nil
	}
	v := c.view(ctx, a, s, form)
	v.Preview = facts
	v.Inputs = append(v.Inputs, input{Name: fieldSeen, Kind: string(asHidden), Value: seen})
	return false, c.show(ctx, "act", v)
}

// askAPI makes the request that the form means and gives the API's answer, whose error is the API's.
func (c *console) askAPI(ctx echo.Context, a *act, r *route, s *subject, form map[string]string) (*answer, error) {
	body, err := a.request(s, form)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req := ctx.Request().Clone(ctx.Request().Context())
	req.Method, req.Body, req.ContentLength = r.method, http.NoBody, 0
	req.Form, req.PostForm = nil, nil
	req.Header = req.Header.Clone()
	for _, name := range []string{"If-Match", "If-None-Match", "Idempotency-Key",
		echo.HeaderContentType, echo.HeaderAccept} {
		req.Header.Del(name)
	}
	if len(body) > 0 {
		req.Body, req.ContentLength = readCloser{bytes.NewReader(raw)}, int64(len(raw))
		req.Header.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
	}
	if v := form[fieldVersion]; v != "" {
		req.Header.Set("If-Match", `"v`+v+`"`)
	}
	if key := form[fieldKey]; key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	got := &answer{header: http.Header{}}
	inner := ctx.Echo().NewContext(req, got)
	inner.SetPath(r.path)
	inner.SetParamNames(ctx.ParamNames()...)
	inner.SetParamValues(ctx.ParamValues()...)
	if a.makes != "" {
		req.Header.Set("If-None-Match", "*")
		inner.SetParamNames("id")
		inner.SetParamValues(strings.TrimSpace(form[a.makes]))
	}
	inner.Response().Header().Set(echo.HeaderXRequestID, orderhttp.RequestID(ctx))
	for _, key := range []string{operatorKey, roleKey, sessionKey} {
		inner.Set(key, ctx.Get(key))
	}
	return got, c.recorded(r.method, r.path, r.handle)(inner)
}

// request makes the body of the API's request.
func (a *act) request(s *subject, form map[string]string) (map[string]any, error) {
	for _, f := range a.fields {
		// What has no number is not to be done now; the API says why.
		if f.kind == asCount && s.values[f.name] != "" && strings.TrimSpace(form[f.name]) != s.values[f.name] {
			return nil, invalid("#/"+f.name, bounds.CodeEnum, "type "+s.values[f.name]+": so many are meant")
		}
	}
	if a.body != nil {
		return a.body(s, form)
	}
	body := map[string]any{}
	maps.Copy(body, a.fixed)
	for _, f := range a.fields {
		if f.name == fieldVersion || f.name == fieldKey || f.kind == asCount || f.name == a.makes {
			continue
		}
		v, err := f.value(form[f.name])
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		at, names := body, strings.Split(f.name, ".")
		for _, name := range names[:len(names)-1] {
			inner, _ := at[name].(map[string]any)
			if inner == nil {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		at[names[len(names)-1]] = v
	}
	return body, nil
}

// value is what a field means in JSON, nil for one that was left out.
func (f *field) value(text string) (any, error) {
	at := "#/" + strings.ReplaceAll(f.name, ".", "/")
	if f.kind == asCheck {
		return text != "", nil
	}
	if strings.TrimSpace(text) == "" {
		if f.need {
			return nil, invalid(at, bounds.CodeRequired, "it is needed")
		}
		return nil, nil
	}
	switch f.kind {
	case asWhole:
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return nil, invalid(at, bounds.CodeFormat, "it is a whole number, such as 12")
		}
		return n, nil
	case asYuan:
		n, err := payment.ParseYuan(strings.TrimPrefix(strings.TrimSpace(text), "¥"))
		if err != nil {
			return nil, invalid(at, bounds.CodeFormat, "it is yuan with at most two decimals, such as 12.00")
		}
		return int64(n), nil
	case asTime:
		t, err := time.ParseInLocation("2006-01-02T15:04:05", text, beijing)
		if err != nil {
			t, err = time.ParseInLocation("2006-01-02T15:04", text, beijing)
		}
		if err != nil {
			return nil, invalid(at, bounds.CodeFormat, "it is a time such as 2026-11-30T20:00")
		}
		return t.UTC().Format(time.RFC3339), nil
	case asYesNo:
		return text == "yes", nil
	case asText, asReason, asChoice, asHidden, asCount, asCheck, asSecret, asLong:
	}
	return text, nil
}

// actRefused shows the page again with what is wrong and with what was filled in.
//
// The key of the form stays as long as nobody knows what became of it: whoever sends it again, also with other values,
// acts once. A key that the API knows for other values says that those were done; the person is told, and has a new
// key, because what is typed now is another act.
func (c *console) actRefused(ctx echo.Context, a *act, s *subject, form map[string]string, err error) error {
	status, code := orderhttp.ProblemOf(err)
	used := code == orderhttp.CodeKeyReused && form[fieldKey] != ""
	if used {
		delete(form, fieldKey)
	}
	v := c.view(ctx, a, s, form)
	if v.Used = used; status >= http.StatusInternalServerError {
		v.Unclear = "act.unclear"
		if form[fieldKey] == "" { // it is not known for the same when it is sent again
			v.Unclear = "act.look"
		}
	}
	orderhttp.WriteOperatorPage(ctx, err, languageOf(ctx.Request()) == en, func(p *orderhttp.Problem,
		todo string) ([]byte, error) {
		v.Problem, v.Todo = p, languageOf(ctx.Request()).formTodo(p, todo)
		p.Errors = slices.DeleteFunc(slices.Clone(p.Errors), func(e orderhttp.FieldProblem) (shown bool) {
			for i := range v.Inputs {
				name := v.Inputs[i].Name
				if wrong, named := strings.CutPrefix(e.Detail, name+" "); e.Pointer == "#" && named {
					v.Inputs[i].Wrong, shown = wrong, true
				} else if e.Pointer == "#/"+strings.ReplaceAll(name, ".", "/") {
					v.Inputs[i].Wrong, shown = e.Detail, true
				}
			}
			return shown // beside its field, and not by its place in the API's request once more
		})
		return c.render(ctx, "act", v)
	})
	return nil
}

// formTodo says what to do about a refused form: where the API's words name parts of its answer, by words of the page.
func (l lang) formTodo(p *orderhttp.Problem, todo string) string {
	if p.Code == orderhttp.CodeValidation {
		return l.word("todo.correct")
	}
	if p.Code == orderhttp.CodeReturnExceeds {
		var left []string
		for _, item := range p.Items {
			if item.Available != nil {
				left = append(left, fmt.Sprintf("%s ×%d", item.SkuID, *item.Available))
			}
		}
		return l.word("todo.left", strings.Join(left, ", "))
	}
	return todo
}

// link leads to the page of an act, for a template; Danger is how it looks, Key the letter that opens it.
type link struct {
	Name, Path, Key string
	Danger          bool
}

// links are those acts that the role of whoever asks may do: name, and the values of the path's parameters.
func (c *console) links(ctx echo.Context, params []string, names ...string) []link {
	role, _ := ctx.Get(roleKey).(Role)
	var all []link
	for _, name := range names {
		for i := range c.forms {
			a := &c.forms[i]
			if need, there := c.formRoles[a.route]; a.name == name && there && role.May(need) {
				all = append(all, link{a.name, filled(a.path, params), a.key, a.danger})
			}
		}
	}
	return all
}

// filled puts values into the parameters of a path, in their order.
func filled(path string, values []string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, ":") && len(values) > 0 {
			parts[i], values = url.PathEscape(values[0]), values[1:]
		}
	}
	return strings.Join(parts, "/")
}

// setDone remembers for the next page what was done.
func setDone(ctx echo.Context, word string) {
	ctx.SetCookie(&http.Cookie{Name: doneCookie, Value: word, Path: "/", MaxAge: 60, //nolint:gosec // G124: as signIn
		HttpOnly: true, Secure: saysTLS(ctx.Request()), SameSite: http.SameSiteStrictMode})
}

// takeDone gives the word of what was done, once; "" for nothing.
func takeDone(ctx echo.Context) string {
	k, err := ctx.Cookie(doneCookie)
	mode := ctx.Request().Header.Get("Sec-Fetch-Mode")
	if err != nil || mode != "" && mode != "navigate" { // the script asked, and the person sees the next one
		return ""
	}
	ctx.SetCookie(&http.Cookie{Name: doneCookie, Path: "/", MaxAge: -1, //nolint:gosec // G124: as signIn
		HttpOnly: true, Secure: saysTLS(ctx.Request()), SameSite: http.SameSiteStrictMode})
	word := "act." + k.Value
	if !strings.HasSuffix(word, ".accepted") {
		word += ".done"
	}
	if _, known := words[word]; !known {
		return ""
	}
	return word
}

// answer takes what the API answers a form.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header, WriteHeader and Write are http.ResponseWriter's.
func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// readCloser is a body in memory.
type readCloser struct{ *bytes.Reader }

// Close does nothing.
func (readCloser) Close() error { return nil }

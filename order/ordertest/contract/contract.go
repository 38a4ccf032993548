// Package contract holds answers against an OpenAPI document, for tests: what a generated
// client relies on is what the service really says.
package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Document is an OpenAPI 3.1 document that requests and answers are held against.
type Document struct {
	doc      *openapi3.T
	router   routers.Router
	compiler *jsonschema.Compiler

	mu      sync.Mutex
	schemas map[string]*jsonschema.Schema // by their place in the document
	seen    map[string]int                // "GET /v1/orders 200" → answers that were held
}

// place is where the document stands for its schemas' references.
const place = "doc.json"

// Load reads a document and refuses one that is no OpenAPI 3.1.
func Load(file string) (*Document, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	loader := openapi3.NewLoader()
	d := &Document{schemas: map[string]*jsonschema.Schema{}, seen: map[string]int{}}
	if d.doc, err = loader.LoadFromData(data); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := d.doc.Validate(loader.Context); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	d.doc.Servers = nil // the tests' listeners have addresses of their own
	if d.router, err = gorillamux.NewRouter(d.doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, d.compile()
}

// compile makes the document ready to find schemas in. Objects are closed: a client may
// ignore a field that it does not know, and so the document does not forbid one; but a
// field that we send and do not describe is a fault of the document.
func (d *Document) compile() error {
	text, err := d.doc.MarshalJSON()
	if err != nil {
		return err
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := closeObjects("#", whole); err != nil {
		return err
	}
	d.compiler = jsonschema.NewCompiler()
	d.compiler.AssertFormat()
	return d.compiler.AddResource(place, whole)
}

// closeObjects says of every object with properties that it has no others, unless it says
// so itself. allOf is refused: its parts cannot be closed one by one, and generators make
// poor types of it.
func closeObjects(at string, node any) error {
	switch n := node.(type) {
	case map[string]any:
		if _, there := n["allOf"]; there {
			return fmt.Errorf("%s: allOf: name the fields where they are", at)
		}
		if _, object := n["properties"].(map[string]any); object && n["additionalProperties"] == nil {
			n["additionalProperties"] = false
		}
		for key, child := range n {
			if err := closeObjects(at+"/"+key, child); err != nil {
				return err
			}
		}
	case []any:
		for i, child := range n {
			if err := closeObjects(at+"/"+strconv.Itoa(i), child); err != nil {
				return err
			}
		}
	}
	return nil
}

// Routes gives "METHOD /path/{parameter}" of every operation, sorted.
func (d *Document) Routes() []string {
	var all []string
	d.Operations(func(route string, _ *openapi3.Operation) { all = append(all, route) })
	slices.Sort(all)
	return all
}

// Operations calls visit for every operation, with its "METHOD /path/{parameter}".
func (d *Document) Operations(visit func(route string, o *openapi3.Operation)) {
	for path, item := range d.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			visit(method+" "+path, operation)
		}
	}
}

// Schemas calls visit for every schema of the document, with its place: those of
// components, and those that stand where they are used.
func (d *Document) Schemas(visit func(at string, s *openapi3.Schema)) {
	for name, ref := range d.doc.Components.Schemas {
		walk("#/components/schemas/"+name, ref, visit)
	}
	d.Operations(func(at string, operation *openapi3.Operation) {
		for _, p := range operation.Parameters {
			walk(at+" "+p.Value.Name, p.Value.Schema, visit)
		}
		if operation.RequestBody != nil {
			for _, media := range operation.RequestBody.Value.Content {
				walk(at+" requestBody", media.Schema, visit)
			}
		}
		for status, response := range operation.Responses.Map() {
			for _, media := range response.Value.Content {
				walk(at+" "+status, media.Schema, visit)
			}
		}
	})
}

// Strict fails a test for what generators of clients make little of: an integer without a
// width is 32 bits in some languages, which fen outgrow; a field that is not required is one
// that every caller must ask about; an object of nothing has no type. sparse are the places
// of objects that may have any of their fields or none.
func (d *Document) Strict(t testing.TB, sparse ...string) {
	t.Helper()
	seen := 0
	d.Schemas(func(at string, s *openapi3.Schema) {
		seen++
		if types := s.Type.Slice(); slices.Contains(types, "integer") && s.Format != "int64" {
			t.Errorf("%s: an integer of no width", at)
		}
		asked := strings.Contains(at, "requestBody") || strings.Contains(at, "Request")
		if len(s.Properties) > 0 && len(s.Required) == 0 && !asked && !slices.Contains(sparse, at) {
			t.Errorf("%s: an object of which nothing is required", at)
		}
		named := len(s.Properties) > 0 || s.AdditionalProperties.Schema != nil
		if !named && slices.Equal(s.Type.Slice(), []string{"object"}) && s.MaxProps == nil {
			t.Errorf("%s: an object of nothing", at)
		}
	})
	if seen < 100 {
		t.Errorf("%d schemas were looked at", seen)
	}
}

// walk visits a schema and those in it; one that stands elsewhere is visited there.
func walk(at string, ref *openapi3.SchemaRef, visit func(at string, s *openapi3.Schema)) {
	if ref == nil || ref.Ref != "" || ref.Value == nil {
		return
	}
	visit(at, ref.Value)
	for name, p := range ref.Value.Properties {
		walk(at+"/"+name, p, visit)
	}
	walk(at+"/items", ref.Value.Items, visit)
	walk(at+"/*", ref.Value.AdditionalProperties.Schema, visit)
	for i, one := range slices.Concat(ref.Value.OneOf, ref.Value.AnyOf) {
		walk(at+"/"+strconv.Itoa(i), one, visit)
	}
}

// Handler is a handler every answer of which is held against the document; it fails the
// test that serves a request.
func (d *Document) Handler(t testing.TB, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
		} else { // a body that breaks off is what the test is about
			r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), broken{err}))
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		d.Check(t, r, body, rec.Result(), rec.Body.Bytes())
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

// Below is Handler for what is below a path; the rest of the listener is not the document's.
func (d *Document) Below(t testing.TB, path string, next http.Handler) http.Handler {
	held := d.Handler(t, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, path) {
			held.ServeHTTP(w, r)
		} else {
			next.ServeHTTP(w, r)
		}
	})
}

// broken is a body that cannot be read.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// Check holds one answer against the document: status, type, headers that are required,
// and body. A request that had a 2xx must be one that the document allows. A path or
// method that is not in the document must be refused, but for OPTIONS, which the router
// answers by itself.
func (d *Document) Check(t testing.TB, r *http.Request, sent []byte, resp *http.Response, body []byte) {
	t.Helper()
	route, _, err := d.router.FindRoute(r)
	if err != nil {
		if resp.StatusCode/100 != 4 && (r.Method != http.MethodOptions || len(body) > 0) {
			t.Errorf("%s %s: %d, and the document has no such route", r.Method, r.URL.Path, resp.StatusCode)
		}
		return
	}
	name := fmt.Sprintf("%s %s %d", route.Method, route.Path, resp.StatusCode)
	d.mu.Lock()
	d.seen[name]++
	d.mu.Unlock()
	if err := d.answer(route, resp, body); err != nil {
		t.Errorf("%s is not as the document says: %v\n%s", name, err, body)
	}
	if resp.StatusCode/100 == 2 {
		if err := d.asked(route, r, sent); err != nil {
			t.Errorf("%s: the document forbids what was done: %v\n%s", name, err, sent)
		}
	}
}

// asked says what the document forbids of a request: a parameter or the body.
func (d *Document) asked(route *routers.Route, r *http.Request, sent []byte) error {
	for name := range r.URL.Query() {
		if route.Operation.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil {
			return fmt.Errorf("the parameter %s is not described", name)
		}
	}
	switch {
	case len(sent) == 0, r.Method == http.MethodGet: // whose body has no meaning (RFC 9110, 9.3.1)
		return nil
	case route.Operation.RequestBody == nil:
		return errors.New("a body, and none is described: what is in it is without effect")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	media := route.Operation.RequestBody.Value.Content[kind]
	if err != nil || media == nil { // such as what curl -d says of JSON: the service looks at the bytes
		kind = "application/json"
		media = route.Operation.RequestBody.Value.Content[kind]
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	return d.valid(media, d.at(route, "requestBody/content/"+escape(kind)), sent)
}

// answer says what is wrong with an answer.
func (d *Document) answer(route *routers.Route, resp *http.Response, body []byte) error {
	status := strconv.Itoa(resp.StatusCode)
	ref := route.Operation.Responses.Value(status)
	if ref == nil {
		return fmt.Errorf("status %s is not described", status)
	}
	for name, h := range ref.Value.Headers {
		if h.Value.Required && resp.Header.Get(name) == "" {
			return fmt.Errorf("header %s is missing", name)
		}
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if len(ref.Value.Content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("a body of type %q, and none is described", kind)
		}
		return nil
	}
	media := ref.Value.Content[kind]
	if err != nil || media == nil {
		return fmt.Errorf("type %q is not described", resp.Header.Get("Content-Type"))
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	pointer := "responses/" + status + "/content/" + escape(kind)
	at := d.at(route, pointer)
	if ref.Ref != "" {
		at = ref.Ref + "/content/" + escape(kind)
	}
	return d.valid(media, at, body)
}

// at gives the place of a part of an operation.
func (d *Document) at(route *routers.Route, part string) string {
	return "#/paths/" + escape(route.Path) + "/" + strings.ToLower(route.Method) + "/" + part
}

// escape writes a name as a part of a JSON pointer in a URL.
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(name)
}

// valid says whether a body is one of the schema at the place.
func (d *Document) valid(media *openapi3.MediaType, at string, body []byte) error {
	if media == nil || media.Schema == nil {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("no JSON: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	schema := d.schemas[at]
	if schema == nil {
		if schema, err = d.compiler.Compile(place + at + "/schema"); err != nil {
			return err
		}
		d.schemas[at] = schema
	}
	return schema.Validate(value)
}

// Unseen names the answers of the document that no test of this process has had, sorted.
func (d *Document) Unseen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	d.Operations(func(route string, operation *openapi3.Operation) {
		for status := range operation.Responses.Map() {
			if name := route + " " + status; d.seen[name] == 0 {
				all = append(all, name)
			}
		}
	})
	slices.Sort(all)
	return all
}

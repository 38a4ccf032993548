package orderhttp

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"orderd/order/ordertest/contract"
)

const openAPIFile = "../../docs/openapi.yaml"

// customersAPI is the document. It cannot be loaded when it is none: a document that a generator of clients cannot
// read, or reads as something else than was meant, is found by whoever integrates and not by us.
var customersAPI = sync.OnceValues(func() (*contract.Document, error) { return contract.Load(openAPIFile) })

// described is a listener of which every answer is held against the document.
func described(t testing.TB, h http.Handler) http.Handler {
	t.Helper()
	doc, err := customersAPI()
	if err != nil {
		t.Fatal(err)
	}
	return doc.Handler(t, h)
}

// A document that says other routes than the service has is worse than none.
func TestOpenAPIIsTheRoutes(t *testing.T) {
	file, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := customersAPI()
	if err != nil {
		t.Fatal(err)
	}
	var real []string
	param := regexp.MustCompile(`:(\w+)`)
	for _, r := range newWorld(t).echo.Routes() {
		real = append(real, r.Method+" "+param.ReplaceAllString(r.Path, "{$1}"))
	}
	slices.Sort(real)
	if written := doc.Routes(); !slices.Equal(written, real) {
		t.Errorf("%s has\n%s\nthe listener has\n%s", openAPIFile, strings.Join(written, "\n"), strings.Join(real, "\n"))
	}
	_, components, _ := strings.Cut(string(file), "\ncomponents:\n")
	operatorsOnly := []Code{CodeForbidden, CodeStockChanged, CodeVersionMismatch, CodeIfMatchRequired}
	for _, k := range kinds {
		if there := regexp.MustCompile(`\b` + string(k.code) +
			`\b`).MatchString(components); there == slices.Contains(operatorsOnly, k.code) {
			t.Errorf("code %s in the document: %v", k.code, there)
		}
	}
	if rec := newWorld(t, func(o *Options) { o.OpenAPI = file }).ask(t, "GET", "/openapi.yaml", "", "Authorization",
		""); rec.Body.String() != string(file) {
		t.Error("/openapi.yaml is not the document")
	}
}

// What a generator makes of the document is worth what the document says: an integer without a width is 32 bits in some
// languages, which fen outgrow, and a field that is not required is one that every caller must ask about.
func TestOpenAPIIsStrict(t *testing.T) {
	doc, err := customersAPI()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	doc.Schemas(func(at string, s *openapi3.Schema) {
		seen++
		if types := s.Type.Slice(); slices.Contains(types, "integer") && s.Format != "int64" {
			t.Errorf("%s: an integer of no width", at)
		}
		asked := strings.Contains(at, "requestBody") || strings.Contains(at, "Request")
		if len(s.Properties) > 0 && len(s.Required) == 0 && !asked {
			t.Errorf("%s: an object of which nothing is required", at)
		}
		if len(s.Properties) == 0 && slices.Equal(s.Type.Slice(), []string{"object"}) {
			t.Errorf("%s: an object of nothing", at)
		}
	})
	if seen < 100 {
		t.Errorf("%d schemas were looked at", seen)
	}
}

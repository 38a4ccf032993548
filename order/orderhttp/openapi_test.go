package orderhttp

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

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
	if rec := newWorld(t, func(o *Options) { o.OpenAPI = file }).ask(t, "GET", "/openapi.yaml", "", "Authorization",
		""); rec.Body.String() != string(file) {
		t.Error("/openapi.yaml is not the document")
	}
}

// A client that was generated from a document fails at a code that it does not list.
func TestOpenAPIListsTheCodes(t *testing.T) {
	for document, others := range map[string][]Code{
		openAPIFile: {CodeStockChanged, CodeWebhookChanged, CodeVersionMismatch, CodeIfMatchRequired},
		"../../docs/admin-openapi.yaml": {CodeStockInsufficient, CodeCustomerLimit, CodeSaleNotStarted,
			CodeStockNotReady, CodePriceChanged, CodeReferenceTaken},
	} {
		file, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		_, components, _ := strings.Cut(string(file), "\ncomponents:\n")
		for _, k := range kinds {
			if there := regexp.MustCompile(`\b` + string(k.code) +
				`\b`).MatchString(components); there == slices.Contains(others, k.code) {
				t.Errorf("%s: code %s in it: %v", document, k.code, there)
			}
		}
	}
}

// What a generator makes of the document is worth what the document says.
func TestOpenAPIIsStrict(t *testing.T) {
	doc, err := customersAPI()
	if err != nil {
		t.Fatal(err)
	}
	doc.Strict(t, "#/components/schemas/Event/data") // an event is about an order, a day, or neither
}

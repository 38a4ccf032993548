package console

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/ordertest/contract"
	"orderd/order/webhooks"
	"orderd/payment/feed"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
	"orderd/payment/shipping"
	"orderd/payment/trail"
)

const openAPIFile = "../../../docs/admin-openapi.yaml"

// operatorsAPI is the document; it cannot be loaded when it is none.
var operatorsAPI = sync.OnceValues(func() (*contract.Document, error) { return contract.Load(openAPIFile) })

func openAPI(t testing.TB) *contract.Document {
	t.Helper()
	doc, err := operatorsAPI()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// described is a listener of which every answer below /admin/ is held against the document.
func described(t testing.TB, h http.Handler) http.Handler {
	t.Helper()
	return openAPI(t).Below(t, "/admin/", h)
}

// unnamed is a route without the names of its parameters: the document's say what they are of.
func unnamed(route string) string {
	return regexp.MustCompile(`:\w+|{\w+}`).ReplaceAllString(route, "{}")
}

// A document that says other routes, parameters or roles than the listener has is worse than none.
func TestAdminOpenAPIIsTheRoutes(t *testing.T) {
	c := &console{Options: Options{Metrics: NewMetrics(), Shipments: &shipping.Service{}, TokenStore: &TokenStore{},
		Webhooks: &webhooks.Service{}, Trail: &trail.Trail{}, Bulk: &bulk.Runs{}}}
	real, roles := map[string][]string{}, map[string]Role{}
	for _, r := range c.routes() {
		if !strings.HasPrefix(r.path, "/admin/") {
			continue
		}
		var query []string
		if r.method == http.MethodGet {
			query = slices.Sorted(slices.Values(parameters[r.path]))
		}
		real[unnamed(r.method+" "+r.path)], roles[unnamed(r.method+" "+r.path)] = query, r.role
	}
	openAPI(t).Operations(func(route string, o *openapi3.Operation) {
		query, there := real[unnamed(route)]
		if !there {
			t.Errorf("%s has %s, and the listener has not", openAPIFile, route)
			return
		}
		delete(real, unnamed(route))
		var written []string
		for _, p := range o.Parameters {
			if p.Value.In == openapi3.ParameterInQuery {
				written = append(written, p.Value.Name)
			}
		}
		slices.Sort(written)
		if !slices.Equal(written, query) {
			t.Errorf("%s: %s has the parameters %q, the listener has %q", openAPIFile, route, written, query)
		}
		role := "Role: `" + strings.ReplaceAll(string(roles[unnamed(route)]), " or ", "` or `") + "`."
		if !strings.HasSuffix(strings.TrimSpace(o.Description), role) {
			t.Errorf("%s: the description of %s does not end with %q", openAPIFile, route, role)
		}
	})
	for route := range real {
		t.Errorf("%s lacks %s: add it, with its role and every status that it answers", openAPIFile, route)
	}
	file, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	w := newDesk(t).ask(Viewer, "GET", "/admin/v1/openapi.yaml", "")
	if w.Code != 200 || w.Body.String() != string(file) {
		t.Errorf("/admin/v1/openapi.yaml is not the document: %d", w.Code)
	}
}

// wordsOf are texts of whichever type, in capitals as answers have them when upper is set.
func wordsOf[T ~string](all []T, upper bool) []string {
	var words []string
	for _, w := range all {
		word := string(w)
		if upper {
			word = strings.ToUpper(word)
		}
		words = append(words, word)
	}
	return words
}

// A client that was generated from the document fails at a word that it does not list.
func TestAdminOpenAPIListsTheWords(t *testing.T) {
	lists := map[string][]string{
		"State":            wordsOf(order.States(), false),
		"CloseReason":      wordsOf(order.CloseReasons(), false),
		"RefundStatus":     wordsOf(order.RefundStates(), true),
		"Role":             wordsOf(operators.Roles(), false),
		"TaskType":         taskTypes,
		"DifferenceType":   wordsOf(reconcile.Kinds(), false),
		"DifferenceStatus": wordsOf(reconcile.Statuses(), false),
		"DifferenceAction": wordsOf(reconcile.Actions(), false),
		"DayState":         wordsOf(reconcile.DayStates(), false),
		"ImportOutcome":    wordsOf(reconcile.Outcomes(), false),
		"EventType":        wordsOf(feed.Types(), false),
		"ShipmentState":    wordsOf(shipping.States, true),
	}
	openAPI(t).Schemas(func(at string, s *openapi3.Schema) {
		name := strings.TrimPrefix(at, "#/components/schemas/")
		var written []string
		for _, w := range s.Enum {
			written = append(written, fmt.Sprint(w))
		}
		slices.Sort(written)
		if want, ok := lists[name]; ok && !slices.Equal(written, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %s has %q, the service has %q", openAPIFile, name, written, want)
		}
		delete(lists, name)
	})
	for name := range lists {
		t.Errorf("%s has no %s", openAPIFile, name)
	}
}

// A status that is not described is one that a generated client has no type for: every route is asked for nothing that
// is there, in every way that is refused, and the desk holds each answer against the document.
func TestAdminOpenAPIDescribesRefusals(t *testing.T) {
	d, asked := newDesk(t), 0
	bodies := []string{"", "{", "{}", `{"none":1}`, `{"reason":"x"}`, strings.Repeat(" ", maxBody+1)}
	for _, r := range d.routes {
		if !strings.HasPrefix(r[1], "/admin/") {
			continue
		}
		path := strings.NewReplacer(":no", "01JD4ZABCDEFGHJKMNPQRSTVWX", ":id", "1001", ":name", "heap").Replace(r[1])
		for _, query := range []string{"", "?%zz", "?limit=0", "?cursor=%00", "?none=1"} {
			for _, body := range bodies {
				if body != "" && r[0] == http.MethodGet {
					continue
				}
				for _, media := range []string{"application/json", "text/plain", "multipart/form-data; boundary=b"} {
					d.ask(Admin, r[0], path+query, body, "Content-Type", media, "If-Match", `"v1"`,
						"Idempotency-Key", "k")
					asked++
				}
			}
		}
		d.ask("", r[0], path, "")
	}
	if asked < 2000 {
		t.Errorf("only %d requests", asked)
	}
}

// What a generator makes of the document is worth what the document says.
func TestAdminOpenAPIIsStrict(t *testing.T) {
	openAPI(t).Strict(t, "#/components/schemas/BillFacts") // a bill may lack any of its columns
}

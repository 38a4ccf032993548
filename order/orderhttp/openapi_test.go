package orderhttp

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

const openAPIFile = "../../docs/openapi.yaml"

// A document that a generator of clients cannot read, or reads as something else than was meant, is found by whoever
// integrates and not by us. The loader refuses what is no OpenAPI 3.1, and a key that the standard does not know.
func TestOpenAPIIsValid(t *testing.T) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

// A document that says other routes than the service has is worse than none.
func TestOpenAPIIsTheRoutes(t *testing.T) {
	file, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	paths, components, found := strings.Cut(string(file), "\ncomponents:\n")
	_, paths, ok := strings.Cut(paths, "\npaths:\n")
	if !ok || !found {
		t.Fatal("no paths or no components in " + openAPIFile)
	}
	path := regexp.MustCompile(`^  (/\S*):$`)
	method := regexp.MustCompile(`^    (get|post|put|patch|delete|head|options|trace):$`)
	var written, real []string
	at := ""
	for line := range strings.SplitSeq(paths, "\n") {
		if m := path.FindStringSubmatch(line); m != nil {
			at = m[1]
		} else if m := method.FindStringSubmatch(line); m != nil {
			written = append(written, strings.ToUpper(m[1])+" "+at)
		}
	}
	param := regexp.MustCompile(`:(\w+)`)
	for _, r := range newWorld(t).echo.Routes() {
		real = append(real, r.Method+" "+param.ReplaceAllString(r.Path, "{$1}"))
	}
	slices.Sort(written)
	slices.Sort(real)
	if !slices.Equal(written, real) {
		t.Errorf("%s has\n%s\nthe listener has\n%s", openAPIFile, strings.Join(written, "\n"), strings.Join(real, "\n"))
	}
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

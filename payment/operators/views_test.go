package operators_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/operators"
)

// What somebody saved is there the next morning, is nobody else's, and does not grow for ever.
func TestSavedViews(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		l := operators.NewLogins(operators.LoginConfig{DB: db, Now: time.Now})
		save := func(person, name, query string) error {
			return l.SaveView(t.Context(), person, "orders", operators.View{Name: name, Query: query})
		}
		has := func(person, page string, want ...operators.View) {
			t.Helper()
			got, err := l.Views(t.Context(), person, page)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %s: %+v (%v), want %+v", person, page, got, err, want)
			}
		}
		for _, v := range []operators.View{{Name: "今日已付", Query: "state=paid"}, {Name: "big", Query: "yuan_min=100"},
			{Name: "big", Query: "yuan_min=500"}} {
			if err := save("li", v.Name, v.Query); err != nil {
				t.Fatal(err)
			}
		}
		if err := save("wang", "big", "x=1"); err != nil {
			t.Fatal(err)
		}
		has("li", "orders", operators.View{Name: "big", Query: "yuan_min=500"},
			operators.View{Name: "今日已付", Query: "state=paid"})
		has("li", "refunds")
		for range 2 {
			if err := l.DropView(t.Context(), "li", "orders", "big"); err != nil {
				t.Fatal(err)
			}
		}
		has("li", "orders", operators.View{Name: "今日已付", Query: "state=paid"})
		has("wang", "orders", operators.View{Name: "big", Query: "x=1"})
		for name, query := range map[string]string{"": "a=1", strings.Repeat("长", 41): "a=1", "a\nb": "a=1",
			"long": strings.Repeat("x", 801)} {
			if err := save("li", name, query); !errors.Is(err, operators.ErrView) {
				t.Errorf("%.10q: %v", name, err)
			}
		}
		for i := range operators.MaxViews - 1 {
			if err := save("li", fmt.Sprint("n", i), strings.Repeat("x", 800)); err != nil {
				t.Fatal(err)
			}
		}
		if err := save("li", "one more", ""); !errors.Is(err, operators.ErrViews) {
			t.Error(err)
		}
		if err := save("li", "n3", "state=closed"); err != nil { // in place of the one that is there
			t.Error(err)
		}
		sqldbtest.ReadsPageBy(t, db, "PRIMARY", false, operators.ViewsQuery, "li", "orders")
	})
}

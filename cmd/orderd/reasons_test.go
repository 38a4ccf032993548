package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"orderd/migrations/bounds"
)

// Every verb that takes a reason refuses one that nobody can see, that forges lines, or that would have to be cut,
// before anything is done: a field that is no reason would pass them on.
func TestEveryVerbRefusesABlankReason(t *testing.T) {
	var r root
	parser, err := kong.New(&r, kong.Vars(helpTexts))
	if err != nil {
		t.Fatal(err)
	}
	verbs := 0
	err = kong.Visit(parser.Model, func(n kong.Visitable, next kong.Next) error {
		if flag, ok := n.(*kong.Flag); ok && flag.Name == "reason" {
			verbs++
			if flag.Target.Type() != reflect.TypeFor[reason]() {
				t.Errorf("%s: --reason is a %s, not a reason", flag.Summary(), flag.Target.Type())
			}
		}
		return next(nil)
	})
	if err != nil || verbs < 15 {
		t.Errorf("%d verbs with a reason, %v", verbs, err)
	}
	long := strings.Repeat("退", bounds.Reason.Most)
	for text, says := range map[string]string{"": "is needed", " \u200b\u3000": "is needed", "\u3164": "is needed",
		long + "x": "has 201 characters", "a\nREFUND": "control characters", "a\u202eb": "control characters"} {
		code, out, errs := words(t, "order", "close", "--yes", "--data-dir", t.TempDir(), "--reason", text, "X")
		if code != exitUsage || out != "" || !strings.Contains(errs, says) {
			t.Errorf("%+q: exit %d %s%s", text, code, out, errs)
		}
	}
	if err := reason(long).Validate(); err != nil {
		t.Errorf("a reason of %d characters: %v", bounds.Reason.Most, err)
	}
}

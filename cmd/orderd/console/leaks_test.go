package console

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
)

// A goroutine that stays behind is a connection, a timer or an order's work that nobody ends.
func TestMain(m *testing.M) { sqldbtest.NoLeaks(whole{m}) }

// whole is the tests, and after all of them the question whether each success that the operators' document describes
// was had: what nobody has seen is believed and not known.
type whole struct{ *testing.M }

// Run runs the tests, and then asks.
func (w whole) Run() int {
	code := w.M.Run()
	doc, err := operatorsAPI()
	if code != 0 || err != nil {
		return code
	}
	for _, some := range []string{"test.run", "test.skip", "test.list"} {
		if flag.Lookup(some).Value.String() != "" {
			return code
		}
	}
	for _, answer := range doc.Unseen() {
		if status := answer[strings.LastIndex(answer, " ")+1:]; status[0] == '2' {
			fmt.Fprintf(os.Stderr, "FAIL: %s describes %s, and no test of this package has had it\n", openAPIFile,
				answer)
			code = 1
		}
	}
	return code
}

package order_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"orderd/order"
)

var update = flag.Bool("update", false, "rewrite docs/states.md")

// A missing cell would be a panic in production, a cell without a reason a refusal nobody understands.
func TestEveryCellIsWritten(t *testing.T) {
	for _, s := range order.States() {
		for _, e := range order.Events() {
			c := order.Next(s, e)
			switch c.Verdict {
			case order.VerdictMove:
				if c.To == "" || c.To == s {
					t.Errorf("%s × %s moves to %q", s, e, c.To)
				}
			case order.VerdictSame:
				if c.To != "" || c.Effect == order.EffectReturnStock {
					t.Errorf("%s × %s is a repeat, yet moves or returns stock", s, e)
				}
			case order.VerdictRefuse, order.VerdictAlarm:
				if c.Why == "" || c.To != "" || c.Effect != order.EffectNone {
					t.Errorf("%s × %s refuses without a reason, or does something", s, e)
				}
			default:
				t.Errorf("%s × %s has no verdict", s, e)
			}
		}
	}
}

// holding is what an order has, by walking: the truth that a state must tell.
type holding struct{ stock, money bool }

var told = map[order.State]holding{
	order.StatePending: {stock: true}, order.StateClosing: {stock: true}, order.StateClosed: {},
	order.StatePaid: {stock: true, money: true}, order.StateRefunding: {stock: true, money: true},
	order.StateRefunded: {}, // its stock is the refunds' business
	order.StateLate:     {money: true},
}

// On every path through the table what a state says of stock and money must be
// what happened on the way; without it "paid without stock" hides in a long path.
func TestEveryPathKeepsStockAndMoneyTrue(t *testing.T) {
	type place struct {
		state order.State
		has   holding
	}
	start := place{order.StatePending, told[order.StatePending]}
	seen := map[place]string{start: "placed"}
	for queue := []place{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if want := told[at.state]; at.has.money != want.money ||
			(at.state != order.StateRefunded && at.has.stock != want.stock) {
			t.Fatalf("%s: state %s says %+v, the order has %+v", seen[at], at.state, want, at.has)
		}
		for _, e := range order.Events() {
			c := order.Next(at.state, e)
			if c.Verdict != order.VerdictMove {
				continue
			}
			next := place{c.To, at.has}
			switch {
			case e == order.EventPay, e == order.EventRevive:
				next.has.money = true
			case e == order.EventRefundAll:
				next.has.money = false
			}
			if c.Effect == order.EffectReturnStock {
				if !at.has.stock {
					t.Fatalf("%s, %s: stock returned twice", seen[at], e)
				}
				next.has.stock = false
			}
			if c.Effect == order.EffectDeductStock {
				if at.has.stock {
					t.Fatalf("%s, %s: stock taken twice", seen[at], e)
				}
				next.has.stock = true
			}
			if c.Effect == order.EffectOweRefund && at.has.stock {
				t.Fatalf("%s, %s: a payment of an order with stock is owed back", seen[at], e)
			}
			if _, ok := seen[next]; !ok {
				seen[next] = seen[at] + ", " + string(e)
				queue = append(queue, next)
			}
		}
	}
	reached := map[order.State]bool{}
	for p := range seen {
		reached[p.state] = true
	}
	if len(reached) != len(order.States()) {
		t.Fatalf("only %v can be reached", reached)
	}
}

// A customer's cancel that a later word, or the clock, took away would have the goods sent. Written out once more, so
// that the rule does not excuse itself.
func TestFirstPersonWantedItClosed(t *testing.T) {
	clock, buyer, here := order.CloseReasonTimeout, order.CloseReasonCancel, order.CloseReasonOperator
	want := map[[2]order.CloseReason]order.CloseReason{
		{"", clock}: clock, {"", buyer}: buyer, {"", here}: here,
		{clock, clock}: clock, {clock, buyer}: buyer, {clock, here}: here,
		{buyer, clock}: buyer, {buyer, buyer}: buyer, {buyer, here}: buyer,
		{here, clock}: here, {here, buyer}: here, {here, here}: here}
	for _, first := range append(order.CloseReasons(), "") {
		for _, then := range order.CloseReasons() {
			if got := first.Then(then); got != want[[2]order.CloseReason{first, then}] {
				t.Errorf("%q, then %s: %q", first, then, got)
			}
		}
		if first.Revivable() != (first == clock) {
			t.Errorf("%q revives: %v", first, first.Revivable())
		}
	}
}

const howItEnds = "# How it ends\n"

// A state without a way out is a state for ever: whoever adds one says how it ends.
func TestEveryStateSaysHowItEnds(t *testing.T) {
	text, err := os.ReadFile("../docs/states.md")
	if err != nil {
		t.Fatal(err)
	}
	_, ends, _ := strings.Cut(string(text), "\n"+howItEnds)
	chapters := map[string][]string{"Attempts (trades at WeChat Pay)": {string(order.AttemptCalling),
		string(order.AttemptLive), string(order.AttemptRefused), string(order.AttemptClosed)},
		"Payments":                          {"applied", "owed", "held"},
		"Differences of the reconciliation": {"OPEN", "PENDING_NEXT_DAY", "RESOLVED", "WRITTEN_OFF"},
		"Tasks that failed":                 {"failing", "dead"}}
	for _, s := range order.States() {
		chapters["Orders"] = append(chapters["Orders"], string(s))
	}
	for _, s := range order.RefundStates() {
		chapters["Refunds"] = append(chapters["Refunds"], string(s))
	}
	for chapter, states := range chapters {
		_, rows, _ := strings.Cut(ends, "## "+chapter+"\n")
		rows, _, _ = strings.Cut(rows, "\n## ")
		for _, s := range states {
			if !strings.Contains(rows, "\n| "+s+" | ") {
				t.Errorf("%s: %s has no row", chapter, s)
			}
		}
	}
}

// The document is the table: a change of one without the other must fail.
func TestStatesDocumented(t *testing.T) {
	const file = "../docs/states.md"
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, ends, _ := strings.Cut(string(old), "\n"+howItEnds) // written by hand
	want := statesDoc() + "\n" + howItEnds + ends
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != want {
		t.Fatalf("%s does not show the table (%v): run go test ./order -run Documented -update", file, err)
	}
}

func statesDoc() string {
	var b strings.Builder
	b.WriteString("# The state machine\n\n" +
		"Generated from `order/machine.go` by `go test ./order -run Documented -update`; a test compares them.\n\n")
	b.WriteString("`=` harmless repeat, `✗` refused with a reason, " +
		"`!` must not happen: nothing changes, an operator is told.\n\n|")
	for _, e := range order.Events() {
		fmt.Fprintf(&b, " | %s", e)
	}
	b.WriteString(" |\n|---" + strings.Repeat("|---", len(order.Events())) + "|\n")
	var reasons []string
	for _, s := range order.States() {
		fmt.Fprintf(&b, "| **%s**", s)
		for _, e := range order.Events() {
			c := order.Next(s, e)
			cell := "="
			switch c.Verdict {
			case order.VerdictMove:
				cell = "**" + string(c.To) + "**"
			case order.VerdictSame:
			case order.VerdictRefuse, order.VerdictAlarm:
				cell = map[order.Verdict]string{order.VerdictRefuse: "✗", order.VerdictAlarm: "!"}[c.Verdict]
				reasons = append(reasons, fmt.Sprintf("| %s | %s | %s | %s |", s, e, cell, c.Why))
			}
			switch c.Effect {
			case order.EffectNone:
			case order.EffectReturnStock:
				cell += " + return stock"
			case order.EffectOweRefund:
				cell += " + owe refund"
			case order.EffectDeductStock:
				cell += " + deduct stock"
			case order.EffectCloseReason:
				cell += " + close reason"
			}
			b.WriteString(" | " + cell)
		}
		b.WriteString(" |\n")
	}
	b.WriteString("\nWhat holds on every path (a test walks them all): " +
		"pending, closing: stock held, no money · closed: neither · paid, refunding: both · " +
		"late: money, no stock · refunded: no money.\n")
	reasonsDoc(&b)
	refundsDoc(&b)
	b.WriteString("\n## Why it is refused\n\n| state | event | | reason |\n|---|---|---|---|\n" +
		strings.Join(reasons, "\n") + "\n")
	return b.String()
}

func reasonsDoc(b *strings.Builder) {
	b.WriteString("\n## Who wanted it closed\n\n" +
		"`orders.close_reason`, by who wanted it first and who wants it then, while it is closing or when it is " +
		"closed. What is in bold changes the reason and is one event, `close.wanted`; two people's word that " +
		"nothing was paid counts as the operator's, and its event is the close. Anything else, and anything once " +
		"more, adds nothing. The first of two words is no wish yet.\n\n| first \\ then |")
	for _, then := range order.CloseReasons() {
		fmt.Fprintf(b, " %s |", then)
	}
	b.WriteString(" late money may revive it |\n|" + strings.Repeat("---|", len(order.CloseReasons())+2) + "\n")
	for _, first := range order.CloseReasons() {
		fmt.Fprintf(b, "| **%s** |", first)
		for _, then := range order.CloseReasons() {
			cell := string(first.Then(then))
			if first.Then(then) != first {
				cell = "**" + cell + "**"
			}
			b.WriteString(" " + cell + " |")
		}
		fmt.Fprintf(b, " %s |\n", map[bool]string{true: "yes", false: "no"}[first.Revivable()])
	}
}

func refundsDoc(b *strings.Builder) {
	b.WriteString("\n# The states of a refund\n\n" +
		"From `order/refund_machine.go`. A refund moves first; its order hears of it only when it moved.\n\n|")
	for _, e := range order.RefundEvents() {
		fmt.Fprintf(b, " | %s", e)
	}
	b.WriteString(" |\n|---" + strings.Repeat("|---", len(order.RefundEvents())) + "|\n")
	for _, s := range order.RefundStates() {
		fmt.Fprintf(b, "| **%s**", s)
		for _, e := range order.RefundEvents() {
			c := order.NextRefund(s, e)
			cell := "="
			switch c.Verdict {
			case order.VerdictMove:
				cell = "**" + string(c.To) + "**"
			case order.VerdictSame:
			case order.VerdictRefuse:
				cell = "✗"
			case order.VerdictAlarm:
				cell = "!"
			}
			b.WriteString(" | " + cell)
		}
		b.WriteString(" |\n")
	}
	b.WriteString("\nA refund counts against its payment in every state but rejected, closed, cancelled and held; " +
		"a closed one is replaced by another number with the same amount. " +
		"Its stock comes back in success and by_hand.\n\n" +
		"A held one was made elsewhere (the merchant platform, another system). It is not among payments.refund_fen, " +
		"but it counts all the same until WeChat Pay says that it closed it: nobody asks for, approves or sends more " +
		"than what is left beside it. While no person has looked (approve of the held one), nothing of that payment " +
		"goes back by itself, and what was not sent yet waits for its approvals again; retry asks WeChat Pay how far " +
		"it is. One that WeChat Pay does not know counts no more once two people cancel it, as long as it never " +
		"said that it paid it. What is more than the payment has left becomes refused. Where " +
		"WeChat Pay says REFUND of a trade and nothing here explains it, or has another refund of the payment under " +
		"a number of ours, every refund of that payment needs a person.\n\n" +
		"One that is rejected, cancelled or closed here counts as a held one does from the moment when WeChat Pay " +
		"says that it pays it, until it says that it closed it, and every other refund of that payment needs a " +
		"person. One that waits for its approval and that WeChat Pay says it has cannot be rejected.\n")
}

// A missing cell of the refund table would be a panic in the middle of somebody's money.
func TestEveryRefundCellIsWritten(t *testing.T) {
	for _, s := range order.RefundStates() {
		for _, e := range order.RefundEvents() {
			c := order.NextRefund(s, e)
			switch c.Verdict {
			case order.VerdictMove:
				if c.To == "" || c.To == s {
					t.Errorf("%s × %s moves to %q", s, e, c.To)
				}
				if s.PaidBack() {
					t.Errorf("%s × %s: money that went back does not come again", s, e)
				}
			case order.VerdictSame:
			case order.VerdictRefuse, order.VerdictAlarm:
				if c.Why == "" || c.To != "" {
					t.Errorf("%s × %s refuses without a reason, or moves", s, e)
				}
			default:
				t.Errorf("%s × %s has no verdict", s, e)
			}
		}
		if s.Open() && (s.PaidBack() || !s.Committed()) {
			t.Errorf("%s is open, yet ended", s)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/oklog/ulid/v2"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/stock"
)

// refundCmd is `orderd refund …`. Without a person's token it is the shell that asks and
// decides: it cannot approve what it or another operator asked for.
type refundCmd struct {
	List    refundList    `cmd:"" help:"List refunds."`
	Get     refundGet     `cmd:"" help:"Show a refund."`
	Ask     refundAsk     `cmd:"" help:"Ask for a refund of a paid order."`
	Approve refundApprove `cmd:"" help:"${refund_approve}"`
	Reject  refundReject  `cmd:"" help:"Reject a refund that waits for approval."`
	// Retry, Cancel and ByHand are for refunds that cannot end by themselves.
	Retry  refundRetry  `cmd:"" help:"Send a refund again, or ask WeChat Pay how far it is, now."`
	Cancel refundCancel `cmd:"" help:"${refund_cancel}"`
	ByHand refundByHand `cmd:"" help:"${refund_by_hand}"`
	ToCard refundToCard `cmd:"" help:"Send an abnormal refund to a bank card, the merchant's or the buyer's."`
}

// refundList is `orderd refund list`: newest first, a page at a time.
type refundList struct {
	output
	// State is in lower case here, as in the database.
	State order.RefundState `help:"${refund_list_state}"`
	Order string            `help:"Order number."`
	// Transaction finds refunds of money that names no order, too.
	Transaction string `help:"Transaction of WeChat Pay."`

	Limit  pageRows `default:"50" help:"1 to 200."`
	Cursor string   `help:"Go on after this refund number."`
}

// Run lists refunds.
func (c *refundList) Run(ctx context.Context, s *settings, t *terminal) error {
	if c.State != "" && !slices.Contains(order.RefundStates(), c.State) {
		return fmt.Errorf("%w: there is no refund state %q", errUsage, c.State)
	}
	return withCore(ctx, s, func(co *core) error {
		rows, next, err := co.orders.ListRefunds(ctx,
			order.RefundFilter{State: c.State, OrderNo: c.Order, TransactionID: c.Transaction, Limit: int(c.Limit),
				Cursor: c.Cursor})
		if err != nil {
			return err
		}
		if next != "" {
			defer screen.Printf(t.Err, "more: --cursor %s\n", next)
		}
		return c.show(t, viewed(rows, console.ViewRefund), func(w io.Writer) {
			screen.Printf(w, "REFUND\tSTATE\tAMOUNT\tOF\tWHY\tASKED BY\tASKED\tPROBLEM\n")
			for _, r := range rows {
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.OutRefundNo, r.State, r.Amount, paidTotal(&r),
					r.Reason,
					kindAndName(string(r.AskedBy().Type), r.AskedBy().ID), stamp(r.CreatedAt), r.Problem)
			}
		})
	})
}

// paidTotal is the total of a refund's payment, which WeChat Pay need not have said of one
// that was made elsewhere.
func paidTotal(r *order.Refund) payment.MaybeFen {
	if r.PaymentTotal == 0 {
		return payment.MaybeFen{}
	}
	return payment.Said(r.PaymentTotal)
}

// oneRefund is what verbs about one refund have in common.
type oneRefund struct {
	output
	No string `arg:"" name:"out-refund-no" help:"Refund number."`
}

// showRefund prints a refund, who decided it, and what can be done next: whoever looks at
// one refund usually has to do something about it.
func (c oneRefund) showRefund(t *terminal, r order.Refund) error {
	return c.show(t, console.ViewRefund(&r), func(w io.Writer) {
		screen.Printf(w, "%s  %s  %s of %s yuan  (%s)\n", r.OutRefundNo, r.State, r.Amount, paidTotal(&r), r.Reason)
		screen.Printf(w, "order\t%s\n", r.OrderNo)
		screen.Printf(w, "payment\t%s\n", r.TransactionID)
		screen.Printf(w, "asked\t%s by %s %s: %s\n", stamp(r.CreatedAt), r.AskedBy().Type, r.AskedBy().ID, r.Note)
		for _, it := range r.Items {
			back := "goes back to the shelf"
			if !r.Restock {
				back = "does not go back to the shelf"
			}
			screen.Printf(w, "item\t%s × %d, %s\n", it.SkuID, it.Quantity, back)
		}
		for _, a := range r.Approvals {
			fresh := ""
			if a.Fresh {
				fresh = " (account or token of less than a day)"
			}
			screen.Printf(w, "approved\t%s by %s%s: %s\n", stamp(a.At), a.Approver, fresh, a.Reason)
		}
		if r.State == order.RefundStatePending {
			screen.Printf(w, "waits for\t%d more approval(s)\n", max(r.ApprovalsNeeded-len(r.Approvals), 1))
		}
		if r.Said.By != "" {
			screen.Printf(w, "first of two\t%s says %s by %s: %s\n", stamp(r.Said.At), r.Said.What, r.Said.By,
				r.Said.Why)
		}
		if who := r.SaidByHand(); who != "" {
			screen.Printf(w, "waits for\tanother beside %s: %s\n", who, sameByAnother("refund by-hand "+r.OutRefundNo))
		}
		if r.DecidedBy != "" {
			screen.Printf(w, "decided\tby %s: %s\n", r.DecidedBy, r.DecidedWhy)
		}
		if !r.SentAt.IsZero() {
			screen.Printf(w, "sent\t%s, WeChat Pay's number %s\n", stamp(r.SentAt), r.RefundID)
		}
		if !r.SucceededAt.IsZero() {
			screen.Printf(w, "paid back\t%s\n", stamp(r.SucceededAt))
		}
		if !r.DueAt.IsZero() {
			screen.Printf(w, "looked at\t%s\n", stamp(r.DueAt))
		}
		if r.Elsewhere > 0 {
			screen.Printf(w, "elsewhere\t%s yuan of this payment went back in refunds that are held\n", r.Elsewhere)
		}
		if r.Told != "" {
			screen.Printf(w, "WeChat Pay\t%s\n", r.Told)
		}
		if r.Problem != "" {
			screen.Printf(w, "problem\t%s\n", r.Problem)
		}
		if help := nextStep(r.State); help != "" {
			screen.Printf(w, "next\t%s\n", help)
		}
	})
}

// nextStep tells an operator what a state asks of him, "" when nothing.
func nextStep(s order.RefundState) string {
	switch s {
	case order.RefundStatePending:
		return "orderd refund approve NO --reason …, or reject"
	case order.RefundStateAbnormal:
		return "the buyer's account takes no money: 'orderd refund to-card NO' sends it to a bank card; or handle it " +
			"on the merchant platform, then 'retry'; or pay it another way, then 'by-hand'"
	case order.RefundStateRefused:
		return "see the problem; 'orderd refund retry NO' when it is mended, 'cancel' to give it up, 'by-hand' when " +
			"it was paid another way"
	case order.RefundStateHeld:
		return "it was not made here, and counts against its payment: 'orderd refund retry NO' asks WeChat Pay how " +
			"far it is, 'approve' notes that you have looked; settle the difference that the bill makes of it"
	case order.RefundStateOwed, order.RefundStateProcessing, order.RefundStateSucceeded, order.RefundStateClosed,
		order.RefundStateRejected, order.RefundStateCancelled, order.RefundStateByHand:
	}
	return ""
}

// refundGet is `orderd refund get`.
type refundGet struct{ oneRefund }

// Run shows a refund.
func (c *refundGet) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		r, err := co.orders.FindRefund(ctx, c.No)
		if err != nil {
			return err
		}
		return c.showRefund(t, r)
	})
}

// refundAsk is `orderd refund ask`. Without a key one is drawn: the same command again is
// another refund, which the amount that is left bounds.
type refundAsk struct {
	output
	confirm
	person
	No string `arg:"" name:"order-no" help:"Order number."`
	// Item names goods; without it and without Amount all that is left is asked back.
	Item    map[string]int `help:"SKU=QUANTITY, repeatable; without items and amount: everything that is left."`
	Amount  string         `help:"Yuan, such as 12.50; at most what the items cost."`
	Restock *bool          `negatable:"" help:"${refund_says_restock}"`
	Reason  reason         `required:"" help:"Why; the buyer sees its beginning."`
	// Key binds the request: with it, a command that was cut can be given again.
	Key string `help:"Idempotency key: the same key again is the same refund."`
}

// Run asks for a refund. An amount that cannot be read is errUsage; yuan are read as
// decimal text, never as a float.
func (c *refundAsk) Run(ctx context.Context, s *settings, t *terminal) error {
	r := order.AskRefund{OrderNo: c.No, RequestID: c.Key, Reason: string(c.Reason)}
	if c.Restock != nil {
		r.Restock, r.NoRestock = *c.Restock, !*c.Restock
	}
	for sku, n := range c.Item {
		r.Lines = append(r.Lines, stock.Line{SkuID: sku, Quantity: int64(n)})
	}
	// Items come from a map, in any order: sorted, the same command is the same request.
	sort.Slice(r.Lines, func(i, j int) bool { return r.Lines[i].SkuID < r.Lines[j].SkuID })
	if c.Amount != "" {
		f, err := payment.ParseYuan(c.Amount)
		if err != nil {
			return fmt.Errorf("%w: --amount: %w", errUsage, err)
		}
		r.Amount = &f
	}
	if r.RequestID == "" {
		r.RequestID = ulid.Make().String()
	}
	if err := c.ask(t, "Ask for a refund of "+c.No+"?"); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		var err error
		if r.Cause, err = c.cause(ctx, co, operators.Operator); err != nil {
			return err
		}
		asked, err := co.orders.AskRefund(ctx, r)
		if err != nil {
			return err
		}
		return oneRefund{output: c.output}.showRefund(t, asked.Refund)
	})
}

// refundDecision is what the verbs that decide have in common; the reason goes into the
// timeline and, of a rejection, to the customer.
type refundDecision struct {
	oneRefund
	confirm
	person
	Reason reason `required:"" help:"Why, for the timeline."`
}

// decide asks the person, applies the decision, and for a retry calls WeChat Pay here and
// now. What the refund's state does not allow is an error that names the state.
func (c refundDecision) decide(ctx context.Context, s *settings, t *terminal, event order.RefundEvent,
	restock *bool, question string) error {
	if event == order.RefundEventApprove || event == order.RefundEventByHand {
		question += " (" + s.twoPersons() + ")"
	}
	if err := c.ask(t, question); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		need := operators.Finance
		if event == order.RefundEventRetry {
			need = operators.OperatorOrFinance
		}
		cause, err := c.cause(ctx, co, need)
		if err != nil {
			return err
		}
		r, err := co.orders.DecideRefund(ctx, order.RefundDecision{OutRefundNo: c.No, Event: event,
			Reason: string(c.Reason), Restock: restock, Cause: cause})
		var refused *order.RefundRefusedError
		if errors.As(err, &refused) {
			return fmt.Errorf("refund %s is %s: %s", c.No, refused.Refund.State, refused.Why)
		}
		if err != nil {
			return err
		}
		if event == order.RefundEventRetry { // here and now, whether or not a worker runs
			if err := co.orders.Refund(ctx, c.No, cause); err != nil {
				return err
			}
			if r, err = co.orders.FindRefund(ctx, c.No); err != nil {
				return err
			}
		}
		if event == order.RefundEventByHand && r.SaidByHand() != "" {
			screen.Printf(t.Err, "noted, and not settled yet: %s\n", sameByAnother("refund by-hand "+c.No))
		}
		if event == order.RefundEventCancel && r.SaidUnknown() != "" {
			screen.Printf(t.Err, "noted, and it counts as before: %s\n", sameByAnother("refund cancel "+c.No))
		}
		if event == order.RefundEventApprove && r.State == order.RefundStatePending {
			screen.Printf(t.Err, "noted, and not sent yet: %s\n", sameByAnother("refund approve "+c.No))
		}
		return c.showRefund(t, r)
	})
}

// sameByAnother is the second step of what takes two people.
func sameByAnother(verb string) string {
	return "a second person does the same, 'orderd " + verb + " --reason …', with a token of their own (--token-file)"
}

// The verbs that decide, one for each event that a person may cause.
type refundApprove struct {
	refundDecision
	goods
}
type refundReject struct{ refundDecision }
type refundRetry struct{ refundDecision }
type refundCancel struct{ refundDecision }
type refundByHand struct {
	refundDecision
	goods
}

// refundToCard is `orderd refund to-card`. The buyer's card comes from a file or standard
// input, never from the command line, which everybody on the machine can read.
type refundToCard struct {
	oneRefund
	confirm
	person
	To     string `default:"merchant" enum:"merchant,buyer" help:"Whose bank card: merchant or buyer."`
	Card   string `placeholder:"FILE" help:"${refund_card}"`
	Reason reason `required:"" help:"Why, for the timeline."`
}

// Run sends it, or notes the first of two people's word.
func (c *refundToCard) Run(ctx context.Context, s *settings, t *terminal) error {
	r := order.RefundToCard{OutRefundNo: c.No, To: payment.CardOfMerchant, Reason: string(c.Reason)}
	switch {
	case c.To == "buyer":
		r.To = payment.CardOfUser
		var err error
		if r.Card, err = readCard(c.Card, t.In); err != nil {
			return fmt.Errorf("%w: --card: %w", errUsage, err)
		}
	case c.Card != "":
		return fmt.Errorf("%w: --card is of --to buyer; the merchant's account is known to WeChat Pay", errUsage)
	}
	if err := c.ask(t, "Send the money of "+c.No+" to a bank card of the "+c.To+"'s?"); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		var err error
		if r.Cause, err = c.cause(ctx, co, operators.Finance); err != nil {
			return err
		}
		sent, err := co.orders.SendToCard(ctx, r)
		var refused *order.RefundRefusedError
		switch {
		case errors.As(err, &refused):
			return fmt.Errorf("refund %s is %s: %s", c.No, refused.Refund.State, refused.Why)
		case err != nil:
			return err
		case sent.State == order.RefundStateAbnormal:
			screen.Printf(t.Err, "noted; a second person gives the same command, with the card\n")
		}
		return c.showRefund(t, sent)
	})
}

// readCard reads a card: JSON with bank_type, bank_account and real_name. Errors name no
// part of it.
func readCard(path string, stdin io.Reader) (payment.BankCard, error) {
	if path == "" {
		return payment.BankCard{}, errors.New("the buyer's card is needed: a file of JSON, or - for standard input")
	}
	var text []byte
	var err error
	if path == "-" {
		text, err = io.ReadAll(io.LimitReader(stdin, maxCardFile))
	} else {
		var secret string
		secret, err = readSecretFile(path)
		text = []byte(secret)
	}
	if err != nil {
		return payment.BankCard{}, err
	}
	var card struct {
		BankType string `json:"bank_type"`
		Account  string `json:"bank_account"`
		RealName string `json:"real_name"`
	}
	if json.Unmarshal(text, &card) != nil {
		return payment.BankCard{}, errors.New(`it must be {"bank_type": …, "bank_account": …, "real_name": …}`)
	}
	return payment.BankCard{BankType: card.BankType, Account: card.Account, RealName: card.RealName}, nil
}

// maxCardFile is in bytes: three short fields.
const maxCardFile = 4 << 10

// goods are what the two verbs say about them by which goods can come back.
type goods struct {
	Restock *bool `negatable:"" help:"${refund_says_restock}"`
}

// Run approves.
func (c *refundApprove) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.decide(ctx, s, t, order.RefundEventApprove, c.Restock, "Send the money of "+c.No+" back?")
}

// Run rejects.
func (c *refundReject) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.decide(ctx, s, t, order.RefundEventReject, nil, "Reject "+c.No+"?")
}

// Run asks WeChat Pay again.
func (c *refundRetry) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.decide(ctx, s, t, order.RefundEventRetry, nil, "Ask WeChat Pay again about "+c.No+"?")
}

// Run gives a refund up.
func (c *refundCancel) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.decide(ctx, s, t, order.RefundEventCancel, nil,
		"Give "+c.No+" up? Nothing of it goes back; held money is held again, one made elsewhere counts no more.")
}

// Run books what a person vouches for.
func (c *refundByHand) Run(ctx context.Context, s *settings, t *terminal) error {
	return c.decide(ctx, s, t, order.RefundEventByHand, c.Restock, "Book "+c.No+" as paid back outside WeChat Pay?")
}

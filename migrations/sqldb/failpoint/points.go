package failpoint

// Point is a step after which a process may die.
type Point struct {
	// No numbers the steps of all flows; a letter marks one beside the row.
	No string
	// Name is what Hit is called with. "" when no line of the source stands for
	// the step; Note says why.
	Name string
	// Flow is place, prepay, notify, close, refund, recon, sweep, gate, sale, drain or hook.
	Flow string
	// After is what has just happened.
	After string
	// Then is what must hold after the restart, beside what always must: the
	// flow ends, the invariants hold, and our payments and refunds are WeChat Pay's.
	Then string
	// Note says what is particular to it here.
	Note string
}

// Points are all steps, in the order of their numbers. A test holds the source
// against it in both directions, and docs/faults.md is printed from it.
var Points = []Point{
	{No: "1", Name: "place.read", Flow: "place", After: "the request was read and understood",
		Then: "no order, the stock is whole; the same key places it"},
	{No: "2", Name: "place.inserted", Flow: "place", After: "the rows of the order were written, in its transaction",
		Then: "no order, the stock is whole; the same key places it"},
	{No: "3", Name: "place.taken", Flow: "place", After: "the stock was taken, in the same transaction",
		Then: "no order, the stock is whole; the same key places it"},
	{No: "4", Name: "place.written", Flow: "place", After: "everything was written, before COMMIT",
		Then: "no order, the stock is whole; the same key places it"},
	{No: "5", Name: "place.committed", Flow: "place", After: "COMMIT, before the wake-up was set",
		Then: "the order is there and expires without a task; the same key gives the same order"},
	{No: "6", Name: "place.armed", Flow: "place",
		After: "the wake-up was handed over and is in Redis, before the answer",
		Then:  "the same key gives the same order; it expires once",
		Note:  "the wake-up is set by another goroutine: the test waits until Redis has it"},

	{No: "7", Name: "prepay.intended", Flow: "prepay", After: "the attempt was committed, before the call",
		Then: "the same parameters again give the same out_trade_no, and only one"},
	{No: "8", Name: "prepay.unread", Flow: "prepay",
		After: "WeChat Pay opened the trade, nothing of its answer was read",
		Then:  "the same parameters again give the same out_trade_no, and only one"},
	{No: "9", Name: "prepay.answered", Flow: "prepay", After: "the answer was read, not stored",
		Then: "the same parameters again give the same out_trade_no, and only one"},

	{No: "10", Name: "notify.verified", Flow: "notify", After: "the signature was found good",
		Then: "WeChat Pay comes again and the payment is applied once"},
	{No: "11", Name: "notify.journalled", Flow: "notify",
		After: "the payment was written into the journal, in its transaction",
		Then:  "WeChat Pay comes again and the payment is applied once",
		Note: "there is no inbox table: the journal of payments is keyed by the transaction, and commits with what " +
			"it changes"},
	{No: "12", Name: "notify.written", Flow: "notify", After: "everything was written, before COMMIT",
		Then: "WeChat Pay comes again and the payment is applied once"},
	{No: "13", Name: "notify.committed", Flow: "notify", After: "COMMIT, before the 204",
		Then: "the repeat finds it done and gets its 204; no second event"},
	{No: "14", Flow: "notify", After: "WeChat Pay has read the 204",
		Then: "paid; nothing comes again",
		Note: "no line of ours runs when an answer has left: the test kills when the simulator has it"},

	{No: "15", Name: "close.intended", Flow: "close", After: "closing was committed, before WeChat Pay was asked",
		Then: "asked again, closed, the stock back once"},
	{No: "16", Name: "close.unread", Flow: "close",
		After: "WeChat Pay closed the trade, nothing of its answer was read",
		Then:  "closing still, the stock still held; asked again, closed, the stock back once"},
	{No: "17", Name: "close.answered", Flow: "close", After: "the answer to the close was read",
		Then: "closing still, the stock still held; asked again, closed, the stock back once"},
	{No: "18", Name: "close.queried", Flow: "close", After: "the answer to the query was read",
		Then: "closing still, the stock still held; asked again, closed, the stock back once"},
	{No: "19", Name: "close.written", Flow: "close", After: "closed and the returned stock were written, before COMMIT",
		Then: "closing still, the stock still held; asked again, closed, the stock back once"},
	{No: "20", Name: "close.committed", Flow: "close", After: "COMMIT, before the task was done",
		Then: "closed, the stock back once; the task finds nothing to do"},

	{No: "21", Name: "refund.asked", Flow: "refund", After: "the refund was committed, before its wake-up was set",
		Then: "the same key gives the same out_refund_no; WeChat Pay has one refund"},
	{No: "21b", Name: "refund.claimed", Flow: "refund", After: "the turn to call was committed, before the call",
		Then: "sent under the same out_refund_no when the next turn comes; WeChat Pay has one refund"},
	{No: "22", Name: "refund.unread", Flow: "refund",
		After: "WeChat Pay took the refund, nothing of its answer was read",
		Then:  "sent again under the same out_refund_no; WeChat Pay has one refund"},
	{No: "23", Name: "refund.answered", Flow: "refund", After: "the answer was read, not stored",
		Then: "sent again under the same out_refund_no; WeChat Pay has one refund"},
	{No: "24", Name: "refund.written", Flow: "refund",
		After: "the notified end and the returned stock were written, before COMMIT",
		Then:  "WeChat Pay comes again; the money counts and the stock returns once"},

	{No: "25", Name: "recon.saved", Flow: "recon", After: "the bill was stored",
		Then: "the next run ends as one that was never killed"},
	{No: "26", Name: "recon.line", Flow: "recon", After: "half of the matched lines were compared",
		Then: "the next run ends as one that was never killed"},
	{No: "26b", Name: "recon.healed", Flow: "recon", After: "half of what the bill has and we lack was booked",
		Then: "the next run ends as one that was never killed; nothing is booked twice"},
	{No: "27", Name: "recon.written", Flow: "recon", After: "a batch of differences was written, before COMMIT",
		Then: "the next run ends as one that was never killed"},
	{No: "28", Name: "recon.done", Flow: "recon", After: "everything was booked, the result was not written",
		Then: "the next run ends as one that was never killed; nothing is booked twice",
		Note: "there is no queue of actions: what a bill brings goes through the door of a callback, one line at a " +
			"time"},

	{No: "29", Name: "sweep.selected", Flow: "sweep", After: "due rows were read, nothing was done",
		Then: "the next sweep goes on; every order is closed once"},
	{No: "30", Name: "sweep.between", Flow: "sweep", After: "one page was begun, the next was not",
		Then: "the next sweep goes on; every order is closed once"},

	{No: "G1", Name: "gate.taken", Flow: "gate",
		After: "units were taken in the memory of the process, before the database was asked",
		Then:  "no order, the units are found by a recall; the same key places it"},
	{No: "G2", Name: "gate.granted", Flow: "gate", After: "units were moved into a bucket, not into memory",
		Then: "the units are in the bucket's row and found by a recall"},
	{No: "G3", Name: "gate.recalled", Flow: "gate", After: "buckets were closed, before COMMIT",
		Then: "they are open still, and the next who finds the pool short closes them"},
	{No: "G4", Name: "gate.marked", Flow: "gate", After: "a SKU was marked as sold out, before COMMIT",
		Then: "it is not, and the next refusal marks it"},
	{No: "G5", Name: "gate.reopened", Flow: "gate", After: "a SKU that was sold out was opened again",
		Then: "it is sold by every process when the marks have lapsed"},

	{No: "31", Name: "gate.backed", Flow: "sale",
		After: "units of a ticket that became no order were given back to their bucket in Redis",
		Then:  "the rest is sold to the last unit by whoever comes after, and none twice"},
	{No: "31b", Name: "gate.acked", Flow: "sale",
		After: "a ticket was struck from the log of its bucket in Redis",
		Then:  "the rest is sold to the last unit by whoever comes after, and none twice"},
	{No: "32", Name: "gate.given", Flow: "sale",
		After: "a bucket's refill was taken from the pool and is not in the bucket in Redis",
		Then:  "the rest is sold to the last unit by whoever comes after, and none twice"},
	{No: "32b", Name: "gate.opened", Flow: "sale",
		After: "a bucket was opened in Redis and has no row yet",
		Then:  "the rest is sold to the last unit by whoever comes after, and none twice"},
	{No: "32c", Name: "gate.epoch", Flow: "sale",
		After: "the buckets of a sale in Redis were given up, before the next were opened",
		Then:  "the rest is sold to the last unit by whoever comes after, and none twice"},

	{No: "33", Name: "drain.claimed", Flow: "drain",
		After: "placements that waited were claimed from the queue of a sale, before the database was asked",
		Then:  "they are claimed again: one order for each, or its refusal"},
	{No: "33b", Name: "drain.committed", Flow: "drain",
		After: "the orders of placements that waited were committed, and the queue does not know it",
		Then:  "they are claimed again and found to be there: one order for each, or its refusal"},
	{No: "33c", Name: "drain.refused", Flow: "drain",
		After: "a placement that waited was refused, and its problem kept for its customer",
		Then:  "the others are claimed again: one order for each, or its refusal"},
	{No: "33d", Name: "drain.acked", Flow: "drain",
		After: "placements that have become orders were struck from the queue",
		Then:  "one order for each, or its refusal"},

	{No: "34", Name: "hook.told", Flow: "hook",
		After: "COMMIT of an event of the feed, before whoever delivers it was rung",
		Then:  "the webhook gets it, once"},
	{No: "34b", Name: "hook.planned", Flow: "hook", After: "its deliveries were written, before COMMIT",
		Then: "the webhook gets it, once"},
	{No: "34c", Name: "hook.claimed", Flow: "hook", After: "a delivery was claimed, before the call",
		Then: "the webhook gets it, once, when the claim has lapsed"},
	{No: "34d", Name: "hook.taken", Flow: "hook", After: "the webhook took it, and nothing of that was written",
		Then: "it gets it again, under the same webhook-id"},
	{No: "34e", Name: "hook.noted", Flow: "hook", After: "COMMIT of what became of the call",
		Then: "nothing comes again"},
}

package console

import "strings"

// alarmKinds tell alarms apart by what they say, the first that fits: the label of
// orderd_alarms_total, by which somebody is woken. What an alarm is about is in the log.
// A test holds the texts of the whole program against it.
var alarmKinds = []struct{ says, kind string }{
	{"invariant would be broken", "invariant"},
	{"the database refuses", "database"},
	{"of less than a day", "new_person"}, // two people, of whom one may be the other
	{"shipping: ", "shipping"},
	{"webhook: ", "webhook"},
	{"one-time codes", "codes"}, // of people of the console

	// WeChat Pay and this shop.
	{"wechat refuses our credentials", "credentials"},
	{"wechat refuses the merchant", "merchant"},
	{"wechat refuses every prepay", "prepay"},
	{"wechat's answers are not believed", "signature"},
	{"callbacks are not believed", "callback"},
	{"callbacks cannot be opened", "callback"},
	{"answered about something else", "answer"},
	{"does not make the bill", "bill"},

	// Money and orders.
	{"payment held: ", "held"},
	{"a payment is told for two orders", "held"},
	{"refunded elsewhere", "elsewhere"},
	{"a trade opened too late may be payable", "trade"},
	{"wechat does not know a trade", "trade"},
	{"stock of a refund not returned", "stock"},
	{"there is nothing to refund", "state"},
	{"refund of this order is under way", "state"},
	{"yet we hold its payment", "state"},
	{"asked WeChat Pay to close this order", "state"},
	{"there is nothing to revive", "state"},
	{"a late payment goes back whole", "state"},
	{"refund", "refund"}, // whatever else is about one
}

// alarmKind gives the kind of an alarm, other for one that the table does not have.
func alarmKind(what string) string {
	for _, k := range alarmKinds {
		if strings.Contains(what, k.says) {
			return k.kind
		}
	}
	return other
}

// allAlarmKinds are the kinds, each once, with other: an alarm that nobody sorted wakes
// somebody too.
func allAlarmKinds() []string {
	all := []string{other}
	for _, k := range alarmKinds {
		if last := all[len(all)-1]; last != k.kind {
			all = append(all, k.kind)
		}
	}
	return all
}

package console

import (
	"regexp"

	"orderd/order/orderhttp"
)

// refusals are the codes by which WeChat Pay refuses a refund and that have a meaning and a next step of their own:
// words refusal.CODE. What is not here has those of refusalOther.
var refusals = []string{"NOT_ENOUGH", "USER_ACCOUNT_ABNORMAL", "RESOURCE_NOT_EXISTS", "MCH_NOT_EXISTS", "NO_AUTH",
	"SIGN_ERROR", "PARAM_ERROR", "INVALID_REQUEST", "RULE_LIMIT", "FREQUENCY_LIMITED", "SYSTEM_ERROR"}

// refusalOther stands for every other code.
const refusalOther = "OTHER"

// refusalCode is where payment.GatewayError has WeChat Pay's code.
var refusalCode = regexp.MustCompile(`\(status \d+ ([A-Z_]+)\)`)

// refusal says what the problem of a refund means and what to do about it, "" for none: it stands before the text of
// WeChat Pay, which is for whoever asks there.
func (l lang) refusal(problem string) string {
	if problem == "" {
		return ""
	}
	m := refusalCode.FindStringSubmatch(problem)
	if m == nil { // our own words
		if said := orderhttp.InChinese(problem); l == zh && said != problem {
			return said
		}
		return ""
	}
	for _, code := range refusals {
		if code == m[1] {
			return l.word("refusal." + code)
		}
	}
	return l.word("refusal." + refusalOther)
}

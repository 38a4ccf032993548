package webhooks

import (
	"regexp"
	"strings"
	"unicode"

	"orderd/migrations/bounds"
)

// masked is what an endpoint may say back and nobody else shall read: our own headers, and what stands behind a name
// that promises a secret.
var masked = []*regexp.Regexp{
	regexp.MustCompile(`(whsec_)[A-Za-z0-9+/=_-]+`),
	regexp.MustCompile(`(\bv1a?,)[A-Za-z0-9+/=]{16,}`),
	regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}`),
	regexp.MustCompile(`(?i)(\b(?:set-)?cookie\\?["']?\s*[:=]\s*).*`), // of several, to the end
	regexp.MustCompile(`(?i)((?:secret|passwd|password|token|authorization|api[-_]?key|session|openid)` +
		`[\w-]*\\?["']?\s*[:=]\s*[\[({]?\s*\\?["']?)[^\s"',;&}<\\]+`),
	regexp.MustCompile(`(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+`), // of an address
}

// answerOf is what is kept of an endpoint's answer: its beginning as one line of text, without secrets. What is no text
// is dots.
func answerOf(body []byte) string {
	text := strings.ToValidUTF8(string(body), "·")
	text = strings.Join(strings.FieldsFunc(text, unicode.IsSpace), " ")
	text = strings.Map(func(r rune) rune {
		if bounds.Hidden(r) {
			return '·'
		}
		return r
	}, text)
	for _, s := range masked { // before it is cut: half a secret looks like none
		text = s.ReplaceAllString(text, "$1***")
	}
	return bounds.WebhookAnswer.Shorten(text)
}

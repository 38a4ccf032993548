package order

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// What the buyer reads in WeChat Pay's bill. Its page of the prepay (merchant/4012791897)
// wants a description that truly is of the goods.
const (
	// DefaultPayDescription is the template when none is configured.
	DefaultPayDescription = goodsMark
	// goodsMark is the place of the goods in a template.
	goodsMark = "{goods}"
	// maxAroundGoods leaves the goods half of it.
	maxAroundGoods = 60
)

// CheckPayDescription says what is wrong with a template of Config.PayDescription, nil when
// it may be used. "" means the default.
func CheckPayDescription(template string) error {
	around := strings.Replace(template, goodsMark, "", 1)
	switch {
	case template == "":
		return nil
	case around == template || strings.ContainsAny(around, "{}"):
		return fmt.Errorf("the description of payments must have %s once, and no other brackets", goodsMark)
	case len(around) > maxAroundGoods:
		return fmt.Errorf("the description of payments has %d bytes beside %s, it may have %d", len(around), goodsMark,
			maxAroundGoods)
	case around != payment.PlainText(around) ||
		strings.ContainsFunc(around, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("the description of payments must be plain text of one line, without emoji")
	}
	return nil
}

// describe writes what a payment is for: the title of its first goods, the number of all
// pieces when there are more than one, in the shop's template. What is too long is cut
// from the title, at a character. Goods without a readable title are named by their id.
func describe(template, title, skuID string, units int64) string {
	before, after, _ := strings.Cut(cmp.Or(template, DefaultPayDescription), goodsMark)
	if units > 1 {
		after = fmt.Sprintf(" 等 %d 件", units) + after
	}
	title = cmp.Or(tidy(title), skuID)
	return before + strings.TrimSpace(payment.CutBytes(title, bounds.Description.Most-len(before)-len(after))) + after
}

// tidy makes one plain line of a title: no emoji, which WeChat Pay refuses, no controls, nor
// marks that turn or hide text, and blanks one at a time.
func tidy(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Cf, r) && utf8.ValidRune(r):
			return -1
		}
		return r
	}, s)
	return strings.Join(strings.Fields(payment.PlainText(s)), " ")
}

package payment

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"orderd/migrations/bounds"
)

// Classes of characters, for MadeOf. All are ASCII, so bytes and characters are the same.
const (
	Digits    = "0123456789"
	HexDigits = Digits + "abcdefABCDEF"
	Capitals  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	Letters   = "abcdefghijklmnopqrstuvwxyz" + Capitals
	// Word is what our own numbers are made of. WeChat Pay also allows | and * in
	// an out_trade_no and @ in an out_refund_no; all three are left out, because
	// numbers become part of a URL path, which gopay does not escape.
	Word = Digits + Letters + "_-"
)

// MadeOf reports that every byte of s is in a class. "" passes: bounds of the
// length are the caller's.
func MadeOf(s, class string) bool { return strings.Trim(s, class) == "" }

// Visible reports that s has 1 to limit visible ASCII characters: no blank, no
// control character, nothing beyond ASCII. A blank at the end of a key would be
// another key here and the same one for MySQL.
func Visible(s string, limit int) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

// CutBytes shortens text that explains and never decides to n bytes, such as the
// width of its column. A character that the cut would break is left out whole.
func CutBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// placeholder stands for what WeChat Pay refuses in text that only the buyer reads
// (four-byte UTF-8, emoji above all): a title with an emoji must not make an order
// unpayable.
const placeholder = '□'

// PlainText replaces what WeChat Pay would refuse a whole request for, in text that only the
// buyer reads: the description of a payment, and the reason of a refund. The result depends
// on the text alone, so that a repeat sends the same.
func PlainText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r):
			return ' '
		case utf8.RuneLen(r) > 3 || r == utf8.RuneError:
			return placeholder
		}
		return r
	}, s)
}

// ValidOutTradeNo reports whether a number may be put into a URL path at WeChat
// Pay: 6 to 32 characters (its documents of out_trade_no), all of them Word. Any
// other could name another URL.
func ValidOutTradeNo(s string) bool { return bounds.OutTradeNo.Fits(s) }

// ValidOutRefundNo is the same for a refund number: 1 to 64 characters (its
// documents of out_refund_no), all of them Word.
func ValidOutRefundNo(s string) bool { return bounds.OutRefundNo.Fits(s) }

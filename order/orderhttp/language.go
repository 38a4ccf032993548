package orderhttp

import (
	"net/http"
	"strconv"
	"strings"
)

// language is one of those that the details of problems are written in, as
// Content-Language names it (BCP 47). Codes and titles are the same in both.
type language string

const (
	chinese language = "zh-CN"
	english language = "en"
	// maxRanges bounds the parsing of Accept-Language, whose length the client chooses;
	// browsers send up to six ranges.
	maxRanges = 16
)

// PrefersEnglish reports that English is the one of our languages that Accept-Language prefers.
func PrefersEnglish(h http.Header) bool { return languageOf(h) == english }

// languageOf gives the one of our languages that Accept-Language prefers (RFC 9110,
// 12.5.4), Chinese when it says nothing or names neither: buyers are in China. A range
// whose q cannot be read is passed over.
func languageOf(h http.Header) language {
	best, quality := chinese, 0.0
	for _, part := range strings.SplitN(h.Get("Accept-Language"), ",", maxRanges) {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(v, 64); err != nil {
				continue
			}
		}
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if q <= quality {
			continue
		}
		switch primary {
		case "zh":
			best, quality = chinese, q
		case "en":
			best, quality = english, q
		}
	}
	return best
}

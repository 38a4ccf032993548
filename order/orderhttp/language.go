package orderhttp

import (
	"net/http"
	"strconv"
	"strings"
)

// language is one of those that details are written in.
type language string

const (
	chinese language = "zh-CN"
	english language = "en"
	// maxRanges bounds the parsing of Accept-Language; browsers send six.
	maxRanges = 16
)

// languageOf gives the language that a client likes best of ours, Chinese when
// it says nothing or likes neither.
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

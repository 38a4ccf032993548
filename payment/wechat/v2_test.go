package wechat

import (
	"strings"
	"testing"
)

// Only what the older API sends of a refund of this merchant is taken for one: everything else goes the way of all
// callbacks, where it is refused.
func TestV2Refund(t *testing.T) {
	g := mustNew(t, testConfig())
	good := "<xml>\n<return_code>SUCCESS</return_code>\n<appid><![CDATA[wxd678efh567hg6787]]></appid>\n" +
		"<mch_id><![CDATA[1900007291]]></mch_id>\n" +
		"<nonce_str><![CDATA[5K8264ILTKCH16CQ2502SI8ZNMTM67VS]]></nonce_str>\n" +
		"<req_info><![CDATA[T87GAHG17TGAHG1TGHAHAHA1Y1CIOA9UGJA=]]></req_info>\n</xml>"
	for name, tc := range map[string]struct {
		body string
		want bool
	}{
		"as documented":       {good, true},
		"with a declaration":  {`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + good, true},
		"with a BOM":          {"\ufeff" + good, true},
		"with an attribute":   {strings.Replace(good, "<xml>", `<xml version="1">`, 1), true},
		"in lines":            {strings.Replace(good, "T87GAHG", "T87GAHG\n", 1), true}, // as base64 may be
		"another root":        {strings.NewReplacer("<xml>", "<xmlx>", "</xml>", "</xmlx>").Replace(good), false},
		"declared, an entity": {"<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"b\">]>" + good, false},
		"another merchant":    {strings.Replace(good, "1900007291", "1900000001", 1), false},
		"a payment":           {strings.ReplaceAll(good, "req_info", "transaction_id"), false},
		"a failure":           {strings.Replace(good, "SUCCESS", "FAIL", 1), false},
		"cut":                 {good[:len(good)-8], false},
		"JSON":                {notice(tradeBody(nil), nil), false},
		"nothing":             {"", false},
		"too long":            {good + strings.Repeat(" ", MaxNotification), false},
		"an entity":           {"<!DOCTYPE x [<!ENTITY a \"b\">]>" + good, false},
	} {
		if got := g.IsV2Refund([]byte(tc.body)); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

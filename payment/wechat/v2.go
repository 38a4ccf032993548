package wechat

import (
	"bytes"
	"encoding/xml"
	"strings"

	"orderd/payment"
)

// v2Refund is a refund notification of WeChat Pay's older API. A refund that is made on the
// merchant platform, or by v3 without a notify_url, is told so to the address that is set on
// the platform (WeChat's questions about refunds, doc/v3/merchant/4013071200). req_info is
// encrypted with a key of that API, which we do not have: nothing in it is read, and nothing
// signs the rest.
type v2Refund struct {
	XMLName    xml.Name `xml:"xml"`
	ReturnCode string   `xml:"return_code"`
	MchID      string   `xml:"mch_id"`
	ReqInfo    string   `xml:"req_info"`
}

// IsV2Refund reports that a body is a notification of a refund in the older API's form that
// names our merchant number. It proves nothing, since anybody can write one: it is a hint
// that a refund was made elsewhere, which the day's bill books.
func (g *Gateway) IsV2Refund(body []byte) bool {
	if len(body) > MaxNotification {
		return false
	}
	body = afterDeclaration(body)
	if !bytes.HasPrefix(body, []byte("<xml>")) && !bytes.HasPrefix(body, []byte("<xml ")) {
		return false
	}
	var n v2Refund
	return xml.Unmarshal(body, &n) == nil && n.ReturnCode == "SUCCESS" && n.MchID == g.mchID &&
		payment.Visible(strings.Join(strings.Fields(n.ReqInfo), ""), MaxNotification) // base64, perhaps in lines
}

// afterDeclaration gives the root of an XML document and what follows: without the mark of
// UTF-8 and the declaration that writers of XML may put before it.
func afterDeclaration(body []byte) []byte {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\ufeff")))
	if !bytes.HasPrefix(body, []byte("<?xml ")) {
		return body
	}
	_, root, _ := bytes.Cut(body, []byte("?>"))
	return bytes.TrimSpace(root)
}

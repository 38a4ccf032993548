package wechatsim

import (
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // WeChat's choice for fields that it alone may read
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// debitBanks are the fifteen banks to whose debit cards an abnormal refund can go, from
// WeChat's document of it (create-abnormal-refund, 2024-12-30). It gives their names; the
// words are those of the list of banks in the documents of the query.
func debitBanks() []string {
	return []string{"CMB", "COMM", "ABC", "CCB", "ICBC", "BOC", "PAB", "SPDB", "CITIC", "CEB", "CMBC", "CIB", "GDB",
		"PSBC", "NBCB"}
}

// abnormalRequest is the body of apply-abnormal-refund. The last two are encrypted.
type abnormalRequest struct {
	OutRefundNo string `json:"out_refund_no"`
	Type        string `json:"type"`
	BankType    string `json:"bank_type"`
	BankAccount string `json:"bank_account"`
	RealName    string `json:"real_name"`
}

// applyAbnormal is what a merchant does about an abnormal refund (apply-abnormal-refund):
// the money goes to a bank card, the merchant's own or the buyer's, so that it is under way
// again and finds another end.
func (s *Sim) applyAbnormal(x *exchange) answer {
	var all map[string]any
	if refusal := decodeObject(x.body, &all); refusal != nil {
		return *refusal
	}
	var q abnormalRequest
	if json.Unmarshal(x.body, &q) != nil {
		return wrongParam("", nil, "字段类型不正确", tailParam)
	}
	id := x.r.PathValue("refund")
	r := s.findRefundByID(id)
	if r == nil {
		return refuse(http.StatusNotFound, "RESOURCE_NOT_EXISTS", "退款单不存在", tailNotSpecified)
	}
	account, refusal := s.readCard(x, &q, r)
	if refusal != nil {
		return *refusal
	}
	r.t.mu.Lock()
	abnormal := r.v.State == StateAbnormal
	if abnormal {
		r.v.State, r.v.Card, r.v.Account = StateProcessing, q.Type, account
		s.log.add(r.effect("refund_to_card"))
	}
	v := r.v
	r.t.mu.Unlock()
	if !abnormal {
		return refuse(http.StatusBadRequest, "INVALID_REQUEST", "退款单状态不是异常", tailNotSpecified)
	}
	s.scheduleEnd(r)
	return ok(describeRefund(v))
}

// findRefundByID finds a refund by WeChat's number, nil for none.
func (s *Sim) findRefundByID(id string) *refund {
	s.refundMu.RLock()
	defer s.refundMu.RUnlock()
	for _, r := range s.refunds {
		if r.v.RefundID == id { // set once
			return r
		}
	}
	return nil
}

// readCard validates the body; account is how answers name the card from then on.
func (s *Sim) readCard(x *exchange, q *abnormalRequest, r *refund) (account string, refusal *answer) {
	wrong := func(field, issue string) (string, *answer) {
		a := wrongParam(field, nil, issue, tailParam)
		return "", &a
	}
	bank, isDebit := strings.CutSuffix(q.BankType, "_DEBIT")
	switch {
	case q.OutRefundNo != r.v.OutRefundNo:
		return wrong("/out_refund_no", "商户退款单号与微信支付退款单号不一致")
	case q.Type == "MERCHANT_BANK_CARD":
		return "商户结算银行账户", nil
	case q.Type != "USER_BANK_CARD":
		return wrong("/type", "异常退款处理方式须为USER_BANK_CARD或MERCHANT_BANK_CARD")
	case !isDebit || !slices.Contains(debitBanks(), bank):
		return wrong("/bank_type", "仅支持指定银行的借记卡")
	}
	serial := x.r.Header.Get("Wechatpay-Serial")
	i := slices.IndexFunc(s.ring, func(k signer) bool { return k.id == serial })
	if i < 0 {
		return wrong("Wechatpay-Serial", "敏感字段须加密，且请求头须带加密所用公钥ID或证书序列号")
	}
	number, ok1 := unseal(s.ring[i].key, q.BankAccount)
	name, ok2 := unseal(s.ring[i].key, q.RealName)
	switch {
	case !ok1 || len(number) < 12 || len(number) > 19 || strings.Trim(number, "0123456789") != "":
		return wrong("/bank_account", "收款银行卡号解密失败或格式不正确")
	case !ok2 || name == "" || !utf8.ValidString(name):
		return wrong("/real_name", "收款用户姓名解密失败或格式不正确")
	}
	return bank + "借记卡" + number[len(number)-4:], nil
}

// unseal decrypts a field: RSA-OAEP with SHA-1, in base64.
func unseal(key *rsa.PrivateKey, text string) (string, bool) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", false
	}
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, raw, nil) //nolint:gosec // see above
	return string(plain), err == nil
}

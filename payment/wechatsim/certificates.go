package wechatsim

import (
	"net/http"
	"time"
)

// certificates hands out both platform certificates, encrypted with the APIv3 key, or
// 404 to a merchant who has only the public key (Options.PublicKeyOnly). Two at once
// are the normal sight of a rotation: WeChat gives out the next certificate half a year
// before the old one ends, and signs with either.
func (s *Sim) certificates(*exchange) answer {
	if s.o.PublicKeyOnly {
		return refuse(http.StatusNotFound, "RESOURCE_NOT_EXISTS", "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥", tailNotSpecified)
	}
	// entry is one certificate, with the field names of WeChat's document of the
	// certificates.
	type entry struct {
		SerialNo      string `json:"serial_no"`
		EffectiveTime string `json:"effective_time"`
		ExpireTime    string `json:"expire_time"`
		Encrypted     sealed `json:"encrypt_certificate"`
	}
	var list []entry
	for _, c := range []platformCert{s.o.Keys.oldCert, s.o.Keys.newCert} {
		list = append(list, entry{
			SerialNo:      c.serial,
			EffectiveTime: c.cert.NotBefore.In(beijing()).Format(time.RFC3339),
			ExpireTime:    c.cert.NotAfter.In(beijing()).Format(time.RFC3339),
			Encrypted:     s.encrypt(c.pem, "certificate"),
		})
	}
	return ok(map[string]any{"data": list})
}

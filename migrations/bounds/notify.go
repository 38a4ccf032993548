package bounds

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"unicode"
)

// CheckNotifyURL gives what is wrong with an address that WeChat Pay is to send
// notifications to, nil when nothing is. Its page of the prepay wants https, a host name
// that is no IP address, a path, and no query. here allows, for a simulator on this
// machine, plain http and this machine's own address, which WeChat Pay could never reach.
func CheckNotifyURL(raw string, here bool) *Wrong {
	if wrong := NotifyURL.Check(raw); wrong != nil {
		return wrong
	}
	u, err := url.Parse(raw)
	bad := func(why string) *Wrong {
		return &Wrong{CodeFormat, fmt.Sprintf("%s %s, such as https://pay.example.com/wechat/v3/notify/payment",
			NotifyURL.Name, why)}
	}
	switch {
	case err != nil || u.Host == "":
		return bad("is not a whole address")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return bad("must not have a user, a query or a fragment")
	case strings.Trim(u.Path, "/") == "":
		return bad("needs a path")
	case here && (u.Scheme == "http" || u.Scheme == "https"):
		return nil
	case u.Scheme != "https":
		return bad("must begin with https://")
	case !publicName(u.Hostname()):
		return bad("needs a public host name, and no IP address")
	}
	return nil
}

// Origin gives scheme and host of an address in one form: in lower case, and without the port
// that the scheme has anyway.
func Origin(u *url.URL) string {
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := map[string]string{"https": ":443", "http": ":80"}[scheme]; port != "" {
		host = strings.TrimSuffix(host, port)
	}
	return scheme + "://" + host
}

// publicName reports that a host can be a name of the public DNS: it has a dot, and its last
// label a letter, which no IPv4 address has in any spelling of it.
func publicName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	dot := strings.LastIndexByte(host, '.')
	return net.ParseIP(host) == nil && dot > 0 && strings.ContainsFunc(host[dot+1:], unicode.IsLetter)
}

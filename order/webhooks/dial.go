package webhooks

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"orderd/migrations/bounds"
)

// Where nobody's webhook goes, whatever is allowed: these addresses answer about the machine
// itself, with credentials of its cloud.
var neverDialled = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"), // link-local; AWS, Azure, GCP, Tencent
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
	netip.MustParsePrefix("fd00:ec2::254/128"),  // AWS
	netip.MustParsePrefix("fd20:ce::254/128"),   // GCP
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("ff00::/8"),
}

// Addresses of IPv6 that may stand for one of IPv4: they are not public by themselves.
var translated = []netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), // RFC 6052, 8215
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"), // 6to4, Teredo
	netip.MustParsePrefix("::/96"),
}

// within gives the address of IPv4 that one of NAT64 (RFC 6052) or 6to4 (RFC 3056) stands
// for, and any other as it is.
func within(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case translated[0].Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case translated[2].Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// ParseAllow reads the networks that webhooks may go to beside the public internet: CIDRs or
// addresses, with commas between.
func ParseAllow(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		p, err := netip.ParsePrefix(one)
		if err != nil {
			a, err := netip.ParseAddr(one)
			if err != nil {
				return nil, fmt.Errorf("%q is no network such as 10.1.0.0/16, and no address", one)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// mayDial says why a webhook may not go to an address, nil when it may. It is asked about
// the address that is connected to, after the name was resolved: what a name meant a moment
// ago, and what a server redirects to, is all the same.
func mayDial(address string, allow []netip.Prefix, plain bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("webhooks: %q is no address", address)
	}
	a := ap.Addr().Unmap().WithZone("")
	in := func(a netip.Addr, networks []netip.Prefix) bool {
		return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
	}
	switch {
	case in(a, neverDialled) || in(within(a), neverDialled):
		return fmt.Errorf("%s is an address of the machine or its cloud: no webhook goes there", a)
	case in(a, allow):
		return nil
	case plain:
		return fmt.Errorf("%s is reached without TLS, and is not in ORDERD_WEBHOOK_ALLOW: use https://", a)
	case !bounds.PublicAddress(a.String()) || in(a, translated):
		return fmt.Errorf("%s is no address of the internet; add its network to ORDERD_WEBHOOK_ALLOW if it is the "+
			"shop's own", a)
	}
	return nil
}

// Bounds of a call.
const (
	// callTimeout bounds one, from the look-up of the name to the last byte that is read.
	callTimeout = 15 * time.Second
	// idleTimeout is how long a connection waits for the next event.
	idleTimeout = 30 * time.Second
)

// newClient makes the client of endpoints with https:// or, plain, of those without. No proxy
// of the environment is used: it would connect where the guard does not look.
func newClient(allow []netip.Prefix, plain bool) *http.Client {
	dialer := &net.Dialer{Timeout: callTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		return mayDial(address, allow, plain)
	}}
	return &http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{DialContext: dialer.DialContext, IdleConnTimeout: idleTimeout,
			MaxIdleConnsPerHost: atOnce, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

package orderhttp

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"orderd/migrations/bounds"
)

// The widest networks that may be trusted: those of private addresses (10.0.0.0/8, fc00::/7).
// With a wider one, or with two halves of all, any client could say where it is.
const leastBits4, leastBits6 = 8, 7

// ParseProxies reads a list of addresses and networks with commas between, such as
// "10.0.0.0/8, 192.168.1.5". An IPv4 network that is written as one of IPv6 is that network.
func ParseProxies(list string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil && a.Zone() == "" {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		least := leastBits6
		if p.Addr().Is4In6() {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96) // invalid, with bits -1, when that is below 0
		}
		if p.Addr().Is4() {
			least = leastBits4
		}
		if err != nil || p.Bits() < least {
			return nil, fmt.Errorf("%q is neither an address nor a narrow enough network, such as 10.0.0.0/8", s)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// payerIP gives the payer's address for WeChat Pay, "" when it is not known or none of the
// internet. Without any trusted proxy nothing is known: the connection may be that of a
// gateway.
func payerIP(r *http.Request, trusted []netip.Prefix) string {
	at, ok := clientOf(r, trusted)
	if !ok || len(trusted) == 0 || !bounds.PublicAddress(at.String()) {
		return ""
	}
	return at.String()
}

// clientOf gives the address that a request came from; not ok when it is not known. A proxy
// that is trusted says it in X-Forwarded-For, at whose right end each proxy writes its
// client: the last address there that is no trusted proxy's is believed, and what stands left
// of it is the client's own word. Whoever is no trusted proxy is the client.
func clientOf(r *http.Request, trusted []netip.Prefix) (at netip.Addr, ok bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return at, false
	}
	at = peer.Addr().Unmap()
	isProxy := func() bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(at) })
	}
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, next := range slices.Backward(said) {
		if !isProxy() {
			break
		}
		if next = strings.TrimSpace(next); next == "" { // RFC 9110, 5.6.1: an empty element is none
			continue
		}
		if at, err = forwarded(next); err != nil {
			return at, false
		}
	}
	return at, !isProxy() // else nobody but proxies
}

// forwarded reads an address as proxies write it: some add the port, and brackets then.
func forwarded(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap(), nil
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err
}

package orderhttp

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ParseProxies reads a list of addresses and networks with commas between, such as
// "10.0.0.0/8, 192.168.1.5". Networks that hold every address are refused: then any client
// could say where it is.
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
		if err != nil || p.Bits() < 1 {
			return nil, fmt.Errorf("%q is neither an address nor a network, such as 10.0.0.0/8", s)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// payerIP gives the address that a request came from, "" when it is not known. A proxy
// that is trusted says it in X-Forwarded-For, at whose right end each proxy writes its
// client: the last address there that is no trusted proxy's is believed, and what stands
// left of it is the client's own word. Whoever is no trusted proxy is the client. Without
// any trusted proxy nothing is known: the connection may be that of a gateway.
func payerIP(r *http.Request, trusted []netip.Prefix) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || len(trusted) == 0 {
		return ""
	}
	at := peer.Addr().Unmap()
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, next := range slices.Backward(said) {
		if !slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(at) }) {
			return at.String()
		}
		if at, err = netip.ParseAddr(strings.TrimSpace(next)); err != nil || at.Zone() != "" {
			return ""
		}
		at = at.Unmap()
	}
	if slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(at) }) {
		return "" // nobody but proxies
	}
	return at.String()
}

package bounds

import "net/netip"

// notPublic are the networks that netip does not tell from the internet's: this network (RFC
// 1122), carriers' shared addresses (RFC 6598), benchmarks (RFC 2544) and what is reserved
// (RFC 1112).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
}

// PublicAddress reports that a text is an IP address that the internet can have. WeChat Pay
// compares the address of an H5 payer with the one that it sees, which is one of those.
func PublicAddress(s string) bool {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

package sqldb

import (
	"strconv"
	"strings"
)

// gtids is a place in MariaDB's logs, "0-1-42,1-1-7": the last GTID of every domain.
type gtids map[string]gtid

// gtid is the server that wrote, and the number of the change in its domain.
type gtid struct {
	server string
	number uint64
}

// gtidsOf reads a place.
func gtidsOf(place string) gtids {
	all := gtids{}
	for one := range strings.SplitSeq(place, ",") {
		domain, rest, _ := strings.Cut(strings.TrimSpace(one), "-")
		server, number, _ := strings.Cut(rest, "-")
		if n, err := strconv.ParseUint(number, 10, 64); err == nil {
			all[domain] = gtid{server, n}
		}
	}
	return all
}

// has reports that whoever is at g has come to another place. After a fail-over two servers have
// written under one number: what the same server wrote is one log, in which the numbers tell.
// A place of before a switchover is not had by that any more, the next one is.
func (g gtids) has(place gtids) bool {
	for domain, want := range place {
		if is, there := g[domain]; !there || is.server != want.server || is.number < want.number {
			return false
		}
	}
	return true
}

// beyond reports that g is further than a place in one of its domains, or there with what another
// server wrote. A replica of several primaries has domains of others.
func (g gtids) beyond(place gtids) bool {
	for domain, at := range place {
		is := g[domain]
		if is.number > at.number || is.number == at.number && is.server != at.server {
			return true
		}
	}
	return false
}

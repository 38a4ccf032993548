package wechatsim

import (
	"fmt"
	"net/http"
	"strings"
)

// What may be wrong with an entry of WeChat Pay's, whatever is asked there.
const (
	EntryCut    = "cut"    // every connection is cut before anything is handled
	EntrySilent = "silent" // nothing is ever answered, nothing handled
	EntryFails  = "502"    // the gateway in front answers 502, without a signature
	// EntryLost: everything is handled and nothing answered, as when the way back is down.
	EntryLost = "lost"
)

// SetEntry says what is wrong with entry 1, the main one, or 2, the other; "" is nothing.
func (s *Sim) SetEntry(n int, fault string) error {
	switch fault {
	case "", EntryCut, EntrySilent, EntryFails, EntryLost:
	default:
		return fmt.Errorf("entry: unknown fault %q, cut, silent, 502, lost or nothing is needed", fault)
	}
	if n < 1 || n > len(s.entries) {
		return fmt.Errorf("entry %d: 1, the main one, or 2 is needed", n)
	}
	s.entries[n-1].Store(fault)
	s.log.add(Entry{Kind: KindControl, Event: "entry", Detail: fmt.Sprintf("%d %s", n, fault)})
	return nil
}

// entry serves an entry as it is at the time. The control surface has no faults.
func (s *Sim) entry(n int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault, _ := s.entries[n].Load().(string)
		if fault == "" || !strings.HasPrefix(r.URL.Path, "/v3/") {
			next.ServeHTTP(w, r)
			return
		}
		x := &exchange{r: r, endpoint: "entry", plan: plan{names: []string{fault}}}
		switch fault {
		case EntryCut:
			cut(w)
		case EntrySilent:
			s.hold(r, maxFaultDelay)
			cut(w)
		case EntryFails:
			s.write(w, x, statusFault(http.StatusBadGateway, ""))
		case EntryLost:
			next.ServeHTTP(discarded{w.Header().Clone()}, r)
			s.hold(r, maxFaultDelay)
			cut(w)
		}
	})
}

// discarded is an answer that nobody gets.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d discarded) WriteHeader(int)             {}

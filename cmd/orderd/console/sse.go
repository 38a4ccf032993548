package console

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
	"orderd/payment/feed"
)

// Pages are told what changes by GET /ui/events, as server-sent events: counts of the menu when they
// change, and the numbers of orders that did. One tail of the feed serves all streams of a process.

// uiEvents is where pages hear of changes.
const uiEvents = "/ui/events"

const (
	// maxStreams is how many pages of one process are live at a time; the others are as they were loaded.
	maxStreams = 50
	// maxOfOne is how many of them one person may have, by whichever sessions and tokens: the one more ends the oldest,
	// whose page stays as it was loaded. One person with many tabs would otherwise have them all.
	maxOfOne = 5
	// streamRoom is how many messages may wait for a browser; one that is slower begins anew.
	streamRoom = 16
	// lookEvery is how often the feed is looked at, unless Options says otherwise.
	lookEvery = 2 * time.Second
	// beatEvery is after how many looks a stream is looked after: whoever has logged out hears nothing more,
	// and proxies and browsers see that it is alive.
	beatEvery = 5
	// sendWithin bounds one write: a browser that is asleep reads nothing.
	sendWithin = 10 * time.Second
	// ordersTold is how many orders one message names; "more" says that there are others.
	ordersTold = 200
	// pagesOfFeed is how many pages of the feed one look reads.
	pagesOfFeed = 5
)

// changedMessage names orders that have changed.
type changedMessage struct {
	Orders []string `json:"orders"`
	More   bool     `json:"more,omitempty"`
}

// stream is one page that listens.
type stream struct {
	role Role
	who  string      // the person that it is of
	no   int64       // the lower the older
	out  chan string // closed when it was too slow
	last string      // counts that it was told
}

// hub is all streams of a process. It looks at the feed while there are any.
type hub struct {
	mu      sync.Mutex
	streams map[*stream]struct{}
	no      int64
	stop    func() // ends the look and waits for it; nil while there are no streams
}

// makeRoom ends the oldest stream of somebody who has as many as they may. It is told, so that it does not come again
// by itself and ends another one in turn.
func (h *hub) makeRoom(who string) {
	var oldest *stream
	n := 0
	for s := range h.streams {
		if s.who != who {
			continue
		}
		if n++; oldest == nil || s.no < oldest.no {
			oldest = s
		}
	}
	if n < maxOfOne {
		return
	}
	delete(h.streams, oldest)
	select {
	case oldest.out <- message("over", "{}"):
	default: // it was too slow anyway
	}
	close(oldest.out)
}

// join adds a stream of somebody, and begins to look with the first; nil when there are too many. leave must be called.
func (c *console) join(role Role, who string) (s *stream, leave func()) {
	h := &c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.makeRoom(who)
	if len(h.streams) >= maxStreams {
		return nil, nil
	}
	if h.streams == nil {
		h.streams = map[*stream]struct{}{}
	}
	h.no++
	s = &stream{role: role, who: who, no: h.no, out: make(chan string, streamRoom)}
	h.streams[s] = struct{}{}
	if h.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.watch(ctx)
		}()
		h.stop = func() { cancel(); <-done }
	}
	return s, func() {
		h.mu.Lock()
		delete(h.streams, s)
		stop := h.stop
		if len(h.streams) > 0 {
			stop = nil
		} else {
			h.stop = nil
		}
		h.mu.Unlock()
		if stop != nil {
			stop()
		}
	}
}

// lookEvery is how often the feed is looked at.
func (c *console) lookEvery() time.Duration { return cmp.Or(c.EventsEvery, lookEvery) }

// watch tells all streams what happens until ctx ends.
func (c *console) watch(ctx context.Context) {
	pause := time.NewTicker(c.lookEvery())
	defer pause.Stop()
	var tail *feed.Tail
	for {
		if tail == nil {
			if place, err := c.Feed.Newest(ctx); err == nil {
				tail = c.Feed.Tail(place, time.Now) // durations only, never stored
			}
		} else if m := c.changes(ctx, tail); len(m.Orders) > 0 {
			body, _ := json.Marshal(m) // texts
			c.tell(func(*stream) string { return message("changed", string(body)) })
		}
		p := c.pulse(ctx)
		c.tell(func(s *stream) string { return c.counted(s, p) })
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// changes gives the orders of the events since the last look, each once. A database that is away has none.
func (c *console) changes(ctx context.Context, tail *feed.Tail) (m changedMessage) {
	seen := map[string]bool{}
	for range pagesOfFeed {
		events, err := tail.Next(ctx, feed.MaxPage)
		if err != nil {
			break
		}
		for i := range events {
			if no := events[i].OrderNo; no != "" && !seen[no] {
				seen[no] = true
				m.Orders = append(m.Orders, no)
			}
		}
		if len(events) < feed.MaxPage {
			break
		}
	}
	if len(m.Orders) > ordersTold {
		m.Orders, m.More = m.Orders[len(m.Orders)-ordersTold:], true
	}
	return m
}

// counted is the message of the counts for a stream, "" when it knows them.
func (c *console) counted(s *stream, p pulse) string {
	shown := map[string]any{} // numbers, but for what is not counted to its end
	for word, n := range c.countsOf(p, s.role) {
		if shown[word] = n; n > mostCounted {
			shown[word] = counted(n)
		}
	}
	body, _ := json.Marshal(shown) // names and numbers
	if s.last == string(body) {
		return ""
	}
	s.last = string(body)
	return message("counts", s.last)
}

// tell sends each stream its message. One that has no room is ended: its browser comes again, and loads
// what it has missed.
func (c *console) tell(text func(*stream) string) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	for s := range c.hub.streams {
		m := text(s)
		if m == "" {
			continue
		}
		select {
		case s.out <- m:
		default:
			close(s.out)
			delete(c.hub.streams, s)
		}
	}
}

// message is an event as the stream has it. data is JSON, which has no line breaks.
func message(name, data string) string { return "event: " + name + "\ndata: " + data + "\n\n" }

// events is GET /ui/events. Whoever does not ask for a stream gets the counts, and no more.
func (c *console) events(ctx echo.Context) error {
	role, _ := ctx.Get(roleKey).(Role)
	h := ctx.Response().Header()
	if !strings.Contains(ctx.Request().Header.Get(echo.HeaderAccept), "text/event-stream") {
		return ctx.Blob(http.StatusOK, "text/event-stream", []byte(c.counted(&stream{role: role},
			c.pulse(ctx.Request().Context()))))
	}
	s, leave := c.join(role, operator(ctx))
	if s == nil {
		h.Set("Retry-After", "60")
		return &orderhttp.Failure{Code: orderhttp.CodeOverloaded}
	}
	defer leave()
	h.Set(echo.HeaderContentType, "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx keeps answers until they end
	ctx.Response().WriteHeader(http.StatusOK)
	// The time to read a request is over long before, which would end its context.
	_ = http.NewResponseController(ctx.Response()).SetReadDeadline(time.Time{})
	send := sender(ctx)
	beat := time.NewTicker(beatEvery * c.lookEvery())
	defer beat.Stop()
	for ok := send("retry: 5000\n\n"); ok; {
		select {
		case <-ctx.Request().Context().Done():
			return nil
		case <-c.Stopping:
			return nil
		case m, open := <-s.out:
			ok = open && send(m)
		case <-beat.C:
			ok = c.still(ctx, role) && send(": beat\n\n")
		}
	}
	return nil
}

// sender gives what writes to a stream, and says whether it was read in time.
func sender(ctx echo.Context) func(string) bool {
	conn := http.NewResponseController(ctx.Response())
	return func(text string) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(sendWithin)) // a recorder of tests has none
		_, err := ctx.Response().Write([]byte(text))
		return err == nil && conn.Flush() == nil
	}
}

// still reports that whoever opened a stream may read on, in the same role.
func (c *console) still(ctx echo.Context, role Role) bool {
	bounded, cancel := context.WithTimeout(ctx.Request().Context(), apiTimeout)
	defer cancel()
	if secret, ok := strings.CutPrefix(ctx.Request().Header.Get(echo.HeaderAuthorization), "Bearer "); ok {
		who, err := c.who(bounded, secret)
		return err == nil && who != nil && who.Role == role
	}
	if c.Logins == nil {
		return false
	}
	s, err := c.Logins.Still(bounded, c.cookieOf(ctx.Request(), sessionCookie))
	return err == nil && s != nil && s.Role == role
}

// watched are the pages that say that something new is there, whatever it is of.
var watched = []string{"overview", "orders", "refunds", "held"}

// watchKey is where a page says in the echo.Context which order it shows.
const watchKey = "watch"

// watchOf says what changes a page wants to hear of: an order's number, * for all, "" for none.
func (c *console) watchOf(ctx echo.Context, name string) string {
	if no, ok := ctx.Get(watchKey).(string); ok {
		return no
	}
	if slices.Contains(watched, name) && ctx.QueryParam("cursor") == "" {
		return "*"
	}
	return ""
}

package orderhttp

import (
	"net/http"
	"time"
)

// Bounds of a connection. They are the same for all three listeners.
const (
	// readHeaderTimeout ends clients that trickle their headers.
	readHeaderTimeout = 5 * time.Second
	// readTimeout is for headers and body: the 64 KiB of the largest body take two
	// seconds at 256 kbit/s, a bad mobile connection. The upload of a bill moves it.
	readTimeout = 10 * time.Second
	// writeTimeout is from the end of the headers to the end of the answer: the longest
	// poll, and the longest call of WeChat Pay on top, so that no handler is cut before
	// its own budget ends.
	writeTimeout = MaxWait + wechatBudget
	// idleTimeout is how long a connection without a request is kept: as long as the
	// usual proxies keep theirs.
	idleTimeout = 60 * time.Second
	// maxHeaderBytes is room for a token of maxToken, a trace and the headers of a proxy.
	// net/http adds 4 KiB to it.
	maxHeaderBytes = 16 << 10
)

// Server gives a server for a listener's handler, with a bound on everything that a slow
// or hostile client can stretch. The caller serves it and shuts it down.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
}

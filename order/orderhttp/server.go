package orderhttp

import (
	"net/http"
	"time"
)

// Bounds of a connection.
const (
	// readHeaderTimeout ends clients that trickle their headers.
	readHeaderTimeout = 5 * time.Second
	// readTimeout is for headers and body: 64 KiB need no longer on any line.
	readTimeout = 10 * time.Second
	// writeTimeout is the longest poll and the longest call, and air.
	writeTimeout = MaxWait + wechatBudget
	// idleTimeout keeps a client's connection for its next request.
	idleTimeout = 60 * time.Second
	// maxHeaderBytes is room for a token, a trace and little else. (net/http
	// adds 4 KiB to it.)
	maxHeaderBytes = 16 << 10
)

// Server gives a server for a listener's handler, with bounds on everything
// that a slow or hostile client can stretch.
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

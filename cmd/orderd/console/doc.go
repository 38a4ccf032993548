// Package console is what operators use: the admin API below /admin/v1, a few HTML pages,
// metrics, health and profiles, on a listener of its own that is loopback unless
// configured otherwise. cmd/orderd makes it with New and serves it.
//
// It owns operators' tokens and roles, and the metrics of the whole process. It does not
// own any rule about orders, refunds, stock or bills: a handler decodes, calls one method
// and shows the answer, and errors go through the table of package orderhttp, where
// operators see more of them than customers.
//
// What holds for every route:
//   - It names the role that it needs in one of the tables of routes; health, metrics and the
//     pages of problems alone need no token.
//   - What changes something is a POST, PUT or DELETE, with a reason that goes into the
//     timeline, the flows or the log, beside the name of the person. Below /admin/v1 it takes a
//     bearer token; a form of the console takes a browser that is signed in, and no other site's
//     page can post it.
//   - What would overwrite somebody else's change needs If-Match with the version that
//     was read; what moves stock or money needs an Idempotency-Key.
//
// The files in reading order: console.go (tokens, roles, routes, reading of bodies),
// query.go (reading of parameters), orders.go, refunds.go, skus.go, reconcile.go with
// upload.go, tasks.go and tokens.go (the API), session.go and login.go with login.html (people
// who are signed in, and how they come in), ui.go (layout, assets and language of the pages),
// words.go (all of their texts), format.go (money, times and states as they are shown),
// pages_*.go (the pages), chart.go (their drawings), pulse.go and sse.go (what all pages show of the whole,
// and how they hear of changes), metrics.go (what is counted), pprof.go (profiles).
//
// What holds for every page: it works without scripts; nothing is inline and nothing comes from
// elsewhere (strictCSP); every value passes shown; every text is in words, in both languages; and an
// error is a page too, for a browser.
package console

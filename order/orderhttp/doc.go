// Package orderhttp is orderd over HTTP: the customers' API, and the listener that WeChat
// Pay's notifications arrive at. Each is an echo instance of its own, made by New and
// NewNotify; cmd/orderd gives them to http.Server. Package console, the operators' API,
// uses this package's middleware (Edge) and its table of problems (WriteOperatorProblem).
//
// It owns the words of the protocol: routes, JSON names, status codes, customers' tokens,
// limits. It does not own any rule about orders. A handler decodes the request, calls one
// method of order.Service and shows the answer, so what can be paid, cancelled or
// refunded is decided in package order alone.
//
// What holds for every route:
//   - The customer is the subject of the token and never a parameter. An order of
//     somebody else is not found.
//   - A body is one JSON object of at most 64 KiB; a field or parameter that is not known
//     is refused.
//   - An error is application/problem+json with a code that never changes. problem.go is
//     the one table from an error to its status and code; an error that is not in it is a
//     500 that says nothing.
//   - docs/openapi.yaml says the same to clients; tests compare it with the routes and
//     the codes.
//
// The files in reading order: api.go (the customers' routes), edge.go (what happens
// around every handler), problem.go and codes.go (what can go wrong), place.go, pay.go,
// refunds.go and read.go (the handlers), views.go (what they answer), decode.go (what
// they read), auth.go and limit.go (who may ask, and how often), notify.go (WeChat Pay).
package orderhttp

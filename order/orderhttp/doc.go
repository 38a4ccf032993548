// Package orderhttp is orderd over HTTP: the customers' API and the door for
// WeChat Pay's notifications, each an echo instance of its own.
//
// It owns the words of the protocol: routes, JSON names, status codes, tokens,
// limits. It does not own any rule about orders: a handler decodes, calls one
// method of order.Service and shows the answer. problem.go is the one table
// from error to status and code; package console uses the same.
//
// Read in this order: api.go (the routes), edge.go (what happens around every
// handler), problem.go (what can go wrong), notify.go (WeChat Pay).
package orderhttp

// Package console is what operators see: the admin API, metrics and a first
// page, on a listener of its own that is loopback unless configured otherwise.
//
// It owns roles and audited writes. It does not own any rule about orders or
// stock: a handler decodes, calls one method and shows the answer, and errors
// go through the table of package orderhttp.
package console

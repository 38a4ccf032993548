package payment

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// Trace is a request's place in the trace of whoever called (W3C Trace Context, level 1).
// The zero value is none. Nothing is reported anywhere: the id is kept with what the request
// did, and handed on.
type Trace struct {
	ID    string // 32 hexadecimal digits in lower case
	flags string // two, as they came: whether somebody records the trace
}

// Lengths of a header traceparent of version 00, VERSION-TRACE-PARENT-FLAGS, in characters.
const (
	traceIDLen, parentIDLen, flagsLen = 32, 16, 2
	traceparentLen                    = 2 + 1 + traceIDLen + 1 + parentIDLen + 1 + flagsLen
)

// ParseTrace reads the header traceparent. One that does not fit is none, as the
// specification wants (3.2): it may be anybody's text. A later version may have more at its
// end, which is not read.
func ParseTrace(header string) Trace {
	if len(header) < traceparentLen || len(header) > traceparentLen && (header[traceparentLen] != '-' ||
		strings.HasPrefix(header, "00")) {
		return Trace{}
	}
	parts := strings.Split(header[:traceparentLen], "-")
	if len(parts) != 4 || parts[0] == "ff" {
		return Trace{}
	}
	for i, n := range []int{2, traceIDLen, parentIDLen, flagsLen} {
		if len(parts[i]) != n || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return Trace{}
		}
	}
	if strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == "" {
		return Trace{}
	}
	return Trace{ID: parts[1], flags: parts[3]}
}

// Header gives the header traceparent of a call that the request makes, "" for no trace. Each
// call is a parent of its own.
func (t Trace) Header() string {
	if t.ID == "" {
		return ""
	}
	var parent [parentIDLen / 2]byte
	rand.Read(parent[:]) // never fails, says its documentation
	parent[0] |= 1       // all zeros is none
	return "00-" + t.ID + "-" + hex.EncodeToString(parent[:]) + "-" + t.flags
}

// Mark gives the trace as it is kept with what a request did, as it stands in the header:
// ID-FLAGS; "" for no trace.
func (t Trace) Mark() string {
	if t.ID == "" {
		return ""
	}
	return t.ID + "-" + t.flags
}

// MarkedTrace gives the trace of which the Mark stands behind the last slash of a text, the zero
// Trace for none.
func MarkedTrace(text string) Trace {
	mark := text[strings.LastIndexByte(text, '/')+1:]
	if len(mark) == len(text) { // without a slash it is something else
		return Trace{}
	}
	id, flags, _ := strings.Cut(mark, "-")
	return ParseTrace("00-" + id + "-" + strings.Repeat("f", parentIDLen) + "-" + flags)
}

// traceKey is the key of a Trace in a context.
type traceKey struct{}

// WithTrace gives a context whose calls belong to a trace.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceOf gives the trace that a context belongs to, the zero Trace for none.
func TraceOf(ctx context.Context) Trace {
	t, _ := ctx.Value(traceKey{}).(Trace)
	return t
}

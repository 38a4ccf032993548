// Package feed is what the shop is told of, table events_out: a row per event, written by
// whoever does what it tells, in the same transaction, so that neither is there without the
// other. Webhooks and GET /v1/events read it.
//
// An event says that something happened, and of what order; it is thin, so that whoever
// hears of it fetches the rest, and a late or repeated one misleads nobody. Ids are given
// when a row is written and not when it is committed: a smaller id may appear after a larger
// one, and one of a transaction that was undone never does. Tail and After each bear that,
// one by memory and one by patience.
package feed

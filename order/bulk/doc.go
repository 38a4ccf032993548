// Package bulk does one act to all that a filter means: it asks WeChat Pay about orders, closes them, approves refunds.
// It owns the tables bulk_runs and bulk_rows.
//
// A person looks first (Look): how many there are, what they come to, the first of them. Start wants the count that the
// person has typed, and the digest of what they have seen: what the filter means by then must be as many and the same,
// each at the version and amount that it had, or nothing is done. It writes down each row with its version, in the
// transaction that makes the run, so that no run is there without its rows. The rows are then done one after the other,
// by whichever process runs Run or Work: by the same act as that of one thing, with its own rules. A row whose version
// is not the counted one is not touched.
//
// A row that cannot be done now, such as one that somebody else has locked, is passed by and asked for again at the
// end.
//
// A process has a run by a lease. It writes that it does a row before it does it, and what came of it after. Who
// follows one that has died asks for that row once more: the act is bound to the version that was counted and leaves
// the run's id in the timeline, so that what was done already is seen there and never done twice.
package bulk

// Package trail is the audit trail: who did what to what, when, from where and why. It owns the
// table trail, whose rows are added and never changed or deleted.
//
// An act has two rows. The first, Begin, is committed before anything is done, so that nothing is
// done that is not in the trail: when it cannot be written, the act is refused. The second, End,
// says how it ended. An act without one is an act of which nobody knows the end, because its process died;
// what came of it the timeline of the order, the flows of the SKU or the refund says.
//
// Each row has the SHA-256 of the row before it, and its own is of all that it says and of that
// one (Entry.Sum). A row that is changed, taken out or put in between breaks the chain from there
// on, which Check finds (orderd verify, trail.chain). Whoever takes rows off the end leaves a chain that is
// whole; every head is also a line of the log, and in the proof of each day that is closed.
//
// What is asked is what the caller allows to stand there: numbers, names, amounts. A secret never
// is, nor a card, nor a password.
package trail

// Package reconcile compares WeChat Pay's bill of a day with our payments and
// refunds of that day, in both directions. What the bill has and we lack, and
// what can be recorded without a person's decision, is recorded the way a
// notification is; the rest is kept as differences until a person has resolved
// them.
//
// It owns the tables bill_files, bill_chunks, bill_hands, reconciliations, differences,
// difference_notes, matched_across, day_closings and day_closing_parts. It reads
// payments and refunds and writes neither: money and orders are moved by package order
// alone, which this package does not import. What it needs of orders it declares itself,
// as the interface Orders.
//
// Days are Beijing's, as WeChat's bills have them. A run is repeatable: whatever
// runs were killed before it, its result is that of one clean run.
//
// # Reading order
//
// reconcile.go (a run from end to end, and the daily catch-up), bill.go (reading
// a trade bill), spill.go, join.go and match.go (meeting the two sides in little memory),
// across.go (midnight), hands.go (bills that people give), heal.go and orders.go
// (recording what was missed), store.go (the tables),
// result.go (what a run found, and the bridge that proves it), allowed.go and resolve.go
// (what people decide), notes.go (who works on it, and what was said), worksheet.go and
// imports.go (many at once, by a workbook), month.go, closing.go and pack.go (months, closed
// days and their proofs), fundflow.go and export.go.
package reconcile

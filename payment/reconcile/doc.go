// Package reconcile holds WeChat Pay's bill of a day against our payments and
// refunds, both ways, heals what can be healed through the same doors as a
// callback, and keeps the rest as differences until a person has resolved them.
//
// It owns the tables bill_files, bill_chunks, reconciliations, differences and
// matched_across. It moves no money and no order by itself: package order's
// Settle and SettleRefund do.
//
// Days are Beijing's. A run is repeatable: whatever runs were killed before it,
// its result is that of one clean run.
package reconcile

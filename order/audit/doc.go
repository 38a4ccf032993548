// Package audit checks the database against its invariants: every unit of stock,
// every fen and every event must be accounted for, however the rows came there.
//
//   - Verify reads the database in one snapshot and names the rows that break an
//     invariant. Each invariant is a SELECT that must return no row (checks.go).
//   - VerifyWeChat compares the payments and refunds with WeChat Pay's, asking
//     about one after the other.
//   - Repair plans what a program can repair honestly, and says what is left for a
//     person. It writes nothing itself: order.Service.Repair does, which decides
//     again under the lock of the order.
//
// It owns no table and reads all of them by design, with SQL of its own: a checker
// that shared the queries of what it checks would share their mistakes. Orders do
// not know that they are audited; only cmd and tests import this package.
package audit

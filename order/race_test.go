//go:build race

package order_test

// raced: the race detector makes SQLite, which is Go here, ten times slower.
// Random tests run a quarter of their sequences then; MariaDB is not affected.
const raced = true

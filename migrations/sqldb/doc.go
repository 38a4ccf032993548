// Package sqldb is the one package that knows the database engines: how to
// open them, how a transaction is run and retried, which error means what, and
// how concurrent calls are committed together (Group).
//
// One SQL text serves MySQL, MariaDB and SQLite. What differs is here:
// connection settings, error codes, and the suffix FOR UPDATE, which SQLite
// does not know and does not need (it has one writer). Times are stored as
// milliseconds (FromMillis, Millis), because every engine keeps those exactly.
//
// It does not own any table.
package sqldb

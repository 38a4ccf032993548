// Package migrations holds the schema: one folder of goose migrations that
// MySQL, MariaDB and SQLite all read. What only MySQL understands stands in
// executable comments, which SQLite skips. Guards and Bounds list the keys and
// constraints that correctness rests on, and MissingGuards finds those that a
// database lacks.
//
// Rules of a migration: append only, never edited after a release; new code
// must run on the schema before it; one DDL statement a migration where it
// can be, because MySQL's DDL is not transactional; only BIGINT, SMALLINT,
// VARCHAR and TEXT (SQLite would turn others into numbers); no "--" inside a
// string literal (goose splits there).
package migrations

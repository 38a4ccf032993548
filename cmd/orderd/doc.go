// Command orderd is the order service: serve runs it, demo shows it, the other verbs look
// after it.
//
// This package is the only one that knows all parts: it reads the configuration, builds
// the parts from the bottom up (database, orders, scheduler, listeners) and closes them
// from the top down. Interfaces that two packages declare to stay apart are joined here.
// It does not own any rule about orders, money or stock: a verb reads its words, calls
// one method and prints the answer.
//
// What scripts may rely on: exit codes (main.go), names of verbs, flags and variables,
// and the JSON of -o json. Data goes to standard output, words to standard error. A verb
// that changes something asks first, or wants --yes. The environment is read in config.go
// alone.
//
// The files in reading order: main.go (the command line, exit codes, hints), config.go
// with help.go (the settings), app.go (how the service is put together), embedded.go
// (what an empty configuration means), reconcile_orders.go (orders as package reconcile
// needs them); then a file for each group of verbs: serve.go, verbs.go (migrate, token,
// config, version), orders.go, refunds.go, stock.go, reconcile.go, tasks.go, verify.go,
// doctor.go, sim.go; demo.go with buyers.go (the demo).
package main

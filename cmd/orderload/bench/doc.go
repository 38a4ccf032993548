// Package bench is what the measurements of orderload share, once: a private
// MariaDB (server.go), a shop on it (shop.go), a closed loop and its percentiles
// (measure.go, histogram.go), what the kernel says about a process (proc.go), and
// tables in Markdown (table.go).
//
// Two stand-ins live here and nowhere else. Naive (naive*.go) is the peer that
// orderd is measured against: the same rows and the same guarantees, in one
// transaction per order, callback or timeout, as other systems write them.
// Gateway (gateway.go) is a WeChat Pay in memory, so that a measurement ends at
// the database and not at a network.
//
// Nothing here judges speed: a command prints both sides and their ratio. What
// is judged is that the invariants hold afterwards (Verify).
package bench

// Package chaos tries to break orderd from outside: several service processes
// on a private MariaDB and Redis, a WeChat Pay whose ledger nobody can harm,
// buyers in a closed loop, and a nemesis that kills, pauses, cuts and delays.
// Afterwards everything is held against what WeChat Pay did and what the buyers
// were answered. docs/chaos.md says what a run shows and what it does not.
//
//	chaos.go    the phases: warm, faults, heal, liveness, reconcile, verify, cold restart
//	stage.go    servers, services, the simulator, and how they are started and killed
//	shop.go     the buyers, each with a model of what its order may be
//	nemesis.go  what goes wrong, dealt from a shuffled deck
//	truth.go    what WeChat Pay did and saw, on disk as it happens
//	history.go  every call of a buyer and every fault, to find out what happened
//	judge.go    the checks: their names (V1, W1, C1 and so on) are those of docs/chaos.md
//	report.go   the counters, the verdict and the report
//	mutants.go  mistakes made in orderd on purpose: each must turn a run red
//
// There are three verdicts: green, a broken promise (ErrViolation), and a run in which
// too little went wrong to prove anything (ErrInvalid). A seed repeats every choice of
// the harness, not the timing of the machine.
package chaos

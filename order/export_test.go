package order

// DeadRefunds is deadRefunds for the tests.
const DeadRefunds = deadRefunds

package migrations

// BegunTable is begunTable for the tests.
const BegunTable = begunTable

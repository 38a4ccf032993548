package migrations

// BegunTable is begunTable for the tests.
const BegunTable = begunTable

// What a database has of Guards and Bounds.
var (
	FindGuards = findGuards
	FindBounds = findBounds
)

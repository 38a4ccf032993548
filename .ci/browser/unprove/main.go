// Command unprove has a person of the console asked for the password again, which takes minutes
// otherwise. Its arguments are the DSN of a shop that is for tests, and the person.
package main

import (
	"context"
	"log"
	"os"

	"orderd/migrations/sqldb"
)

func main() {
	ctx := context.Background()
	db, err := sqldb.OpenExisting(ctx, os.Args[1])
	if err == nil {
		_, err = db.Pool().ExecContext(ctx, "UPDATE operator_sessions SET proved_at = 0 WHERE person = ?", os.Args[2])
	}
	if err != nil {
		log.Fatal(err)
	}
}

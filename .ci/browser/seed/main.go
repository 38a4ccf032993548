// Command seed puts into the database of a stopped service what no demo has: tasks that failed for good, of two
// causes. Its argument is the database.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"orderd/migrations/sqldb"
	"orderd/scheduler"
)

func main() {
	ctx := context.Background()
	db, err := sqldb.OpenExisting(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var failed []scheduler.Failure
	for i := range 5 {
		cause := "a damaged book"
		if i > 2 {
			cause = "unusable task"
		}
		failed = append(failed, scheduler.Failure{Type: scheduler.TypeExpire, Key: fmt.Sprintf("seed%d", i),
			Cause: errors.New(cause), Poison: true})
	}
	if _, err := scheduler.NewDeadLetters(db, time.Now).Record(ctx, failed); err != nil {
		log.Fatal(err)
	}
}

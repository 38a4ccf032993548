// Command seed puts into the database of a stopped service what no demo has: tasks that failed for good, of some
// causes. Its argument is the database.
package main

import (
	"context"
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
	for i := range 9 {
		failed = append(failed, scheduler.Failure{Type: scheduler.TypeExpire, Key: fmt.Sprintf("seed%d", i),
			Cause: fmt.Errorf("seeded: a damaged book %d", i/3), Poison: true})
	}
	if _, err := scheduler.NewDeadLetters(db, time.Now).Record(ctx, failed); err != nil {
		log.Fatal(err)
	}
}

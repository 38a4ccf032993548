package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/scheduler"
)

// A process says that it runs as soon as it does and that it is gone when it ends; of one that says nothing, nobody
// knows which version it is.
func TestAServiceIsAmongTheProcesses(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	var all []scheduler.Process
	for deadline := time.Now().Add(2 * time.Minute); len(all) == 0 && time.Now().Before(deadline); {
		var err error
		if all, err = scheduler.NewProcesses(a.db, time.Now).List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(all) != 1 || all[0].PID != os.Getpid() || all[0].Roles != "api notify worker admin" ||
		all[0].Version != thisBuild().Version || all[0].Silent(time.Now()) {
		t.Errorf("%+v", all)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(dir, "orderd.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n sql.NullInt64
	err = db.Pool().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM processes").Scan(&n)
	if err != nil || n.Int64 != 0 {
		t.Errorf("%d are left, %v", n.Int64, err)
	}
}

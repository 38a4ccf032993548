package scheduler_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/scheduler"
)

// Whoever rolls out a version sees which processes still run the one before, and which have died; the table has no rows
// of the dead for long.
func TestProcessesSayThatTheyRun(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		now := time.UnixMilli(1_800_000_000_000).UTC()
		ps := scheduler.NewProcesses(db, func() time.Time { return now })
		beat := func(p scheduler.Process) {
			t.Helper()
			if err := ps.Beat(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		list := func(want int) []scheduler.Process {
			t.Helper()
			all, err := ps.List(t.Context())
			if err != nil || len(all) != want {
				t.Fatalf("%d processes, want %d: %+v %v", len(all), want, all, err)
			}
			return all
		}
		old := scheduler.Process{ID: "1", Host: "a", PID: 1, Roles: "api worker", Version: "v1", Revision: "abc",
			Began: now}
		beat(old)
		beat(old) // in the same millisecond
		now = now.Add(scheduler.SilentAfter + time.Millisecond)
		fresh := scheduler.Process{ID: "2", Host: "a", PID: 2, Roles: "admin", Version: "v2", Revision: "def",
			Began: now}
		beat(fresh)
		all := list(2)
		if all[0].Version != "v1" || all[1].Version != "v2" || !all[0].Silent(now) || all[1].Silent(now) ||
			all[0].Roles != "api worker" || !all[1].Began.Equal(now) {
			t.Errorf("%+v", all)
		}
		twin := old // in containers hosts begin alike and every process is number 1
		twin.ID, twin.Version = "3", "v2"
		beat(twin)
		list(3)
		if err := ps.Gone(t.Context(), twin); err != nil {
			t.Fatal(err)
		}
		list(2)
		now = now.Add(time.Hour + time.Millisecond)
		beat(fresh)
		if all := list(1); all[0].PID != 2 {
			t.Errorf("%+v", all)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ps.Keep(ctx, fresh, func(err error) { t.Error(err) })
		list(0)
	})
}

// A process that cannot say that it runs goes on running, and tells of it.
func TestProcessesWithoutADatabase(t *testing.T) {
	db := sqldbtest.SQLite(t)
	ps := scheduler.NewProcesses(db, time.Now)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := errors.New("nothing was told")
	ps.Keep(ctx, scheduler.Process{ID: "1", Host: "a", PID: 1}, func(err error) { told = err; cancel() })
	if !errors.Is(told, sqldb.ErrUnavailable) && told.Error() == "nothing was told" {
		t.Error(told)
	}
}

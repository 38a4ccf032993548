package sqldb_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// overdue is a context whose time is up and whose timer has not fired: what a process finds that stood still.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

// A process that stood still in a transaction goes on seconds later, when its caller has asked again and was told no
// by another process. What it had begun must not be committed then.
func TestNoCommitAfterItsTime(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		err := db.InTx(overdue{t.Context()}, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(context.WithoutCancel(ctx), insertSKU, "mug", 1)
			return err
		})
		if !errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrUnknown) {
			t.Error(err)
		}
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM skus").Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows, %v", n, err)
		}
	})
}

// mute is a connection that hears and cannot speak: one that was reset behind the greeting.
type mute struct{ net.Conn }

func (mute) Write([]byte) (int, error) { return 0, syscall.ECONNRESET }

// A connection that is reset in the middle of being made was an error without a name, which a buyer got as 500: a
// database that is away must be 503, whenever the network goes.
func TestResetWhileConnectingIsAway(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	cfg, err := mysql.ParseDSN("root@tcp(" + server.Addr + ")/mysql")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = &mysql.NopLogger{}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		return mute{conn}, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = connector.Connect(t.Context()); err == nil {
		t.Fatal("connected without a word")
	}
	if got := sqldb.Classify(sqldb.ConnectError(err)); got != sqldb.ClassDown {
		t.Errorf("%v is of class %v", err, got)
	}
}

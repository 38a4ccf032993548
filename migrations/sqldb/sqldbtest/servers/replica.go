package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"
)

// Replicate makes replica, which is empty, follow primary by GTID from here on. Both were
// started with --log-bin and server ids of their own (ReplicaOptions).
func Replicate(ctx context.Context, primary, replica *MariaDB) error {
	host, port, err := net.SplitHostPort(primary.Addr)
	if err != nil {
		return err
	}
	for _, one := range []struct {
		on        *MariaDB
		statement string
	}{
		{primary, "CREATE USER repl@'%'"},
		{primary, "GRANT REPLICATION SLAVE ON *.* TO repl@'%'"},
		{primary, "RESET MASTER"}, // what made the server is not for the replica, which has it
		{replica, "RESET MASTER"},
		{replica, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s, MASTER_USER='repl', "+
			"MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos", host, port)},
		{replica, "START SLAVE"},
	} {
		if err := one.on.Exec(ctx, one.statement); err != nil {
			return fmt.Errorf("%s: %w", one.statement, err)
		}
	}
	return replica.awaitStatus(ctx, "Slave_running", func(is string) bool { return is == "ON" })
}

// ReplicaOptions are what a server needs that replicates or is replicated, under its number. As a primary
// it answers a COMMIT at once until SemiSync.
func ReplicaOptions(number int) []string {
	return []string{fmt.Sprintf("--server-id=%d", number), "--log-bin=log", "--gtid-strict-mode=ON", "--sync-binlog=1",
		"--rpl-semi-sync-slave-enabled=ON", "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
		"--rpl-semi-sync-master-timeout=3600000"}
}

// SemiSync has a primary answer a COMMIT only when a replica has it too, for as long as that takes: turned
// on when a replica is there, since it holds up every statement of one that has none.
func (m *MariaDB) SemiSync(ctx context.Context) error {
	return m.Exec(ctx, "SET GLOBAL rpl_semi_sync_master_enabled = ON")
}

// CaughtUp waits until the replica has done all that it has been sent.
func (m *MariaDB) CaughtUp(ctx context.Context) error {
	if err := m.Exec(ctx, "STOP SLAVE IO_THREAD"); err != nil {
		return err
	}
	return m.poll(ctx, func(db *sql.DB) (bool, error) {
		status, err := slaveStatus(ctx, db)
		return err == nil && status["Slave_SQL_Running_State"] ==
			"Slave has read all relay log; waiting for more updates", err
	})
}

// AwaitCommitThatWaits waits until a primary with SemiSync holds a COMMIT back that no replica has.
func (m *MariaDB) AwaitCommitThatWaits(ctx context.Context) error {
	return m.awaitStatus(ctx, "Rpl_semi_sync_master_wait_sessions", func(is string) bool { return is != "0" })
}

// awaitStatus waits until a status variable is as wanted.
func (m *MariaDB) awaitStatus(ctx context.Context, name string, wanted func(is string) bool) error {
	return m.poll(ctx, func(db *sql.DB) (bool, error) {
		var is string
		err := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&name, &is)
		return err == nil && wanted(is), err
	})
}

// poll asks the server, as root, until it is as wanted.
func (m *MariaDB) poll(ctx context.Context, is func(db *sql.DB) (bool, error)) error {
	db, err := sql.Open("mysql", "root@unix("+m.sock+")/mysql")
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		ok, err := is(db)
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// slaveStatus gives the columns of SHOW SLAVE STATUS.
func slaveStatus(ctx context.Context, db *sql.DB) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	status := map[string]string{}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for i, name := range names {
			status[name] = values[i].String
		}
	}
	return status, rows.Err()
}

// Place gives where a primary's log is, as MASTER_GTID_WAIT takes it.
func (m *MariaDB) Place(ctx context.Context) (gtids string, err error) {
	db, err := sql.Open("mysql", "root@unix("+m.sock+")/mysql")
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&gtids)
	return gtids, err
}

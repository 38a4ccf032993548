package bench

import (
	"context"
	"fmt"
	"strings"

	"orderd/migrations/sqldb"
)

// As opens another pool of connections to the database, under a user of its own whose
// statements the server counts from now on. The caller closes it.
func (d *Database) As(ctx context.Context, user string) (*sqldb.DB, error) {
	for _, query := range []string{"SET GLOBAL userstat = 1", "CREATE USER IF NOT EXISTS " + user + "@localhost",
		"GRANT ALL ON *.* TO " + user + "@localhost"} {
		if err := d.server.maria.Exec(ctx, query); err != nil {
			return nil, fmt.Errorf("count the statements of %s: %w", user, err)
		}
	}
	return sqldb.OpenExisting(ctx, strings.Replace(d.DSN, "mysql:root@", "mysql:"+user+"@", 1))
}

// Statements is how many a user has sent so far that read or write rows, by MariaDB's own count
// (userstat). It leaves out what opens and closes transactions and connections: a pool does that
// at times of its own.
func (d *Database) Statements(ctx context.Context, user string) (n int64, err error) {
	err = d.QueryRowContext(ctx, `SELECT COALESCE(SUM(SELECT_COMMANDS + UPDATE_COMMANDS), 0)
FROM information_schema.USER_STATISTICS
WHERE USER = ?`, user).Scan(&n)
	return n, err
}

// TCP is the address of the database's server on loopback, for a proxy, and DSNAt the DSN of
// the database over such an address.
func (d *Database) TCP() string { return d.server.maria.Addr }

// DSNAt gives the DSN of the database over an address, such as a proxy's.
func (d *Database) DSNAt(addr string) string { return d.server.maria.TCPDSN(addr, d.name) }

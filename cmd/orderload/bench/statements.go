package bench

import (
	"context"
	"database/sql"
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

// Heard gives what is read while do runs and nobody else asks the server: how many rows of tables
// and indexes, by MariaDB's own count (Handler_read), and the text of the SELECTs of a user, with
// their arguments in it.
func (d *Database) Heard(ctx context.Context, user string, do func() error) (rows int64, texts []string, err error) {
	for _, query := range []string{"SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log",
		"SET GLOBAL general_log = 1"} {
		if err := d.server.maria.Exec(ctx, query); err != nil {
			return 0, nil, err
		}
	}
	var counts [3]int64 // twice before, since to count reads rows too, and once after
	for i := range counts {
		if i == 2 {
			if err := do(); err != nil {
				return 0, nil, err
			}
		}
		if err := d.QueryRowContext(ctx, `SELECT CAST(SUM(VARIABLE_VALUE) AS INTEGER)
FROM information_schema.GLOBAL_STATUS
WHERE VARIABLE_NAME LIKE 'HANDLER_READ%'`).Scan(&counts[i]); err != nil {
			return 0, nil, err
		}
	}
	if err := d.server.maria.Exec(ctx, "SET GLOBAL general_log = 0"); err != nil {
		return 0, nil, err
	}
	rows = counts[2] - counts[1] - (counts[1] - counts[0])
	err = sqldb.Each(ctx, d.DB, `SELECT argument
FROM mysql.general_log
WHERE command_type IN ('Execute', 'Query')
  AND argument LIKE 'SELECT%FROM%'
  AND user_host LIKE ?
ORDER BY event_time`, []any{user + "%"}, func(rows *sql.Rows) error {
		var text string
		err := rows.Scan(&text)
		texts = append(texts, text)
		return err
	})
	return rows, texts, err
}

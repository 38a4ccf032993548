package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

// Settings are the flags that all measurements share; kong reads the tags.
type Settings struct {
	Seconds int    `default:"4" help:"Length of one measurement."`
	Rounds  int    `default:"3" help:"Rounds; the two sides take turns in each."`
	Dir     string `type:"path" help:"Folder for the private MariaDB (default: a temporary one)."`
}

// Length is how long one measurement takes.
func (s *Settings) Length() time.Duration { return time.Duration(s.Seconds) * time.Second }

// Folder is the folder of the private servers: --dir, or a new temporary one
// whose name begins with prefix.
func (s *Settings) Folder(prefix string) (string, error) {
	if s.Dir != "" {
		return s.Dir, nil
	}
	return os.MkdirTemp("", prefix)
}

// Start starts a private MariaDB with full durability and with memory enough that
// the world of a measurement fits into it. Further options come last and win.
func (s *Settings) Start(ctx context.Context, options ...string) (*Server, error) {
	dir, err := s.Folder("orderload-")
	if err != nil {
		return nil, err
	}
	options = append([]string{"--innodb-buffer-pool-size=2G", "--innodb-log-file-size=1G"}, options...)
	server, err := StartServer(ctx, dir, options...)
	if err != nil {
		return nil, fmt.Errorf("start a private MariaDB (Debian's mariadb-server is needed): %w", err)
	}
	return server, nil
}

// Server is a MariaDB of this process alone. Stop ends it.
type Server struct {
	maria     *servers.MariaDB
	dir       string
	databases int // how many were made; they are numbered
}

// StartServer starts a MariaDB with the given options in a folder below dir.
func StartServer(ctx context.Context, dir string, options ...string) (*Server, error) {
	maria, err := servers.StartMariaDB(ctx, filepath.Join(dir, "mariadb"), options...)
	if err != nil {
		return nil, err
	}
	return ServerOn(maria, dir), nil
}

// ServerOn is a Server for a MariaDB that has been started in a folder below dir, by
// somebody who may stop it as well.
func ServerOn(maria *servers.MariaDB, dir string) *Server { return &Server{maria: maria, dir: dir} }

// Stop ends the server and removes its data.
func (s *Server) Stop() {
	s.maria.Stop()
	_ = os.Remove(s.dir) // succeeds only when nobody else has files in it
}

// PID is the server's process, for CPUOf and MemoryOf.
func (s *Server) PID() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "mariadb", "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Database is an empty database with orderd's schema.
type Database struct {
	*sqldb.DB
	DSN string // as orderd takes it: "mysql:…"

	name   string
	server *Server
}

// NewDatabase makes a database of its own and migrates it.
func (s *Server) NewDatabase(ctx context.Context) (*Database, error) {
	s.databases++
	name := fmt.Sprintf("bench%d", s.databases)
	if err := s.maria.Create(ctx, name); err != nil {
		return nil, err
	}
	d := &Database{DSN: s.maria.DSN(name), name: name, server: s}
	var err error
	if d.DB, err = sqldb.Open(ctx, d.DSN); err != nil {
		return nil, err
	}
	if _, err = migrations.Up(ctx, d.DB); err != nil {
		return nil, errors.Join(err, d.DB.Close())
	}
	return d, nil
}

// Drop closes the database and removes it: the next one wants its memory.
func (d *Database) Drop(ctx context.Context) error {
	return errors.Join(d.DB.Close(), d.server.maria.Exec(ctx, "DROP DATABASE "+d.name))
}

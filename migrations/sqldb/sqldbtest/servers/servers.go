// Package servers starts private MariaDB and Redis servers for tests and
// benchmarks: own folder, own socket, own port, ended with the process that
// started them. It touches no server that is there already.
package servers

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql" // to ask whether the server is ready
)

// ErrNotInstalled: the server's program is not on this machine.
var ErrNotInstalled = errors.New("server program not found")

// startTimeout bounds a start; a cold one takes a second.
const startTimeout = 30 * time.Second

// find looks for the first of some programs, in PATH and where Debian keeps daemons,
// which is not in the PATH of most people; ErrNotInstalled when none is there.
func find(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		if path := filepath.Join("/usr/sbin", name); isFile(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", names[0], ErrNotInstalled)
}

// isFile: there is a plain file.
func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// child is a server process that dies with this one. start makes its command anew for
// every start, ready asks whether it serves; ended is closed when the process is gone.
type child struct {
	dir   string
	start func() *exec.Cmd
	ready func(ctx context.Context) error
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts the process and waits until it answers, also again after Kill, with the
// files that it left. It dies with this process (Linux's PR_SET_PDEATHSIG), because a
// test binary that is killed cleans up nothing. It has a process group of its own, so
// that an interrupt in the terminal is the test's alone. The error of a server that
// ended at its start has the end of its log.
func (c *child) Start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(c.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c.cmd = c.start()
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // a killed server is what many tests want
		close(ended)
	}(c.cmd, c.ended)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if err = c.ready(ctx); err == nil {
			return nil
		}
		select {
		case <-c.ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("server ended at start: %s", text[max(0, len(text)-2000):])
		case <-ctx.Done():
			return fmt.Errorf("server not ready: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the process as a crash would, and waits until it is gone. Its files stay.
func (c *child) Kill() { c.signal(syscall.SIGKILL); <-c.ended }

// Pause stops the process without ending it, and returns when all its threads
// stand still: a signal is not obeyed at once.
func (c *child) Pause() {
	c.signal(syscall.SIGSTOP)
	for end := time.Now().Add(time.Second); !c.still() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// still reports that every thread is stopped.
func (c *child) still() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", c.cmd.Process.Pid))
	for _, file := range threads {
		text, readErr := os.ReadFile(file)
		// The state stands after the name, which is in parentheses.
		if _, state, found := bytes.Cut(text, []byte(") ")); readErr == nil && found && state[0] != 'T' {
			return false
		}
	}
	return err == nil
}

// Resume lets a paused process go on.
func (c *child) Resume() { c.signal(syscall.SIGCONT) }

// Stop ends the process for good and removes its folder. It may be called after Kill.
func (c *child) Stop() {
	select {
	case <-c.ended:
	default:
		c.Kill()
	}
	_ = os.RemoveAll(c.dir)
}

// signal sends a signal; a process that has ended is no error.
func (c *child) signal(s syscall.Signal) { _ = c.cmd.Process.Signal(s) }

// MariaDB is a private MariaDB (or MySQL) with full durability:
// innodb_flush_log_at_trx_commit=1, so that a killed one has every COMMIT that it
// answered, and a benchmark pays for it.
type MariaDB struct {
	child
	Addr    string // loopback host:port
	sock    string
	options []string // those of StartMariaDB
}

// StartMariaDB makes a data directory below dir and starts a server on it.
// Extra options come last and win.
func StartMariaDB(ctx context.Context, dir string, options ...string) (*MariaDB, error) {
	server, err := find("mariadbd", "mysqld")
	if err != nil {
		return nil, err
	}
	install, err := find("mariadb-install-db", "mysql_install_db")
	if err != nil {
		return nil, err
	}
	m := &MariaDB{child: child{dir: dir}, options: options}
	data, tmp := filepath.Join(dir, "data"), filepath.Join(dir, "tmp")
	for _, d := range []string{data, tmp} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	user := "--user=" + userName()
	out, err := exec.CommandContext(ctx, install, "--no-defaults", user, "--datadir="+data, "--tmpdir="+tmp,
		"--auth-root-authentication-method=normal", "--skip-test-db").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("create a data directory: %w: %s", err, out)
	}
	return m, m.serve(ctx, server)
}

// Clone starts another server on a copy of this one's data, with the same options: what
// was committed when it was called, as a replica that has all of it. Nobody may write
// to this one any more: its threads stand still while the files are copied, and it goes
// on alone, with what it has in hand.
func (m *MariaDB) Clone(ctx context.Context, dir string) (*MariaDB, error) {
	server, err := find("mariadbd", "mysqld")
	if err != nil {
		return nil, err
	}
	c := &MariaDB{child: child{dir: dir}, options: m.options}
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, err
	}
	m.Pause()
	err = os.CopyFS(filepath.Join(dir, "data"), os.DirFS(filepath.Join(m.dir, "data")))
	m.Resume()
	if err != nil {
		return nil, fmt.Errorf("copy a data directory: %w", err)
	}
	return c, c.serve(ctx, server)
}

// serve starts a server on the data directory below its folder.
func (m *MariaDB) serve(ctx context.Context, server string) (err error) {
	if m.Addr, err = FreeAddr(); err != nil {
		return err
	}
	dir, user := m.dir, "--user="+userName()
	data, tmp := filepath.Join(dir, "data"), filepath.Join(dir, "tmp")
	m.sock = filepath.Join(dir, "s")
	_, port, _ := net.SplitHostPort(m.Addr)
	args := append([]string{"--no-defaults", user, "--datadir=" + data, "--tmpdir=" + tmp, "--socket=" + m.sock,
		"--bind-address=127.0.0.1", "--port=" + port, "--pid-file=" + filepath.Join(dir, "pid"),
		"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M",
		"--max-connections=200", "--skip-name-resolve"}, m.options...)
	m.start = func() *exec.Cmd { return exec.Command(server, args...) }
	m.ready = func(ctx context.Context) error {
		db, err := sql.Open("mysql", "root@unix("+m.sock+")/mysql")
		if err != nil {
			return err
		}
		defer db.Close()
		return db.PingContext(ctx)
	}
	return m.Start(ctx)
}

// DSN gives the DSN of a database over the server's socket.
func (m *MariaDB) DSN(db string) string { return "mysql:root@unix(" + m.sock + ")/" + db }

// TCPDSN gives the DSN of a database over an address, the server's own or a proxy's.
func (m *MariaDB) TCPDSN(addr, db string) string { return "mysql:root@tcp(" + addr + ")/" + db }

// Create makes an empty database. It compares text byte by byte, as the tables of the
// schema do.
func (m *MariaDB) Create(ctx context.Context, name string) error {
	return m.Exec(ctx, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
}

// Exec runs a statement as root, who has no password here; it names its database
// itself.
func (m *MariaDB) Exec(ctx context.Context, statement string) error {
	db, err := sql.Open("mysql", "root@unix("+m.sock+")/mysql")
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// Redis is a private redis-server that keeps nothing on disk: a killed one comes back
// empty, unless options say otherwise. It refuses writes rather than forget tasks when
// its memory is full (maxmemory-policy noeviction), as a Redis under asynq should be
// set.
type Redis struct {
	child
	Addr string
}

// StartRedis starts a server that keeps its files in dir. Extra options come last and
// win.
func StartRedis(ctx context.Context, dir string, options ...string) (*Redis, error) {
	r, server, port, err := newRedis(dir)
	if err != nil {
		return nil, err
	}
	listen := []string{"--port", port}
	if slices.Contains(options, "--tls-cert-file") {
		listen = []string{"--port", "0", "--tls-port", port}
	}
	args := slices.Concat(listen, []string{"--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--appendonly", "no", "--maxmemory-policy", "noeviction"}, options)
	r.start = func() *exec.Cmd { return exec.Command(server, args...) }
	return r, r.Start(ctx)
}

// newRedis makes the folder of a Redis, or of a sentinel, that is ready when it takes connections at its
// port; how the program server is started is still to be said.
func newRedis(dir string) (r *Redis, server, port string, err error) {
	if server, err = find("redis-server", "valkey-server"); err != nil {
		return nil, "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", "", err
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, "", "", err
	}
	_, port, _ = net.SplitHostPort(addr)
	r = &Redis{child: child{dir: dir}, Addr: addr}
	r.ready = func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", r.Addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return r, server, port, nil
}

// URL gives the redis:// URL of the server, database 0.
func (r *Redis) URL() string { return "redis://" + r.Addr + "/0" }

// handedOut counts the ports that this process gave away.
var handedOut atomic.Uint32

// FreeAddr gives a loopback address for a server that may be killed and come
// back. No process gives the same one twice until all have been used, another
// test process starts elsewhere, and connections never go out from these
// ports: whoever knocks there finds that server or nobody.
func FreeAddr() (string, error) {
	const first, ports, step = 10_000, 20_000, 6_563 // step: no divisor in common with ports
	start := os.Getpid() * step
	for range ports {
		port := first + (start+int(handedOut.Add(1)))%ports
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("no port from 10000 to 29999 is free")
}

// userName is the system's user that MariaDB is told to run as: it refuses to run as
// root unless it is told to.
func userName() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

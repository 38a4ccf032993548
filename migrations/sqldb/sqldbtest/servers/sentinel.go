package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	// sentinels is how many watch: two of them agree that a master is gone.
	sentinels = 3
	// masterName is what they call it.
	masterName = "shop"
)

// RedisSentinel is a master with a replica, and three sentinels that put the replica in its
// place about a second after it is gone. All want a password of the servers, and the
// sentinels one of their own.
type RedisSentinel struct {
	Nodes     []*Redis // a master and its replica, at the start in this order
	Sentinels []*Redis

	tls *TLSFiles // nil: without
}

// Passwords of the servers and of the sentinels.
const (
	RedisPassword    = "of:the@servers"
	SentinelPassword = "of the/sentinels"
)

// StartRedisSentinel starts them in folders below dir, and waits until the sentinels know
// one another and the replica, which has the master's data. With files all of them talk TLS
// alone, to one another too.
func StartRedisSentinel(ctx context.Context, dir string, files *TLSFiles) (*RedisSentinel, error) {
	s := &RedisSentinel{tls: files}
	err := s.start(ctx, dir)
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("start Redis with sentinels: %w", err)
	}
	return s, nil
}

func (s *RedisSentinel) start(ctx context.Context, dir string) error {
	secrets := []string{"--requirepass", RedisPassword, "--masterauth", RedisPassword,
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}
	for i := range 2 {
		options := secrets
		if i > 0 {
			host, port, _ := net.SplitHostPort(s.Nodes[0].Addr)
			options = append(options[:len(options):len(options)], "--replicaof", host+" "+port)
		}
		node, err := StartRedis(ctx, filepath.Join(dir, strconv.Itoa(i)), append(options, s.tls.options()...)...)
		if err != nil {
			return err
		}
		s.Nodes = append(s.Nodes, node)
	}
	for i := range sentinels {
		watcher, err := s.startSentinel(ctx, filepath.Join(dir, "sentinel"+strconv.Itoa(i)), s.Nodes[0].Addr)
		if err != nil {
			return err
		}
		s.Sentinels = append(s.Sentinels, watcher)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var clients []*redis.Client
	for _, watcher := range s.Sentinels {
		c := redis.NewClient(&redis.Options{Addr: watcher.Addr, Password: SentinelPassword, TLSConfig: s.tls.client()})
		defer func() { _ = c.Close() }() // all at the end
		clients = append(clients, c)
	}
	want := fmt.Sprintf("slaves=1,sentinels=%d", sentinels)
	return all(ctx, clients, func(c *redis.Client) bool {
		info, err := c.Info(ctx, "sentinel").Result()
		return err == nil && strings.Contains(info, want) && strings.Contains(info, "status=ok") && s.inStep(ctx)
	})
}

// inStep reports that the replica has what the master has.
func (s *RedisSentinel) inStep(ctx context.Context) bool {
	c := s.Client(1)
	defer func() { _ = c.Close() }()
	info, err := c.Info(ctx, "replication").Result()
	return err == nil && strings.Contains(info, "master_link_status:up")
}

// Client asks one of the Nodes itself.
func (s *RedisSentinel) Client(node int) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Nodes[node].Addr, Password: RedisPassword,
		TLSConfig: s.tls.client()})
}

// startSentinel starts one that watches a master. It keeps its settings in a file, which it
// writes anew with what it learns.
func (s *RedisSentinel) startSentinel(ctx context.Context, dir, master string) (*Redis, error) {
	r, server, port, err := newRedis(dir)
	if err != nil {
		return nil, err
	}
	host, masterPort, _ := net.SplitHostPort(master)
	file := filepath.Join(dir, "sentinel.conf")
	listen := "port " + port
	if s.tls != nil {
		listen = "port 0\ntls-port " + port + s.tls.lines()
	}
	lines := []string{listen, "bind 127.0.0.1", "dir " + dir, fmt.Sprintf("requirepass %q", SentinelPassword),
		fmt.Sprintf("sentinel sentinel-pass %q", SentinelPassword),
		fmt.Sprintf("sentinel monitor %s %s %s %d", masterName, host, masterPort, sentinels/2+1),
		fmt.Sprintf("sentinel auth-pass %s %q", masterName, RedisPassword),
		"sentinel down-after-milliseconds " + masterName + " 1000",
		"sentinel failover-timeout " + masterName + " 5000"}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	r.start = func() *exec.Cmd { return exec.Command(server, file, "--sentinel") }
	return r, r.Start(ctx)
}

// URL gives the redis+sentinel:// or rediss+sentinel:// URL of the master's database.
func (s *RedisSentinel) URL(database int) string {
	var addrs []string
	for _, watcher := range s.Sentinels {
		addrs = append(addrs, watcher.Addr)
	}
	scheme := "redis"
	if s.tls != nil {
		scheme = "rediss"
	}
	return fmt.Sprintf("%s+sentinel://:of%%3Athe%%40servers@%s/%s/%d?sentinel_password=of+the%%2Fsentinels",
		scheme, strings.Join(addrs, ","), masterName, database)
}

// Stop ends all for good and removes their folders, the sentinels first.
func (s *RedisSentinel) Stop() {
	for _, r := range append(s.Sentinels, s.Nodes...) {
		r.Stop()
	}
}

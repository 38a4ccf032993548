package storm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/redis/go-redis/v9"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/scheduler"
)

// rig is the private servers of a run, which all modes use one after the other. The
// process ids are for CPU and memory, which /proc has.
type rig struct {
	maria    *bench.Server
	redis    *servers.Redis
	client   redis.UniversalClient
	mariaPID int
	redisPID int
}

// maxConnections is the private MariaDB's: enough for maxWorkers services with
// their pools, and for this process.
const maxConnections = "--max-connections=500"

// startRig starts the servers; stop ends them. What is missing on the machine is named in
// the error, with the package of Debian that has it.
func (k *Cmd) startRig(ctx context.Context, set *bench.Settings) (r *rig, err error) {
	dir, err := set.Folder("orderload-expire-")
	if err != nil {
		return nil, err
	}
	r = &rig{}
	defer func() {
		if err != nil {
			r.stop()
			r = nil
		}
	}()
	r.maria, err = bench.StartServer(ctx, dir, "--innodb-buffer-pool-size="+k.BufferPool,
		"--innodb-log-file-size="+k.LogFile, maxConnections)
	if err != nil {
		return r, fmt.Errorf("start a private MariaDB (Debian's mariadb-server is needed, "+
			"and memory for --buffer-pool %s): %w", k.BufferPool, err)
	}
	if r.mariaPID, err = r.maria.PID(); err != nil {
		return r, err
	}
	if r.redis, err = servers.StartRedis(ctx, filepath.Join(dir, "redis")); err != nil {
		return r, fmt.Errorf("start a private Redis (Debian's redis-server is needed): %w", err)
	}
	if r.client, err = scheduler.Connect(r.redis.URL()); err != nil {
		return r, err
	}
	r.redisPID, err = redisPID(ctx, r.client)
	return r, err
}

// stop ends what was started, also after half a start.
func (r *rig) stop() {
	if r.client != nil {
		_ = r.client.Close()
	}
	if r.redis != nil {
		r.redis.Stop()
	}
	if r.maria != nil { // the last: it removes the folder of both
		r.maria.Stop()
	}
}

// redisPID asks Redis itself: the servers package does not tell it.
func redisPID(ctx context.Context, client redis.UniversalClient) (int, error) {
	text, err := client.Info(ctx, "server").Result()
	if err != nil {
		return 0, err
	}
	if pid := bench.Field(text, "process_id:"); pid > 0 {
		return int(pid), nil
	}
	return 0, errors.New("redis does not tell its process id")
}

// redisMemory is used_memory of INFO in bytes, 0 while Redis does not answer: a sample
// with 0 raises no peak.
func redisMemory(ctx context.Context, client redis.UniversalClient) int64 {
	text, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return 0
	}
	return bench.Field(text, "used_memory:")
}

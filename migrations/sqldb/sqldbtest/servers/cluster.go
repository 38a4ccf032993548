package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterSlots is how many slots the masters of a cluster share, by the Redis Cluster
// specification.
const clusterSlots = 16384

// RedisCluster is a private Redis Cluster. It takes another second over a node
// that is dead, and then its replica's word.
type RedisCluster struct {
	Nodes []*Redis // the masters, then the first replica of each, then the second …
	bus   []string // of each node, the port the nodes speak to one another on
}

// StartRedisCluster starts masters, each with so many replicas, in folders
// below dir, and waits until all of them agree and the replicas have their data. Extra
// options of the nodes come last and win.
func StartRedisCluster(ctx context.Context, dir string, masters, replicas int,
	options ...string) (*RedisCluster, error) {
	c := &RedisCluster{}
	for i := range masters * (1 + replicas) {
		if err := c.add(ctx, filepath.Join(dir, strconv.Itoa(i)), options); err != nil {
			c.Stop()
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.form(ctx, masters); err != nil {
		c.Stop()
		return nil, fmt.Errorf("form a Redis Cluster: %w", err)
	}
	return c, nil
}

// add starts a node that knows nobody. Its bus has an address that nobody else
// gets: the port that Redis would take, 10,000 above its own, may be anybody's.
func (c *RedisCluster) add(ctx context.Context, dir string, options []string) error {
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	_, bus, _ := net.SplitHostPort(addr)
	node, err := StartRedis(ctx, dir, append([]string{"--cluster-enabled", "yes", "--cluster-port", bus,
		// a replica is named when it has heard something
		"--cluster-node-timeout", "1500", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"},
		options...)...)
	if err != nil {
		return err
	}
	c.Nodes, c.bus = append(c.Nodes, node), append(c.bus, bus)
	return nil
}

// form makes one cluster of the nodes, by the commands that redis-cli --cluster create
// would send: an epoch each, acquaintance, the slots, and when all know one another the
// replicas. Without epochs of their own the masters would first have to settle a
// conflict.
func (c *RedisCluster) form(ctx context.Context, masters int) error {
	var clients []*redis.Client
	for _, n := range c.Nodes {
		client := redis.NewClient(&redis.Options{Addr: n.Addr})
		defer func() { _ = client.Close() }() // all at the end
		clients = append(clients, client)
	}
	for i, client := range clients {
		if err := client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
		host, port, _ := net.SplitHostPort(c.Nodes[i].Addr)
		if err := clients[0].Do(ctx, "cluster", "meet", host, port, c.bus[i]).Err(); err != nil {
			return err
		}
		if i < masters {
			if err := client.ClusterAddSlotsRange(ctx, i*clusterSlots/masters,
				(i+1)*clusterSlots/masters-1).Err(); err != nil {
				return err
			}
		}
	}
	known := "cluster_known_nodes:" + strconv.Itoa(len(clients)) + "\r\n"
	if err := all(ctx, clients, func(client *redis.Client) bool {
		info, err := client.ClusterInfo(ctx).Result()
		return err == nil && strings.Contains(info, known)
	}); err != nil {
		return fmt.Errorf("the nodes do not find one another: %w", err)
	}
	for i, client := range clients[masters:] {
		id, err := clients[i%masters].ClusterMyID(ctx).Result()
		if err == nil {
			err = client.ClusterReplicate(ctx, id).Err()
		}
		if err != nil {
			return err
		}
	}
	serving := func(client *redis.Client) bool { return serves(ctx, client, len(clients)) }
	if err := all(ctx, clients, serving); err != nil {
		return fmt.Errorf("the nodes do not agree: %w", err)
	}
	return nil
}

// serves reports that a node sees the whole cluster at work, each of the nodes
// in its place, and that it has its master's data.
func serves(ctx context.Context, client *redis.Client, nodes int) bool {
	state, err := client.ClusterInfo(ctx).Result()
	replication, err2 := client.Info(ctx, "replication").Result()
	slots, err3 := client.ClusterSlots(ctx).Result()
	for _, s := range slots {
		nodes -= len(s.Nodes)
	}
	return errors.Join(err, err2, err3) == nil && nodes == 0 &&
		strings.Contains(state, "cluster_state:ok") && !strings.Contains(replication, "master_link_status:down")
}

// all waits until every node is as wanted, or ctx ends.
func all(ctx context.Context, clients []*redis.Client, is func(*redis.Client) bool) error {
	for _, client := range clients {
		for !is(client) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s: %w", client.Options().Addr, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// Node finds a node by its address, nil when there is none.
func (c *RedisCluster) Node(addr string) *Redis {
	for _, n := range c.Nodes {
		if n.Addr == addr {
			return n
		}
	}
	return nil
}

// URL gives the redis+cluster:// URL of the cluster, with all nodes.
func (c *RedisCluster) URL() string {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Addr)
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

// Stop ends all nodes for good and removes their folders, also of a cluster that was
// only half made.
func (c *RedisCluster) Stop() {
	for _, n := range c.Nodes {
		n.Stop()
	}
}

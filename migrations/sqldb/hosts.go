package sqldb

import (
	"context"
	"database/sql/driver"
	"fmt"
	"sync"
)

// hostState is how one host of a DSN is.
type hostState struct {
	name   string // with its port
	server string // what it calls itself: two addresses can lead to one server
	writes bool
	err    error // it cannot be reached, or lets nobody in
}

// hosts asks all hosts of the DSN at once, each for as long as a connection would; nil when it
// names one.
func (db *DB) hosts(ctx context.Context) []hostState {
	c, ok := db.connect.(*connector)
	if !ok || len(c.hosts) < 2 {
		return nil
	}
	all := make([]hostState, len(c.hosts))
	var asked sync.WaitGroup
	for i := range all {
		asked.Go(func() { all[i] = c.state(ctx, i) })
	}
	asked.Wait()
	return all
}

// state asks one host.
func (c *connector) state(ctx context.Context, host int) hostState {
	is := hostState{name: c.names[host], server: c.names[host]}
	conn, leads, err := c.try(ctx, host)
	if is.err = err; err != nil {
		return is
	}
	defer func() { _ = conn.Close() }()
	is.writes = leads
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "SELECT @@hostname, @@port, @@datadir", nil)
	if err != nil {
		return is
	}
	defer func() { _ = rows.Close() }()
	if value := make([]driver.Value, len(rows.Columns())); rows.Next(value) == nil {
		is.server = fmt.Sprint(value)
	}
	return is
}

package redisgate

import (
	"context"

	"orderd/stock/gate"
)

// Find implements gate.Queue.
func (s *Shared) Find(context.Context, string, string) (q gate.Queued, found bool, err error) { return }

// Withdraw implements gate.Queue.
func (s *Shared) Withdraw(context.Context, string, string) (withdrawn, found bool, err error) { return }

// Claim implements gate.Queue.
func (s *Shared) Claim(context.Context, int) (entries []gate.Entry, err error) { return }

// Done implements gate.Queue.
func (s *Shared) Done(context.Context, []gate.Entry) error { return nil }

// Refuse implements gate.Queue.
func (s *Shared) Refuse(context.Context, gate.Entry, []byte) error { return nil }

// Depths implements gate.Queue.
func (s *Shared) Depths(context.Context) (depths []gate.Depth, err error) { return }

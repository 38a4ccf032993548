package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/order/shops"
	"orderd/payment/operators"
	"orderd/payment/trail"
)

// endTimeout bounds the writing of how an act ended.
const endTimeout = 5 * time.Second

// recorded does what somebody at this machine wants done about people, tokens or keys: it is in the audit
// trail before it is done, and how it ended after it. What cannot be written down is not done.
func (c *core) recorded(ctx context.Context, actor string, what trail.What, do func() error) error {
	act, err := c.trail.Begin(ctx, trail.Who{Actor: actor}, what)
	if err != nil {
		return err
	}
	err = do()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	return errors.Join(err, act.End(end, "", endOf(err), "", ""))
}

// endOf says how an act ended: refused by a rule, or failed.
func endOf(err error) string {
	if err == nil {
		return trail.Done
	}
	if slices.ContainsFunc([]error{operators.ErrNoAccount, operators.ErrRole, operators.ErrName, operators.ErrExists,
		console.ErrNoToken, console.ErrTokenExists, shops.ErrName, shops.ErrScope, shops.ErrTwoKeys, shops.ErrNotFound},
		func(rule error) bool { return errors.Is(err, rule) }) {
		return trail.Refused
	}
	return trail.Failed
}

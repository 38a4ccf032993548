package main

import (
	"context"
	"errors"
)

type httpCmd struct {
	Callers int `default:"256" help:"Concurrent connections."`
}

// Run is filled in when the HTTP layer is there.
func (h *httpCmd) Run(context.Context, *cli) error { return errors.New("not yet") }

package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/scheduler"
)

// healthFor is how long what the page of health shows is kept: whoever reloads it as often as he can has
// the servers asked this often.
const healthFor = 5 * time.Second

// health gives what the console shows of this process: its build, its settings, and those findings of doctor
// that cost no call to WeChat Pay and no look through the books.
func (a *app) health() func(context.Context) console.Health {
	var mu sync.Mutex
	var at time.Time
	var last console.Health
	return func(ctx context.Context) console.Health {
		mu.Lock()
		defer mu.Unlock()
		if age := time.Since(at); !at.IsZero() && age < healthFor {
			return last
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthFor) // others are shown it, too
		defer cancel()
		last, at = a.healthNow(bounded), time.Now()
		return last
	}
}

// healthNow is health, without what was found before.
func (a *app) healthNow(ctx context.Context) console.Health {
	b := thisBuild()
	h := console.Health{Version: b.Version, Commit: b.Commit, Go: b.Go, Began: a.began}
	for _, f := range a.s.fields() {
		h.Settings = append(h.Settings, console.Setting{Name: f.env, Value: f.masked(), Origin: a.s.origins[f.env]})
	}
	h.SchemaHas, h.SchemaKnows, _ = migrations.Versions(ctx, a.db)       // the findings say when it cannot be read
	h.Processes, _ = scheduler.NewProcesses(a.db, a.clock.Now).List(ctx) // as above
	for _, d := range checkVariables(ctx, &patient{s: a.s}) {
		h.Findings = append(h.Findings, d.Finding)
	}
	if !a.s.simulated() {
		h.Findings = append(h.Findings, keyFindings(a.gateway)...)
	}
	h.Findings = append(h.Findings, schemaFinding(ctx, a.db), checkClock(ctx, a.db))
	if safety, err := a.db.Safety(ctx); err == nil {
		h.Findings = append(h.Findings, safety...)
	}
	if a.mini == nil {
		h.Findings = append(h.Findings, scheduler.Safety(ctx, a.redis)...)
	}
	if gates, err := a.stock.GateStocks(ctx); err == nil {
		h.Findings = append(h.Findings, gateFinding(gates, a.clock.Now()))
	}
	waiting, err := waitingFindings(ctx, a.core)
	if err != nil {
		waiting = []sqldb.Finding{{ID: "orders", Level: sqldb.LevelWarn, Found: err.Error(),
			Why: "they could not be looked at", Fix: "see the lines above"}}
	}
	h.Findings = append(h.Findings, waiting...)
	slices.SortStableFunc(h.Findings, func(x, y sqldb.Finding) int { return worse(x.Level) - worse(y.Level) })
	return h
}

// self is what this process says of itself.
func (a *app) self(roles []string) scheduler.Process {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	b := thisBuild()
	return scheduler.Process{ID: a.id, Host: host, PID: os.Getpid(), Roles: strings.Join(roles, " "),
		Version: b.Version, Revision: b.Commit, Began: a.began}
}

// worse orders findings: what must be mended first.
func worse(l sqldb.Level) int {
	return slices.Index([]sqldb.Level{sqldb.LevelFail, sqldb.LevelWarn, sqldb.LevelOK}, l)
}

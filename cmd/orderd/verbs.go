package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/cmd/screen"
	"orderd/migrations"
	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/order/orderhttp"
	"orderd/payment"
)

// output is how data is shown; verbs that show some embed it. JSON is a contract with
// scripts, the table is for people and may change.
type output struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

// pageRows is how many rows a list shows. One that showed none, or all, would be taken for
// what there is.
type pageRows int

// Validate is kong's, for what was given.
func (n pageRows) Validate() error {
	if n < 1 || n > maxPageRows {
		return fmt.Errorf("a list shows 1 to %d rows; --cursor goes on where it ended", maxPageRows)
	}
	return nil
}

// maxPageRows is that of the operators' API.
const maxPageRows = 200

// show writes v as JSON, or a table by write (screen.Table).
func (o output) show(t *terminal, v any, write func(w io.Writer)) error {
	if o.Output == "json" {
		return screen.JSON(t.Out, v)
	}
	return screen.Table(t.Out, write)
}

// viewed gives rows as the API shows them; [] and not null when there are none.
func viewed[R, V any](rows []R, view func(*R) V) []V {
	all := make([]V, len(rows))
	for i := range rows {
		all[i] = view(&rows[i])
	}
	return all
}

// confirm is for verbs that change something; they embed it and call ask first.
type confirm struct {
	Yes bool `help:"Do not ask."`
}

// ask is nil when the person, or --yes, agrees. Without a terminal nobody can be asked:
// errUsage, so that a script says --yes on purpose. Any answer but y or yes is no.
func (c confirm) ask(t *terminal, question string) error {
	if c.Yes {
		return nil
	}
	if !t.Ask {
		return fmt.Errorf("%w: this changes something and nobody can be asked: add --yes", errUsage)
	}
	screen.Printf(t.Err, "%s [y/N] ", question)
	// The end of the input is an empty answer, which is no.
	line, _ := bufio.NewReader(t.In).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("not done")
	}
	return nil
}

// twoPersons says above which sum an act takes two people, for the question before it.
func (s *settings) twoPersons() string {
	if s.TwoPersons == 0 {
		return "one person is enough, whatever the sum"
	}
	return "above " + payment.Fen(s.TwoPersons).String() + " yuan, all refunds of a payment together, it takes two " +
		"people"
}

// reason is why a person does what cannot be taken back. kong calls Validate while it reads
// the command line, so that nothing is done, and nobody asked, without one that fits.
type reason string

// Validate gives what is wrong with it, nil for one that fits.
func (r reason) Validate() error {
	if wrong := bounds.Reason.Check(string(r)); wrong != nil {
		return errors.New(wrong.Detail)
	}
	return nil
}

// quietLogger is for verbs, whose words are their own: what the service would log would
// stand between them.
func quietLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// withCore opens what a verb needs, does it and closes again: database, orders, a gateway
// to WeChat Pay. The schema must be there; migrate is the verb that makes it. What changes
// something is in the audit trail, before it is done and after it.
func withCore(ctx context.Context, s *settings, do func(c *core) error) error {
	c, err := openCore(ctx, s, shape{}, quietLogger())
	if err != nil {
		return err
	}
	defer c.Close()
	c.act = s.act
	return c.recorded(ctx, do)
}

// migrateCmd is `orderd migrate …`, over package migrations. serve refuses a database
// that lacks one.
type migrateCmd struct {
	Up     migrateUp     `cmd:"" help:"Apply every missing migration."`
	Down   migrateDown   `cmd:"" help:"Take the newest migration back. Destroys data."`
	Status migrateStatus `cmd:"" help:"List migrations."`
	// Parts is the verb where there is none: orderd migrate --partition 16.
	Parts migrateParts `cmd:"" default:"withargs" help:"On TiDB: spread what is written over machines."`
}

// The verbs of migrate.
type migrateUp struct{}
type migrateDown struct{ confirm }
type migrateStatus struct{ output }
type migrateParts struct {
	confirm
	Partition int  `placeholder:"N" help:"Into how many parts each table goes that grows at its end (2 to 128)."`
	DryRun    bool `help:"Show the statements, do nothing."`
}

// withDB opens the database alone, whatever its schema, and closes it again. open is
// sqldb.Open for the one verb that may make it, else sqldb.OpenExisting.
func withDB(ctx context.Context, s *settings, open func(context.Context, string) (*sqldb.DB, error),
	do func(db *sqldb.DB) error) error {
	db, err := open(ctx, s.dsn())
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

// Run applies migrations and names each. It says so of those before an error too.
func (*migrateUp) Run(ctx context.Context, s *settings, t *terminal) error {
	return withDB(ctx, s, sqldb.Open, func(db *sqldb.DB) error {
		applied, err := migrations.Up(ctx, db)
		for _, m := range applied {
			screen.Printf(t.Err, "applied %s\n", m.Name)
		}
		if err == nil && len(applied) == 0 {
			screen.Printf(t.Err, "the schema is up to date\n")
		}
		return err
	})
}

// Run takes the newest migration back, one at a time: it drops what that made.
func (c *migrateDown) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "Take the newest migration back? Its tables and their data are dropped."); err != nil {
		return err
	}
	return withDB(ctx, s, sqldb.OpenExisting, func(db *sqldb.DB) error {
		m, err := migrations.Down(ctx, db)
		if err == nil {
			screen.Printf(t.Err, "took back %s\n", m.Name)
		}
		return err
	})
}

// Run shows the statements, and runs them when a person, or --yes, agrees.
func (c *migrateParts) Run(ctx context.Context, s *settings, t *terminal) error {
	if c.Partition == 0 {
		return fmt.Errorf("%w: 'orderd migrate' is up, down, status or --partition N", errUsage)
	}
	return withDB(ctx, s, sqldb.OpenExisting, func(db *sqldb.DB) error {
		plan, err := migrations.PartitionPlan(ctx, db, c.Partition)
		switch {
		case err != nil:
			return err
		case len(plan) == 0:
			screen.Printf(t.Err, "every table is in %d parts\n", c.Partition)
			return nil
		}
		for _, statement := range plan {
			screen.Printf(t.Out, "%s;\n", statement)
		}
		if c.DryRun {
			return nil
		}
		if err := c.ask(t, "Run these? TiDB copies each table and goes on serving it."); err != nil {
			return err
		}
		return migrations.Partition(ctx, db, plan, func(statement string) {
			screen.Printf(t.Err, "done %s\n", statement)
		})
	})
}

// Run lists migrations.
func (c *migrateStatus) Run(ctx context.Context, s *settings, t *terminal) error {
	return withDB(ctx, s, sqldb.OpenExisting, func(db *sqldb.DB) error {
		all, err := migrations.Status(ctx, db)
		if err != nil {
			return err
		}
		return c.show(t, all, func(w io.Writer) {
			screen.Printf(w, "VERSION\tNAME\tAPPLIED\n")
			for _, m := range all {
				screen.Printf(w, "%d\t%s\t%v\n", m.Version, m.Name, m.Applied)
			}
		})
	})
}

// tokenCmd is `orderd token …`.
type tokenCmd struct {
	Create tokenCreate `cmd:"" help:"Make a customer's or an operator's token, or a shop's key."`
	List   tokenList   `cmd:"" help:"List operators' tokens and shops' keys, never their secrets."`
	Revoke tokenRevoke `cmd:"" help:"End an operator's token or a shop's key, within two seconds everywhere."`
}

// tokenCreate is `orderd token create`: for a customer, signed here and stored nowhere,
// or for an operator, whose hash is stored; --operator makes the account too.
type tokenCreate struct {
	Customer string        `xor:"who" required:"" help:"Customer id."`
	Operator string        `xor:"who" required:"" help:"Operator's name, used once and for ever in audits."`
	Person   string        `xor:"who" required:"" help:"Name of an operator who has an account: another token of it."`
	Shop     string        `xor:"who" required:"" help:"Name of a shop's back end, which has two keys at a time."`
	Scopes   []string      `help:"With --shop: place,read,refund,stock."`
	Label    string        `help:"With --person: what the token is for, such as laptop; its first token needs none."`
	Role     console.Role  `enum:"viewer,operator,finance,admin" default:"viewer" help:"${token_create_role}"`
	Expires  time.Duration `default:"24h" help:"${token_create_expires}"`
}

// Run prints a token on standard output, and nothing else there: T=$(orderd token create
// …) works. A customer's needs ORDERD_CUSTOMER_JWT_SECRET, or the simulator; with a
// public key orderd cannot make any.
func (c *tokenCreate) Run(ctx context.Context, s *settings, t *terminal) error {
	if c.Shop != "" {
		return withCore(ctx, s, func(co *core) error { return createShopKey(ctx, co, t, c.Shop, c.Scopes) })
	}
	if c.Operator != "" || c.Person != "" {
		return withCore(ctx, s, func(co *core) error {
			var secret string
			var err error
			if store := co.tokens; c.Person != "" {
				_, secret, err = store.CreateFor(ctx, c.Person, c.Label, byWhom())
			} else {
				secret, err = store.Create(ctx, c.Operator, c.Role, byWhom())
			}
			if err != nil {
				return err
			}
			screen.Printf(t.Err, "this is the only time that the secret is shown:\n")
			screen.Printf(t.Out, "%s\n", secret)
			return nil
		})
	}
	secret, err := s.jwtSecret(false)
	if err != nil {
		return misconfigured(err)
	}
	if most := cmp.Or(s.CustomerTokenLife, orderhttp.DefaultTokenLife); c.Expires > most {
		return fmt.Errorf("%w: --expires is at most ORDERD_CUSTOMER_TOKEN_LIFE, %s", errUsage, most)
	}
	token, err := orderhttp.MintToken([]byte(secret), c.Customer, time.Now(), c.Expires)
	if err != nil {
		return err
	}
	screen.Printf(t.Out, "%s\n", token)
	return nil
}

// tokenList is `orderd token list`.
type tokenList struct{ output }

// Run lists operators' tokens.
func (c *tokenList) Run(ctx context.Context, s *settings, t *terminal) error {
	return withCore(ctx, s, func(co *core) error {
		all, err := co.tokens.List(ctx)
		if err != nil {
			return err
		}
		keys, err := co.shops.List(ctx)
		if err != nil {
			return err
		}
		for _, k := range keys { // their role is what they may do
			all = append(all, console.OperatorToken{Name: k.Name, Person: k.Shop, CreatedBy: k.CreatedBy,
				Role:      console.Role(strings.Trim(fmt.Sprint(k.Scopes), "[]")),
				CreatedAt: k.CreatedAt, RevokedAt: k.RevokedAt})
		}
		return c.show(t, all, func(w io.Writer) {
			screen.Printf(w, "NAME\tPERSON\tROLE\tCREATED\tBY\tEXPIRES\tREVOKED\n")
			for _, x := range all {
				revoked := ""
				if x.RevokedAt != nil {
					revoked = stamp(*x.RevokedAt)
				}
				screen.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Name, x.Person, x.Role, stamp(x.CreatedAt),
					x.CreatedBy, stamp(x.ExpiresAt), revoked)
			}
		})
	})
}

// tokenRevoke is `orderd token revoke`, of operators. A customer's token cannot be
// revoked: it ends by itself, and the login that made it decides for how long.
type tokenRevoke struct {
	confirm
	Name string `arg:"" help:"The operator's name, or NAME:LABEL; of a shop's key SHOP/NUMBER."`
}

// Run revokes.
func (c *tokenRevoke) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.ask(t, "End the token of "+c.Name+"?"); err != nil {
		return err
	}
	return withCore(ctx, s, func(co *core) error {
		if strings.Contains(c.Name, "/") { // no operator's name has one
			return co.shops.Revoke(ctx, c.Name)
		}
		return co.tokens.Revoke(ctx, c.Name)
	})
}

// configCmd is `orderd config …`.
type configCmd struct {
	Print configPrint `cmd:"" default:"1" help:"Show every value and where it came from; secrets are masked."`
	Check configCheck `cmd:"" help:"Check the configuration without connecting to anything."`
}

// The verbs of config.
type configPrint struct{ output }
type configCheck struct {
	Role []string `help:"What serve shall run: api, notify, worker, admin (default: all)." placeholder:"ROLE"`
}

// Run shows the configuration, each value with where it came from; secrets are masked in
// every form.
func (c *configPrint) Run(s *settings, t *terminal) error {
	type setting struct {
		Name   string `json:"name"`
		Flag   string `json:"flag"`
		Value  string `json:"value"`
		Origin string `json:"origin"`
	}
	var all []setting
	for _, f := range s.fields() {
		all = append(all, setting{f.env, f.flag, f.masked(), s.origins[f.env]})
	}
	return c.show(t, all, func(w io.Writer) {
		screen.Printf(w, "NAME\tVALUE\tFROM\n")
		for _, f := range all {
			screen.Printf(w, "%s\t%s\t%s\n", f.Name, f.Value, f.Origin)
		}
	})
}

// Run refuses what serve would refuse before it connects to anything, with the same words,
// and variables that are no settings, of which serve warns.
func (c *configCheck) Run(s *settings, t *terminal) error {
	if err := s.usable(c.Role); err != nil {
		return err
	}
	if err := s.errVariables(); err != nil {
		return misconfigured(err)
	}
	screen.Printf(t.Err, "the configuration can be used; 'orderd doctor' asks the servers too\n")
	return nil
}

// versionCmd is `orderd version`.
type versionCmd struct{ output }

// Run prints what is running, for a report of a fault.
func (c *versionCmd) Run(t *terminal) error {
	b := thisBuild()
	return c.show(t, b, func(w io.Writer) {
		screen.Printf(w, "orderd %s\ncommit %s\n%s\n", b.Version, b.Commit, b.Go)
	})
}

// build is which program this is. Its JSON is that of orderd version.
type build struct {
	Version string `json:"version"` // of the module: a tag, or Go's name of a commit between two
	Commit  string `json:"commit"`  // twelve digits, "+dirty" when files were changed; "unknown"
	Go      string `json:"go"`
}

// thisBuild reads what Go writes into the program (runtime/debug), so that no flag of the linker
// is needed. A program that was built outside of a clone knows no commit.
func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return buildOf(info)
}

// buildOf is thisBuild, of what Go wrote.
func buildOf(info *debug.BuildInfo) build {
	b := build{Version: cmp.Or(info.Main.Version, "(devel)"), Commit: "unknown",
		Go: cmp.Or(info.GoVersion, runtime.Version())}
	dirty := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	b.Commit += dirty
	return b
}

// openFile opens a file for a verb; one that is not there is errUsage.
func openFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no file %s", errUsage, path)
	}
	return f, err
}

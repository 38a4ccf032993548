package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"orderd/migrations/bounds"
	"orderd/migrations/seal"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/order/webhooks"
)

// settings is the configuration: flag > environment > file > default. This is the only
// place that reads the environment. A setting has one name: the flag --pay-within is the
// variable ORDERD_PAY_WITHIN. A secret may be given as a file, by the variable of the
// same name with _FILE. Tags: secret is "yes" for what is never shown, "dsn" for an
// address that is shown without its password; help in ${…} stands in help.go.
type settings struct {
	// EnvFile is --config or ORDERD_CONFIG: envFile finds it before kong does.
	EnvFile string `name:"config" placeholder:"FILE" help:"${config}"`

	// DSN names the database: sqlite:PATH, or mysql:… for MySQL and MariaDB. Empty:
	// SQLite in DataDir, for trying things out.
	DSN string `name:"dsn" placeholder:"DSN" help:"${dsn}" secret:"dsn"`
	// ReadDSN names a replica of DSN's database, which lists, exports and verify are read from
	// while it is no further behind than ReadLag.
	ReadDSN string        `name:"read-dsn" placeholder:"DSN" help:"${read_dsn}" secret:"dsn"`
	ReadLag time.Duration `name:"read-lag" default:"5s" help:"${read_lag}"`
	// Redis names the server of the task queue; empty or "embedded": one in this process,
	// which forgets everything at its end.
	Redis string `name:"redis" placeholder:"URL" help:"${redis}" secret:"dsn"`
	// GateRedis has the buckets of flash sales in mode redis; empty: Redis has them.
	GateRedis string `name:"gate-redis" placeholder:"URL" help:"${gate_redis}" secret:"dsn"`
	// DataDir has the embedded database, generated secrets and the simulator's keys.
	DataDir string `name:"data-dir" default:"./data" type:"path" help:"${data_dir}"`
	// The listeners. Only the notifications' has to be reached from outside, through a
	// proxy that has the certificate; the operators' is loopback unless changed.
	APIAddr    string `name:"api-addr" default:":8080" help:"Listener of customers."`
	NotifyAddr string `name:"notify-addr" default:":8081" help:"Listener of WeChat Pay, behind public HTTPS."`
	AdminAddr  string `name:"admin-addr" default:"127.0.0.1:9090" help:"Listener of operators."`
	OpsAddr    string `name:"ops-addr" placeholder:"ADDR" help:"${ops_addr}"`
	SimAddr    string `name:"sim-addr" default:"127.0.0.1:7070" help:"Listener of the simulator, when it runs."`
	// ShopAddr is loopback or nothing, and nothing where a merchant is configured.
	ShopAddr string `name:"shop-addr" default:"127.0.0.1:7071" placeholder:"ADDR" help:"${shop_addr}"`
	// BehindProxy says that browsers reach AdminAddr by a proxy that has the TLS, and AdminLocal that
	// nobody but this machine reaches it, as in a container whose port is published on loopback.
	BehindProxy bool `name:"behind-proxy" negatable:"" help:"${behind_proxy}"`
	AdminLocal  bool `name:"admin-local" negatable:"" help:"${admin_local}"`
	// RequireTOTP has who decides about money, and who makes accounts, log in with two things.
	RequireTOTP bool `name:"require-totp" negatable:"" help:"${require_totp}"`
	// TrustedProxies are the proxies in front of APIAddr and AdminAddr, whose X-Forwarded-For is believed.
	TrustedProxies string `name:"trusted-proxies" placeholder:"NET,…" help:"${trusted_proxies}"`
	// PayWithin is from the placement to the time_expire that WeChat Pay is given.
	PayWithin time.Duration `name:"pay-within" default:"30m" help:"Time to pay."`
	// The bounds of the time to pay that a shop gives an order of its own.
	PayLeast time.Duration `name:"pay-within-min" default:"1m" help:"${pay_within_min}"`
	PayMost  time.Duration `name:"pay-within-max" default:"24h" help:"${pay_within_max}"`
	// PayDescription is shown in the buyer's WeChat Pay bill, which wants to know the goods.
	PayDescription string `name:"pay-description" default:"{goods}" help:"${pay_description}"`
	// CloseGrace is from that deadline to the close: WeChat Pay refuses late payers by
	// itself, and answers FREQUENCY_LIMITED to closes that come right at it. 0 is none.
	CloseGrace time.Duration `name:"close-grace" default:"20s" help:"${close_grace}"`
	// CloseRate is of all workers together, in orders a second; WeChat Pay limits each
	// merchant's calls. What comes faster waits, its stock reserved.
	CloseRate float64 `name:"close-rate" default:"50" help:"Orders a second that timeouts take to WeChat Pay."`
	// CloseUnprepaid is for abandoned carts while WeChat Pay is away; 0 is never.
	CloseUnprepaid time.Duration `name:"close-unprepaid-after" default:"10m" help:"${close_unprepaid_after}"`
	// AskEvery bounds how long a payment stays unknown whose notification was lost.
	AskEvery time.Duration `name:"ask-every" default:"40s" help:"${ask_every}"`
	// SweepEvery bounds how late an order is closed when Redis has lost its task.
	SweepEvery time.Duration `name:"sweep-every" default:"5s" help:"${sweep_every}"`
	// EventsKeep is how long the feed can be read back; the timeline of an order stays.
	EventsKeep time.Duration `name:"events-keep" default:"720h" help:"${events_keep}"`
	// WebhookKey keeps secrets in the database; WebhookAllow is where a shop's own back ends are.
	WebhookKey   string `name:"webhook-key" placeholder:"KEY" help:"${webhook_key}" secret:"yes"`
	WebhookAllow string `name:"webhook-allow" placeholder:"NET,…" help:"${webhook_allow}"`
	// AutoApprove and TwoPersons are in fen, and hold against the refunds of a payment
	// taken together: one large refund cannot be cut into many small ones. 500000 are
	// 5,000 yuan.
	AutoApprove int64 `name:"refund-auto-approve" default:"0" help:"${refund_auto_approve}"`
	TwoPersons  int64 `name:"refund-two-persons" default:"500000" help:"${refund_two_persons}"`
	// Restock is the shop's word for the goods of every refund, until whoever approves it
	// says otherwise.
	Restock string `name:"refund-restock" default:"true" enum:"true,false" help:"${refund_restock}"`
	// MaxOpen is the unpaid orders of one customer: without it one customer could reserve
	// a whole hot SKU and never pay. 0 is no limit.
	MaxOpen int `name:"max-open-orders" default:"5" help:"${max_open_orders}"`
	// MaxUnits is the units of one SKU in them together: five orders of ten thousand each
	// empty a shelf too. 0 is no limit.
	MaxUnits int64 `name:"max-open-units" default:"1000" help:"${max_open_units}"`
	// GateAuto lets a process give a SKU that it finds hot a gate by itself, and take it away
	// when it is hot no more.
	GateAuto bool `name:"gate-auto" default:"true" negatable:"" help:"${gate_auto}"`
	// LatePayment is what becomes of money that comes after the close: sent back, or the
	// order brought to life again when all of its goods are still there.
	LatePayment string `name:"late-payment" default:"refund" enum:"refund,revive" help:"${late_payment}"`
	// Reconcile runs every day, when WeChat Pay's bill of the day before is out.
	Reconcile bool `name:"reconcile-daily" default:"true" negatable:"" help:"${reconcile_daily}"`
	// Pace is for tests: check refuses it with the real WeChat Pay.
	Pace int `name:"pace" default:"1" hidden:"" help:"${pace}"`
	// DrainDelay is from the signal to the end of the listeners. With the 25 s that requests
	// under way have, it is below the 30 s after which Kubernetes kills.
	DrainDelay time.Duration `name:"drain-delay" default:"4s" help:"${drain_delay}"`
	// LogLevel is debug, info, warn or error; the log goes to standard error.
	LogLevel string `name:"log-level" default:"info" enum:"debug,info,warn,error" help:"${log_level}"`
	// LogFormat is text (key=value) or json, an object a line.
	LogFormat string `name:"log-format" default:"text" enum:"text,json" help:"text or json."`
	// AccessLog is of customers, callbacks and operators, not of probes and scrapes.
	AccessLog bool `name:"access-log" negatable:"" help:"${access_log}"`

	// JWTSecret and JWTPublicKey are two ways to check customers' tokens, of which one is
	// used: a secret shared with the shop's login, or that login's public key.
	JWTSecret    string `name:"customer-jwt-secret" placeholder:"SECRET" help:"${customer_jwt_secret}" secret:"yes"`
	JWTPublicKey string `name:"customer-jwt-public-key" placeholder:"PEM" help:"${customer_jwt_public_key}"`
	// JWTOldSecret and JWTOldPublicKey are what those were before, of either kind: tokens of
	// before a change are good until they end.
	JWTOldSecret    string `name:"customer-jwt-old-secret" placeholder:"SECRET" help:"${customer_jwt_old}" secret:"yes"`
	JWTOldPublicKey string `name:"customer-jwt-old-public-key" placeholder:"PEM" help:"${customer_jwt_old}"`
	// AdminToken is the first administrator's, by which the other operators' are made.
	AdminToken string `name:"bootstrap-admin-token" placeholder:"TOKEN" help:"${bootstrap_admin_token}" secret:"yes"`

	// Tokens end by themselves: whoever has one that leaked has it for no longer. An
	// operator's counts from its making, and a change holds for those that there are.
	CustomerTokenLife time.Duration `name:"customer-token-life" default:"744h" help:"${customer_token_life}"`
	OperatorTokenLife time.Duration `name:"operator-token-life" default:"2160h" help:"${operator_token_life}"`
	// WrongTokens is of one address, in a minute; 0 is no limit.
	WrongTokens int `name:"wrong-tokens" default:"30" help:"${wrong_tokens}"`

	// The merchant at WeChat Pay, as the merchant platform shows it. MchID decides:
	// without it the simulator is used, and the others must be empty.
	MchID string `name:"wechat-mchid" placeholder:"ID" help:"${wechat_mchid}"`
	// AppID is of the app or mini program that buyers pay in (wx…), bound to MchID.
	AppID string `name:"wechat-appid" placeholder:"ID" help:"App id bound to the merchant."`
	// OtherAppIDs are accepted in payments and bills, and never sent.
	OtherAppIDs []string `name:"wechat-other-appids" placeholder:"ID,…" help:"${wechat_other_appids}"`
	// SerialNo and PrivateKey belong together: requests are signed with the key, and
	// carry the serial number of its certificate.
	SerialNo   string `name:"wechat-serial-no" placeholder:"HEX" help:"${wechat_serial_no}"`
	PrivateKey string `name:"wechat-private-key" placeholder:"PEM" help:"${wechat_private_key}" secret:"yes"`
	// APIv3Key decrypts notifications (AES-256-GCM): 32 bytes, set on the platform.
	APIv3Key string `name:"wechat-apiv3-key" placeholder:"KEY" help:"The APIv3 key." secret:"yes"`
	// VerifyKeys are WeChat Pay's own: ids of public keys or serial numbers of platform
	// certificates, each with its PEM file. While one replaces another both are given.
	VerifyKeys string `name:"wechat-verify-keys" placeholder:"ID=FILE,…" help:"${wechat_verify_keys}"`
	// ResponseKey is the one of them that answers are asked for under.
	ResponseKey string `name:"wechat-response-key" placeholder:"ID" help:"${wechat_response_key}"`
	// NotifyURL and RefundNotifyURL are public HTTPS addresses without a query, which
	// WeChat Pay demands.
	NotifyURL       string `name:"wechat-notify-url" placeholder:"URL" help:"${wechat_notify_url}"`
	RefundNotifyURL string `name:"wechat-refund-notify-url" placeholder:"URL" help:"${wechat_refund_notify_url}"`
	// BaseURL is another address of WeChat Pay, such as that of a simulator elsewhere.
	BaseURL string `name:"wechat-base-url" placeholder:"URL" help:"${wechat_base_url}"`

	// A mini program under WeChat's shipping management has to report what it sends. One of
	// the first two switches it on: where access tokens come from.
	ShippingSecret   string `name:"shipping-app-secret" placeholder:"SECRET" help:"${shipping_app_secret}" secret:"yes"`
	ShippingTokenURL string `name:"shipping-token-url" placeholder:"URL" help:"${shipping_token_url}" secret:"dsn"`
	ShippingBaseURL  string `name:"shipping-base-url" placeholder:"URL" help:"${shipping_base_url}"`

	// origins says where each value came from, by variable: "flag --dsn", "environment",
	// "file F" or "default".
	origins map[string]string
	// act is what the audit trail has of the verb that was called, nil for one that changes nothing.
	act *shellAct
}

// field is one setting by its names, and secret by its tag: "yes", "dsn" or "".
type field struct {
	flag, env, secret string
	value             reflect.Value
}

// fields are the settings by reflection, in the order of the struct: what is written
// there once is enough for flag, variable, file, `config print` and masking.
func (s *settings) fields() []field {
	v := reflect.ValueOf(s).Elem()
	var all []field
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		if name := tag.Get("name"); name != "" {
			all = append(all, field{"--" + name, envOf(name), tag.Get("secret"), v.Field(i)})
		}
	}
	return all
}

// envOf gives the variable of a flag: pay-within is ORDERD_PAY_WITHIN.
func envOf(flag string) string {
	return "ORDERD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// envNames gives the flags of the configuration their variables, when kong has built its
// model: written into tags, each name would stand there twice. Flags of verbs have none.
func envNames(k *kong.Kong) error {
	for _, f := range k.Model.Flags {
		if f.Name != "help" {
			f.Envs, f.Tag.Envs = []string{envOf(f.Name)}, []string{envOf(f.Name)}
		}
	}
	return nil
}

// envFile finds the configuration file before anything is parsed: its values have to be
// in the environment when kong looks there. "" is none.
func envFile(args []string) (string, error) {
	for i, a := range args {
		if a == "--" { // what follows is no flag
			break
		}
		if value, ok := strings.CutPrefix(a, "--config="); ok {
			return value, nil
		}
		if a == "--config" {
			if i+1 == len(args) {
				return "", errors.New("--config needs a file")
			}
			return args[i+1], nil
		}
	}
	return os.Getenv("ORDERD_CONFIG"), nil
}

// fromFile reads the configuration file into the environment; a variable that is set
// there already wins. The form is like that of systemd's EnvironmentFile: NAME=VALUE
// lines, # for comments, quotes around a value taken off. A name that is no setting is an
// error with its line: a misspelt setting would silently be its default. A secret is
// refused in a file that everybody can read.
func (s *settings) fromFile(path string) error {
	s.origins = map[string]string{}
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	known, secret := map[string]bool{}, map[string]bool{}
	for _, fd := range s.fields() {
		known[fd.env], known[fd.env+"_FILE"], secret[fd.env] = true, true, fd.secret != ""
	}
	scan := bufio.NewScanner(f)
	for line := 1; scan.Scan(); line++ {
		text := strings.TrimSpace(scan.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		name = strings.TrimSpace(name)
		if !ok || !known[name] {
			return fmt.Errorf("%s, line %d: %q is not a setting; 'orderd config print' lists them", path, line, name)
		}
		if secret[name] {
			if err := keptSecret(f); err != nil {
				return fmt.Errorf("%s, line %d: %s: %w", path, line, name, err)
			}
		}
		if _, set := os.LookupEnv(name); !set {
			if err := os.Setenv(name, strings.Trim(strings.TrimSpace(value), `"`)); err != nil {
				return err
			}
			s.origins[name] = "file " + path
		}
	}
	return scan.Err()
}

// complete reads secrets that are given as files, notes where values came from and checks
// what can be checked without a dependency. Flags are looked for in args, because kong
// does not say by which of its sources a value came.
func (s *settings) complete(args []string) error {
	for _, fd := range s.fields() {
		if fd.value.Kind() == reflect.String && fd.value.String() == "" {
			if path := os.Getenv(fd.env + "_FILE"); path != "" {
				text, err := readSecretFile(path)
				if err != nil {
					return fmt.Errorf("%s_FILE: %w", fd.env, err)
				}
				fd.value.SetString(text)
				s.origins[fd.env] = "file " + path
				continue
			}
		}
		switch {
		case hasFlag(args, fd.flag):
			s.origins[fd.env] = "flag " + fd.flag
		case s.origins[fd.env] != "":
		case os.Getenv(fd.env) != "":
			s.origins[fd.env] = "environment"
		default:
			s.origins[fd.env] = "default"
		}
	}
	return s.check()
}

// hasFlag reports that a flag was given, with = or without.
func hasFlag(args []string, flag string) bool {
	for _, a := range args {
		if a == "--" {
			break
		}
		if a == flag || strings.HasPrefix(a, flag+"=") {
			return true
		}
	}
	return false
}

// placeholder stands in the files of `orderd export` where a value of one's own has to be.
const placeholder = "CHANGE-ME"

// checkPayWithin refuses times to pay that no order can have.
func (s *settings) checkPayWithin() error {
	switch {
	case s.PayWithin < time.Second:
		return fmt.Errorf("ORDERD_PAY_WITHIN is %s, it must be at least 1s", s.PayWithin)
	case s.PayWithin > bounds.PayWithin-s.CloseGrace:
		return fmt.Errorf("ORDERD_PAY_WITHIN is %s, and with ORDERD_CLOSE_GRACE it may be at most %s: WeChat Pay "+
			"closes a payment by itself after seven days", s.PayWithin, bounds.PayWithin)
	case s.PayLeast < time.Second || s.PayLeast > s.PayMost || s.PayMost > bounds.PayWithin-s.CloseGrace ||
		s.PayLeast%time.Second != 0 || s.PayMost%time.Second != 0:
		return fmt.Errorf("ORDERD_PAY_WITHIN_MIN is %s and ORDERD_PAY_WITHIN_MAX %s: they must be whole seconds, at "+
			"least 1s, in this order, and with ORDERD_CLOSE_GRACE at most %s", s.PayLeast, s.PayMost, bounds.PayWithin)
	}
	return nil
}

// checkReplica refuses a replica of nothing.
func (s *settings) checkReplica() error {
	switch {
	case s.ReadDSN != "" && !strings.HasPrefix(s.DSN, "mysql:"):
		return errors.New("ORDERD_READ_DSN is a replica of a MySQL or MariaDB that ORDERD_DSN names, which it does not")
	case s.ReadLag < sqldb.LeastLag:
		return fmt.Errorf("ORDERD_READ_LAG is %s, it must be at least %s", s.ReadLag, sqldb.LeastLag)
	}
	return nil
}

// check refuses values that contradict one another or themselves, with the name of the
// setting and a way out: here and not at the first order that meets them.
func (s *settings) check() error {
	for _, f := range s.fields() {
		if f.value.Kind() == reflect.String && strings.Contains(f.value.String(), placeholder) {
			return fmt.Errorf("%s still has the %s of an example: everybody knows it", f.env, placeholder)
		}
	}
	if err := s.checkShipping(); err != nil {
		return err
	}
	if err := errors.Join(s.checkPayWithin(), s.checkReplica()); err != nil {
		return err
	}
	switch {
	case s.CloseUnprepaid < 0:
		return errors.New("ORDERD_CLOSE_UNPREPAID_AFTER must not be negative; 0: such orders wait for WeChat Pay")
	case s.CloseGrace < 0 || s.SweepEvery < 100*time.Millisecond || s.CloseRate <= 0:
		return errors.New("ORDERD_CLOSE_GRACE, ORDERD_SWEEP_EVERY and ORDERD_CLOSE_RATE must be positive (the sweep " +
			"at least 100ms)")
	case s.EventsKeep != 0 && s.EventsKeep < minEventsKeep:
		return fmt.Errorf("ORDERD_EVENTS_KEEP is %s, it must be at least %s: whoever reads the feed may be away for "+
			"a day", s.EventsKeep, minEventsKeep)
	case s.WebhookKey != "" && len(s.WebhookKey) < seal.MinKey:
		return fmt.Errorf("ORDERD_WEBHOOK_KEY has %d bytes, it needs %d: make one with 'openssl rand -hex 32'",
			len(s.WebhookKey), seal.MinKey)
	case s.RequireTOTP && s.WebhookKey == "" && !s.simulated():
		return errors.New("ORDERD_REQUIRE_TOTP needs ORDERD_WEBHOOK_KEY, which the secrets of one-time codes are " +
			"kept under: make one with 'openssl rand -hex 32', the same for all processes")
	case order.CheckPayDescription(s.PayDescription) != nil:
		return fmt.Errorf("ORDERD_PAY_DESCRIPTION: %w", order.CheckPayDescription(s.PayDescription))
	case s.DrainDelay < 0 || s.DrainDelay > maxDrainDelay:
		return fmt.Errorf("ORDERD_DRAIN_DELAY is 0 to %s", maxDrainDelay)
	case s.AskEvery != 0 && s.AskEvery < time.Second:
		return fmt.Errorf("ORDERD_ASK_EVERY is %s, it must be at least 1s, or 0 for never", s.AskEvery)
	case s.AutoApprove < 0 || s.TwoPersons < 0 || (s.TwoPersons > 0 && s.TwoPersons < s.AutoApprove):
		return errors.New("ORDERD_REFUND_AUTO_APPROVE and ORDERD_REFUND_TWO_PERSONS are fen, not negative, and what " +
			"needs two persons cannot be approved by itself")
	case s.Pace < 1 || s.Pace > maxPace || (s.Pace > 1 && !s.simulated() &&
		(s.BaseURL == "" || strings.Contains(s.BaseURL, "weixin.qq.com"))):
		return errors.New("ORDERD_PACE is for tests against the simulator: 1 to 20, and only 1 with the real WeChat " +
			"Pay, which limits how often it may be asked")
	case s.JWTSecret != "" && s.JWTPublicKey != "":
		return errors.New("set ORDERD_CUSTOMER_JWT_SECRET or ORDERD_CUSTOMER_JWT_PUBLIC_KEY, not both")
	case s.JWTOldSecret != "" && s.JWTOldPublicKey != "":
		return errors.New("set ORDERD_CUSTOMER_JWT_OLD_SECRET or ORDERD_CUSTOMER_JWT_OLD_PUBLIC_KEY, not both")
	case s.AdminToken != "" && len(s.AdminToken) < minToken:
		return fmt.Errorf("ORDERD_BOOTSTRAP_ADMIN_TOKEN has %d bytes, it needs %d: make one with 'openssl "+
			"rand -hex 32'", len(s.AdminToken), minToken)
	case !tokenLife(s.CustomerTokenLife) || !tokenLife(s.OperatorTokenLife):
		return fmt.Errorf("ORDERD_CUSTOMER_TOKEN_LIFE and ORDERD_OPERATOR_TOKEN_LIFE are %s to %s", minTokenLife,
			maxTokenLife)
	case s.WrongTokens < 0 || s.WrongTokens > maxWrongTokens:
		return fmt.Errorf("ORDERD_WRONG_TOKENS is 0 to %d a minute; 0 is no limit", maxWrongTokens)
	case len(s.OtherAppIDs) > maxOtherAppIDs || slices.ContainsFunc(s.OtherAppIDs, func(id string) bool {
		return !bounds.AppID.Fits(id)
	}):
		return fmt.Errorf("ORDERD_WECHAT_OTHER_APPIDS is a list of at most %d app ids (wx…), separated by commas",
			maxOtherAppIDs)
	case s.MchID == "" && s.ofMerchant() != "":
		return fmt.Errorf("%s is there but ORDERD_WECHAT_MCHID is not: set it, or no ORDERD_WECHAT_… setting to use "+
			"the simulator", s.ofMerchant())
	}
	if _, err := orderhttp.ParseProxies(s.TrustedProxies); err != nil {
		return fmt.Errorf("ORDERD_TRUSTED_PROXIES: %w", err)
	}
	if _, err := webhooks.ParseAllow(s.WebhookAllow); err != nil {
		return fmt.Errorf("ORDERD_WEBHOOK_ALLOW: %w", err)
	}
	return s.checkNotifyURLs()
}

// ofMerchant gives the first setting of a merchant that is there, "" for none: each says that
// the simulator is not what is wanted.
func (s *settings) ofMerchant() string {
	for _, f := range s.fields() {
		if strings.HasPrefix(f.flag, "--wechat-") && f.value.Len() > 0 { // all are texts or lists
			return f.env
		}
	}
	return ""
}

// Bounds of the settings of tokens: a token of a minute is for tests, and one of more than a
// year is one that never ends.
const (
	minTokenLife   = time.Minute
	maxTokenLife   = 366 * 24 * time.Hour
	maxWrongTokens = 10_000
)

// minEventsKeep is the least ORDERD_EVENTS_KEEP.
const minEventsKeep = 24 * time.Hour

// tokenLife reports that a token may live so long; 0 stands for the default.
func tokenLife(d time.Duration) bool { return d == 0 || d >= minTokenLife && d <= maxTokenLife }

// wechatHere reports that what is WeChat Pay is on this machine, a simulator.
func (s *settings) wechatHere() bool {
	base, err := url.Parse(s.BaseURL)
	return err == nil && loopback(base.Hostname())
}

// checkNotifyURLs refuses addresses that WeChat Pay refuses, before an order meets them. A
// simulator on this machine may be told another one.
func (s *settings) checkNotifyURLs() error {
	here := s.wechatHere()
	for _, u := range []struct{ env, url string }{{"ORDERD_WECHAT_NOTIFY_URL", s.NotifyURL},
		{"ORDERD_WECHAT_REFUND_NOTIFY_URL", s.RefundNotifyURL}} {
		if wrong := bounds.CheckNotifyURL(u.url, here); u.url != "" && wrong != nil {
			return fmt.Errorf("%s: %s", u.env, wrong.Detail)
		}
	}
	return s.checkSwapped()
}

// checkSwapped refuses the address of payments for refunds, and the other way round: each
// would refuse what the other has to take. A proxy may change the paths; what still ends in
// one of ours is that.
func (s *settings) checkSwapped() error {
	payments, refunds := placeOf(s.NotifyURL), placeOf(s.RefundNotifyURL)
	switch {
	case strings.HasSuffix(payments, orderhttp.PathNotifyRefund):
		return errors.New("ORDERD_WECHAT_NOTIFY_URL is the address of refunds; that of payments ends in " +
			orderhttp.PathNotifyPayment)
	case strings.HasSuffix(refunds, orderhttp.PathNotifyPayment):
		return errors.New("ORDERD_WECHAT_REFUND_NOTIFY_URL is the address of payments; that of refunds ends in " +
			orderhttp.PathNotifyRefund)
	case payments != "" && payments == refunds:
		return errors.New("ORDERD_WECHAT_REFUND_NOTIFY_URL is ORDERD_WECHAT_NOTIFY_URL: payments and refunds need an " +
			"address each")
	}
	return nil
}

// placeOf gives an address in one form, for comparing.
func placeOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || address == "" {
		return ""
	}
	return bounds.Origin(u) + strings.TrimSuffix(u.EscapedPath(), "/")
}

// Bounds of settings.
const (
	// minToken is in bytes: half of what 'openssl rand -hex 32' prints, and still 128
	// bits.
	minToken = 32
	// secretBytes is how many random bytes a generated secret has, written in twice as
	// many characters: 256 bits, what HS256 wants.
	secretBytes = 32
	// maxDrainDelay is longer than any load balancer needs to see that a process is stopped.
	maxDrainDelay = 2 * time.Minute
	// maxPace keeps the time in which a prepay may still arrive at WeChat Pay, 30 s
	// divided by it, above the time-out of a call, which is never below a second.
	maxPace = 20
	// maxOtherAppIDs is what the check of a payment's facts has room for (package audit),
	// beside ORDERD_WECHAT_APPID.
	maxOtherAppIDs = 7
)

// readSecretFile gives the content of a file without white space around it, which editors
// leave at the end. It refuses a key that everybody on the machine can read.
func readSecretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := keptSecret(f); err != nil {
		return "", err
	}
	b, err := io.ReadAll(f)
	return strings.TrimSpace(string(b)), err
}

// keptSecret refuses a file that everybody on the machine can read. Its group may, as
// services that run under a user of their own often have it.
func keptSecret(f *os.File) error {
	st, err := f.Stat()
	if err == nil && st.Mode().Perm()&0o004 != 0 {
		err = fmt.Errorf("%s can be read by everybody: chmod 600 %s", f.Name(), f.Name())
	}
	return err
}

// secretInDataDir reads a generated secret, or makes it, and says which. It is kept so
// that tokens made before a restart are valid after it.
func (s *settings) secretInDataDir(name string) (value string, made bool, err error) {
	path := filepath.Join(s.DataDir, name)
	if value, err = readSecretFile(path); err == nil {
		return value, false, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", false, err
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return "", false, err
	}
	raw := make([]byte, secretBytes)
	rand.Read(raw) // never fails, says its documentation
	value = hex.EncodeToString(raw)
	return value, true, os.WriteFile(path, []byte(value+"\n"), 0o600)
}

// simulated reports that no merchant is configured: WeChat Pay is the simulator then, and
// no real money can move.
func (s *settings) simulated() bool { return s.MchID == "" }

// embeddedRedis reports that Redis runs in this process.
func (s *settings) embeddedRedis() bool { return s.Redis == "" || s.Redis == "embedded" }

// dsn gives the DSN, the embedded one when none is set.
func (s *settings) dsn() string {
	if s.DSN == "" {
		return "sqlite:" + filepath.Join(s.DataDir, "orderd.db")
	}
	return s.DSN
}

// masked gives a setting for people: secrets as ***, addresses without password. An empty
// secret is shown as empty: that it is missing is no secret.
func (f field) masked() string {
	text := fmt.Sprint(f.value.Interface())
	switch {
	case text == "" || f.secret == "":
		return text
	case f.secret == "dsn":
		return maskPassword(text)
	}
	return "***"
}

// maskPassword hides the password of an address, whatever characters it has,
// and its parameters, which may be passwords too.
func maskPassword(dsn string) string {
	kind, body, ok := strings.Cut(dsn, ":")
	if !ok || kind == "sqlite" {
		return dsn
	}
	if rest, isURL := strings.CutPrefix(body, "//"); isURL {
		kind, body = kind+"://", rest
	} else {
		kind += ":"
	}
	if i := strings.Index(body, "?sentinel_"); i >= 0 { // what follows may have any character, too
		return maskPassword(dsn[:len(dsn)-len(body)+i]) + "?***"
	}
	// The host begins after the last at sign before the database's name.
	end := strings.LastIndex(body, "/")
	at := strings.LastIndex(body[:max(end, 0)], "@")
	if at < 0 {
		address, _, _ := strings.Cut(body, "?")
		at = strings.LastIndex(address, "@")
	}
	who, _, secret := strings.Cut(body[:max(at, 0)], ":")
	if secret {
		who += ":***"
	}
	where, _, parameters := strings.Cut(body[max(at, 0):], "?")
	if parameters {
		where += "?***"
	}
	return kind + who + where
}

// String masks all secrets, also under %v and %+v. The receiver is no pointer, here and
// below: a copy that is printed must be masked too.
func (s settings) String() string {
	var b strings.Builder
	for _, f := range s.fields() {
		fmt.Fprintf(&b, "%s=%s ", f.env, f.masked())
	}
	return strings.TrimSpace(b.String())
}

// GoString masks under %#v, which does not use String.
func (s settings) GoString() string { return s.String() }

// LogValue masks in logs of package slog.
func (s settings) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON masks in JSON, as one string: a reader that wants fields has `orderd config
// print -o json`.
func (s settings) MarshalJSON() ([]byte, error) { return []byte(fmt.Sprintf("%q", s.String())), nil }

// logger writes to standard error at the level of ORDERD_LOG_LEVEL, info when that is none
// of slog's, in the form of ORDERD_LOG_FORMAT.
func (s *settings) logger(io *terminal) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(io.Err, options))
	}
	return slog.New(slog.NewTextHandler(io.Err, options))
}

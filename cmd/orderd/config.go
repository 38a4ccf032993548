package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"
)

// settings is the configuration: flag > environment > file > default. This is
// the only place that reads the environment. A secret may be given as a file,
// by the variable of the same name with _FILE.
type settings struct {
	EnvFile string `name:"config" env:"ORDERD_CONFIG" placeholder:"FILE" help:"File of NAME=VALUE lines with ORDERD_… names."`

	DSN         string        `name:"dsn" env:"ORDERD_DSN" placeholder:"DSN" help:"sqlite:PATH or mysql:USER:PASS@tcp(HOST)/DB (default: SQLite in the data directory)." secret:"dsn"`
	Redis       string        `name:"redis" env:"ORDERD_REDIS" placeholder:"URL" help:"embedded, redis://…, rediss://… or redis+cluster://… (default: embedded)." secret:"dsn"`
	DataDir     string        `name:"data-dir" env:"ORDERD_DATA_DIR" default:"./data" type:"path" help:"Where the embedded parts keep their files."`
	APIAddr     string        `name:"api-addr" env:"ORDERD_API_ADDR" default:":8080" help:"Listener of customers."`
	NotifyAddr  string        `name:"notify-addr" env:"ORDERD_NOTIFY_ADDR" default:":8081" help:"Listener of WeChat Pay, behind public HTTPS."`
	AdminAddr   string        `name:"admin-addr" env:"ORDERD_ADMIN_ADDR" default:"127.0.0.1:9090" help:"Listener of operators."`
	SimAddr     string        `name:"sim-addr" env:"ORDERD_SIM_ADDR" default:"127.0.0.1:7070" help:"Listener of the simulator, when it runs."`
	PayWithin   time.Duration `name:"pay-within" env:"ORDERD_PAY_WITHIN" default:"30m" help:"Time to pay."`
	CloseGrace  time.Duration `name:"close-grace" env:"ORDERD_CLOSE_GRACE" default:"20s" help:"How long after the deadline WeChat Pay is asked to close."`
	CloseRate   float64       `name:"close-rate" env:"ORDERD_CLOSE_RATE" default:"50" help:"Orders a second that timeouts take to WeChat Pay."`
	SweepEvery  time.Duration `name:"sweep-every" env:"ORDERD_SWEEP_EVERY" default:"5s" help:"How often the database is looked through for what Redis forgot."`
	AutoApprove int64         `name:"refund-auto-approve" env:"ORDERD_REFUND_AUTO_APPROVE" default:"0" help:"Refunds of an order that are up to this many fen together need nobody's approval; 0: every refund does."`
	TwoPersons  int64         `name:"refund-two-persons" env:"ORDERD_REFUND_TWO_PERSONS" default:"500000" help:"Refunds of an order above this many fen together need two approvals; 0: one always suffices."`
	MaxOpen     int           `name:"max-open-orders" env:"ORDERD_MAX_OPEN_ORDERS" default:"5" help:"Unpaid orders that one customer may have, each holds stock; 0: no limit."`
	LatePayment string        `name:"late-payment" env:"ORDERD_LATE_PAYMENT" default:"refund" enum:"refund,revive" help:"Money that comes for a closed order: refund it, or revive the order if all of its stock is there."`
	Reconcile   bool          `name:"reconcile-daily" env:"ORDERD_RECONCILE_DAILY" default:"true" negatable:"" help:"Reconcile with WeChat Pay's bill every day."`
	Pace        int           `name:"pace" env:"ORDERD_PACE" default:"1" hidden:"" help:"Divide the waits between calls to WeChat Pay by this. For tests against a simulator of the same speed."`
	LogLevel    string        `name:"log-level" env:"ORDERD_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error."`

	JWTSecret    string `name:"customer-jwt-secret" env:"ORDERD_CUSTOMER_JWT_SECRET" placeholder:"SECRET" help:"HS256 secret of customers' tokens, at least 32 bytes." secret:"yes"`
	JWTPublicKey string `name:"customer-jwt-public-key" env:"ORDERD_CUSTOMER_JWT_PUBLIC_KEY" placeholder:"PEM" help:"Public key of customers' tokens instead (RS256 or ES256)."`
	AdminToken   string `name:"bootstrap-admin-token" env:"ORDERD_BOOTSTRAP_ADMIN_TOKEN" placeholder:"TOKEN" help:"Bearer token of an administrator, at least 32 bytes." secret:"yes"`

	MchID           string `name:"wechat-mchid" env:"ORDERD_WECHAT_MCHID" placeholder:"ID" help:"Merchant number; without it the simulator is used."`
	AppID           string `name:"wechat-appid" env:"ORDERD_WECHAT_APPID" placeholder:"ID" help:"App id bound to the merchant."`
	SerialNo        string `name:"wechat-serial-no" env:"ORDERD_WECHAT_SERIAL_NO" placeholder:"HEX" help:"Serial number of the merchant's certificate."`
	PrivateKey      string `name:"wechat-private-key" env:"ORDERD_WECHAT_PRIVATE_KEY" placeholder:"PEM" help:"The merchant's private key." secret:"yes"`
	APIv3Key        string `name:"wechat-apiv3-key" env:"ORDERD_WECHAT_APIV3_KEY" placeholder:"KEY" help:"The APIv3 key." secret:"yes"`
	VerifyKeys      string `name:"wechat-verify-keys" env:"ORDERD_WECHAT_VERIFY_KEYS" placeholder:"ID=FILE,…" help:"WeChat Pay's public keys and certificates."`
	NotifyURL       string `name:"wechat-notify-url" env:"ORDERD_WECHAT_NOTIFY_URL" placeholder:"URL" help:"Public HTTPS address of /wechat/v3/notify/payment."`
	RefundNotifyURL string `name:"wechat-refund-notify-url" env:"ORDERD_WECHAT_REFUND_NOTIFY_URL" placeholder:"URL" help:"Public HTTPS address of /wechat/v3/notify/refund (default: beside the payments')."`
	BaseURL         string `name:"wechat-base-url" env:"ORDERD_WECHAT_BASE_URL" placeholder:"URL" help:"WeChat Pay's address, if not the usual one."`

	origins map[string]string // by environment name
}

// field is one setting by its names.
type field struct {
	flag, env, secret string
	value             reflect.Value
}

func (s *settings) fields() []field {
	v := reflect.ValueOf(s).Elem()
	var all []field
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		if env := tag.Get("env"); env != "" {
			all = append(all, field{flag: "--" + tag.Get("name"), env: env, secret: tag.Get("secret"), value: v.Field(i)})
		}
	}
	return all
}

// envFile finds the configuration file before anything is parsed.
func envFile(args []string) (string, error) {
	for i, a := range args {
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

// fromFile puts the lines of the file under the environment: a variable that is
// set there wins.
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

// complete reads _FILE secrets, notes where values came from and checks what
// can be checked without a dependency.
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

func hasFlag(args []string, flag string) bool {
	for _, a := range args {
		if a == flag || strings.HasPrefix(a, flag+"=") {
			return true
		}
	}
	return false
}

func (s *settings) check() error {
	switch {
	case s.PayWithin < time.Second:
		return fmt.Errorf("ORDERD_PAY_WITHIN is %s, it must be at least 1s", s.PayWithin)
	case s.CloseGrace < 0 || s.SweepEvery < 100*time.Millisecond || s.CloseRate <= 0:
		return errors.New("ORDERD_CLOSE_GRACE, ORDERD_SWEEP_EVERY and ORDERD_CLOSE_RATE must be positive (the sweep at least 100ms)")
	case s.AutoApprove < 0 || s.TwoPersons < 0 || (s.TwoPersons > 0 && s.TwoPersons < s.AutoApprove):
		return errors.New("ORDERD_REFUND_AUTO_APPROVE and ORDERD_REFUND_TWO_PERSONS are fen, not negative, and what needs two persons cannot be approved by itself")
	case s.Pace < 1 || s.Pace > maxPace || (s.Pace > 1 && !s.simulated() && (s.BaseURL == "" || strings.Contains(s.BaseURL, "weixin.qq.com"))):
		return errors.New("ORDERD_PACE is for tests against the simulator: 1 to 20, and only 1 with the real WeChat Pay, which limits how often it may be asked")
	case s.JWTSecret != "" && s.JWTPublicKey != "":
		return errors.New("set ORDERD_CUSTOMER_JWT_SECRET or ORDERD_CUSTOMER_JWT_PUBLIC_KEY, not both")
	case s.AdminToken != "" && len(s.AdminToken) < minToken:
		return fmt.Errorf("ORDERD_BOOTSTRAP_ADMIN_TOKEN has %d bytes, it needs %d: make one with 'openssl rand -hex 32'", len(s.AdminToken), minToken)
	case s.MchID == "" && (s.AppID != "" || s.SerialNo != "" || s.PrivateKey != "" || s.APIv3Key != ""):
		return errors.New("some ORDERD_WECHAT_… settings are there but ORDERD_WECHAT_MCHID is not: set it, or none of them to use the simulator")
	}
	return nil
}

const (
	minToken = 32
	// maxPace keeps the time in which a prepay may still arrive (30 s) above the
	// gateway's time-out, which cannot go below a second.
	maxPace = 20
)

// readSecretFile refuses a key that others can read.
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

// keptSecret refuses a file that everybody on the machine can read.
func keptSecret(f *os.File) error {
	st, err := f.Stat()
	if err == nil && st.Mode().Perm()&0o004 != 0 {
		err = fmt.Errorf("%s can be read by everybody: chmod 600 %s", f.Name(), f.Name())
	}
	return err
}

// secretInDataDir reads a generated secret, or makes it.
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
	raw := make([]byte, 32)
	rand.Read(raw) // never fails, says its documentation
	value = hex.EncodeToString(raw)
	return value, true, os.WriteFile(path, []byte(value+"\n"), 0o600)
}

// simulated reports that no merchant is configured.
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

// masked gives a setting for people: secrets as ***.
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

// String masks all secrets, also under %v and %+v.
func (s settings) String() string {
	var b strings.Builder
	for _, f := range s.fields() {
		fmt.Fprintf(&b, "%s=%s ", f.env, f.masked())
	}
	return strings.TrimSpace(b.String())
}

// GoString masks under %#v.
func (s settings) GoString() string { return s.String() }

// LogValue masks in logs.
func (s settings) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON masks in JSON.
func (s settings) MarshalJSON() ([]byte, error) { return []byte(fmt.Sprintf("%q", s.String())), nil }

func (s *settings) logger(io *terminal) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(io.Err, &slog.HandlerOptions{Level: level}))
}

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A completion that offers what is no word of the program is worse than none.
func TestCompletionOffersWhatThereIs(t *testing.T) {
	offered := func(args ...string) (all []string) {
		t.Helper()
		code, out, errs := words(t, append([]string{"completion", "words", "--"}, args...)...)
		if code != exitOK {
			t.Fatalf("%v: %d %s", args, code, errs)
		}
		for line := range strings.Lines(out) {
			word, help, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			if !ok || help == "" {
				t.Errorf("%v: %q says nothing", args, line)
			}
			all = append(all, word)
		}
		return all
	}
	for _, c := range []struct{ words, want string }{
		{"ver", "verify version"}, {"order t", "timeline"}, {"order get --output j", "json"},
		{"order get --output=t", "--output=table"}, {"order get -o ", "table json"}, {"order get --output = j", "json"},
		{"--log-format ", "text json"}, {"serve --role w", "worker"}, {"token create --role f", "finance"},
		{"serve --log-level debug --allow-u", "--allow-unsafe"}, {"order get NO --out", "--output"},
		{"payments held ", "list judge-again"}, {"order get ", ""}, {"completion w", ""}, {"stock import --dsn ", ""},
	} {
		got := offered(strings.Split(c.words, " ")...)
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q offers %v, want %q", c.words, got, c.want)
		}
	}
	if all := offered(""); !slices.Contains(all, "serve") || len(all) < 15 {
		t.Errorf("%v", all)
	}
}

// A script that its shell cannot read fails at every login.
func TestCompletionScriptsAreRead(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, script, errs := words(t, "completion", shell)
		if code != exitOK || !strings.Contains(script, "orderd completion words") {
			t.Fatalf("%s: %d %s", shell, code, errs)
		}
		if shell == "zsh" && !strings.Contains(script, `${line%%$'\t'*}`) {
			t.Errorf("%s", script)
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("%s is not here", shell)
			continue
		}
		cmd := exec.Command(path, "-n")
		cmd.Stdin = strings.NewReader(script)
		if said, err := cmd.CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s: %v %s", shell, err, said)
		}
	}
}

// A misspelt setting was silently its default: the service ran on SQLite and everybody thought that it was on MySQL.
func TestMisspeltVariablesAreNoticed(t *testing.T) {
	for name, wrong := range map[string]bool{"ORDERD_TYPO": true, "ORDERD_DSN_": true, "ORDERD_PACE_FILE": true,
		"ORDERD_REDIS_URL": true, "ORDERD_WECHAT_APIV3_KEY_FILE": false, "ORDERD_TEST_X": false, "ORDERD_CONFIG": false,
		// Kubernetes has these in each container, for services called orderd and orderd-api.
		"ORDERD_SERVICE_HOST": false, "ORDERD_PORT=tcp://10.0.0.1:8080": false, "ORDERD_PORT_8080_TCP_ADDR": false,
		"ORDERD_API_SERVICE_PORT_HTTP": false, "ORDERD_API_PORT_8080_TCP": false, "ORDERD_API_SERVICE_PORT=1": false,
		"ORDERD_PORT_8080_TCP_PORT=8080": false,
		// And these are what somebody guesses.
		"ORDERD_PORT=8000": true, "ORDERD_API_PORT=8000": true, "ORDERD_REDIS_PORT=": true} {
		t.Run(name, func(t *testing.T) {
			name, value, _ := strings.Cut(name, "=")
			t.Setenv(name, value)
			code, _, errs := words(t, "config", "check")
			if wrong != (code == exitUsage) || wrong != strings.Contains(errs, name) {
				t.Errorf("%d: %s", code, errs)
			}
			if code, _, errs := words(t, "version"); code != exitOK || errs != "" {
				t.Errorf("other verbs: %d %s", code, errs)
			}
		})
	}
}

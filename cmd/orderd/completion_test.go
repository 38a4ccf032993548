package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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

// completers ask a shell, in its own way, what it offers for the words that are its arguments, the unfinished one last;
// one a line, files as "files".
var completers = map[string]string{
	"bash": `source <(orderd completion bash)
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _orderd; printf '%s\n' "${COMPREPLY[@]:-files}"`,
	// Its own completion needs a terminal; these are what the script calls.
	"zsh": `compdef() { }
_describe() { print -rl -- "${(@P)2%%:*}" }
_files() { print files }
source <(orderd completion zsh)
words=("$@") CURRENT=$#; _orderd`,
	"fish": `orderd completion fish | source
set found (complete -C "$argv" | string split -f 1 \t)
contains a-file $found; and echo files; or printf '%s\n' $found`,
}

// A script that its shell cannot read fails at every login, and one that its shell reads and that offers nothing, or
// files among the words, helps nobody.
func TestCompletionScriptsComplete(t *testing.T) {
	dir, here := t.TempDir(), t.TempDir()
	wrapper := "#!/bin/sh\nexec " + buildService(t) + ` "$@"` + "\n"
	program := filepath.Join(dir, "orderd")
	if err := errors.Join(os.WriteFile(program, []byte(wrapper), 0o755),
		os.WriteFile(filepath.Join(here, "a-file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for shell, script := range completers {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil && os.Getenv("ORDERD_TEST_REQUIRE") == "1" {
				t.Fatal(err)
			} else if err != nil {
				t.Skip(err)
			}
			ask := func(line string) string {
				t.Helper()
				args := []string{"-c", script, "x"}
				if shell == "fish" {
					args = append(args[:2], line)
				} else {
					args = append(args, strings.Split(line, " ")...)
				}
				cmd := exec.CommandContext(t.Context(), path, args...)
				cmd.Dir = here
				cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+here)
				said, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("%q: %v %s", line, err, said)
				}
				return strings.Join(slices.Sorted(slices.Values(strings.Fields(string(said)))), " ")
			}
			for line, want := range map[string]string{"orderd ver": "verify version",
				"orderd order get --output ": "json table", "orderd order get --output=t": "--output=table",
				"orderd token create --role f": "finance", "orderd stock import ": "files"} {
				if got := ask(line); got != want {
					t.Errorf("%q offers %q, want %q", line, got, want)
				}
			}
		})
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

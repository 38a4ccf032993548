package main

import (
	"bytes"
	"encoding/json"
	"runtime/debug"
	"testing"
)

// Who reports a fault by a version that is a tag has no commit, and by a commit no release.
func TestVersionSaysBoth(t *testing.T) {
	set := func(k, v string) debug.BuildSetting { return debug.BuildSetting{Key: k, Value: v} }
	for name, c := range map[string]struct {
		info debug.BuildInfo
		want build
	}{
		"a release": {debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.3"},
			Settings: []debug.BuildSetting{set("vcs.revision", "0123456789abcdef0123"), set("vcs.modified", "false")}},
			build{"v1.2.3", "0123456789ab", "go1.26"}},
		"changed files": {debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.4-0.2026"},
			Settings: []debug.BuildSetting{set("vcs.modified", "true"), set("vcs.revision", "0123456789abcdef0123")}},
			build{"v1.2.4-0.2026", "0123456789ab+dirty", "go1.26"}},
		"no clone": {debug.BuildInfo{GoVersion: "go1.26"}, build{"(devel)", "unknown", "go1.26"}},
	} {
		if got := buildOf(&c.info); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	var out bytes.Buffer
	var got build
	if code := run(t.Context(), []string{"version", "-o", "json"}, &terminal{Out: &out, Err: &out}); code != 0 ||
		json.Unmarshal(out.Bytes(), &got) != nil || got != thisBuild() {
		t.Errorf("%d %s", code, &out)
	}
}

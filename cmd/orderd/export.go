package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"orderd/cmd/screen"
	"orderd/docs"
)

// deployFiles are what is needed to run orderd beside the program itself, a folder for each
// kind. A test has each read by the tool that it is for.
//
//go:embed deploy
var deployFiles embed.FS

// exportCmd is `orderd export KIND DIR`: files that this program was built with.
type exportCmd struct {
	Kind string `arg:"" enum:"alerts,grafana,systemd,compose,k8s,openapi" help:"${export_kind}"`
	Dir  string `arg:"" type:"path" help:"Folder that they are written to; it is made."`
	// Runbooks is where people read docs/operations.md: what an alarm links to.
	Runbooks string `default:"docs/operations.md" help:"Address of your copy of docs/operations.md, for alerts."`
	Force    bool   `help:"Overwrite files that differ."`
}

// linkedRunbook is how the files of alerts name that document.
const linkedRunbook = `"docs/operations.md#`

// Run writes the files and names each. Before it writes any it refuses to overwrite one that
// differs: somebody has worked in it.
func (c *exportCmd) Run(t *terminal) error {
	files, err := exported(c.Kind)
	if err != nil {
		return err
	}
	var differ []string
	for name, text := range files {
		if c.Kind == "alerts" {
			link := []byte(`"` + strings.ReplaceAll(c.Runbooks, `"`, "%22") + "#")
			files[name] = bytes.ReplaceAll(text, []byte(linkedRunbook), link)
		}
		was, err := os.ReadFile(filepath.Join(c.Dir, name))
		if err == nil && !bytes.Equal(was, files[name]) {
			differ = append(differ, filepath.Join(c.Dir, name))
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(differ) > 0 && !c.Force {
		return fmt.Errorf("%w: there already, and different: %s; --force overwrites them", errUsage,
			strings.Join(differ, ", "))
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil { //nolint:gosec // G301: no secret is in them
		return err
	}
	for _, name := range sortedKeys(files) {
		to := filepath.Join(c.Dir, name)
		if err := os.WriteFile(to, files[name], 0o644); err != nil { //nolint:gosec // G306: no secret is in them
			return err
		}
		screen.Printf(t.Err, "wrote %s\n", to)
	}
	return nil
}

// exported gives the files of a kind by their names.
func exported(kind string) (map[string][]byte, error) {
	if kind == "openapi" {
		return map[string][]byte{"openapi.yaml": docs.OpenAPI, "admin-openapi.yaml": docs.AdminOpenAPI}, nil
	}
	dir := path.Join("deploy", kind)
	all, err := deployFiles.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, f := range all {
		if files[f.Name()], err = deployFiles.ReadFile(path.Join(dir, f.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}

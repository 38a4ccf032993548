package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Mutant is a mistake that shops make, made in orderd on purpose: the harness
// must catch it. It is a change of text in the sources, built with the
// compiler's -overlay, so that no bug stands in the tree.
type Mutant struct {
	Name string
	What string
	Edit []Edit
}

// Edit replaces text that stands in a file exactly once.
type Edit struct{ File, Old, New string }

// mutate writes the overlay of a mutant and gives its file.
func mutate(ctx context.Context, dir, name string) (string, error) {
	for _, m := range Mutants {
		if m.Name == name {
			return m.overlay(ctx, dir)
		}
	}
	return "", fmt.Errorf("there is no mutant %q", name)
}

func (m Mutant) overlay(ctx context.Context, dir string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "orderd").Output()
	if err != nil {
		return "", fmt.Errorf("find the module (run this inside the repository): %w", err)
	}
	root := strings.TrimSpace(string(out))
	texts, replace := map[string]string{}, map[string]string{}
	for _, e := range m.Edit {
		path := filepath.Join(root, filepath.FromSlash(e.File))
		if _, ok := texts[path]; !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			texts[path] = string(b)
		}
		if n := strings.Count(texts[path], e.Old); n != 1 {
			return "", fmt.Errorf("mutant %s: %q stands %d times in %s: the source has changed, change the mutant", m.Name, e.Old, n, e.File)
		}
		texts[path] = strings.Replace(texts[path], e.Old, e.New, 1)
	}
	for path, text := range texts {
		file := filepath.Join(dir, fmt.Sprintf("mutant%d.go", len(replace)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[path] = file
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, errors.Join(err, os.WriteFile(overlay, b, 0o600))
}

// Mutants are the mistakes.
var Mutants = []Mutant{}

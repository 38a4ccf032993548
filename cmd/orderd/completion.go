package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"orderd/cmd/screen"
)

// completionCmd is `orderd completion …`: what a shell has to read so that Tab completes
// verbs, flags and their words. The scripts ask this program, so that they are never older
// than it.
type completionCmd struct {
	Bash  completionBash  `cmd:"" help:"For ~/.bashrc: source <(orderd completion bash)."`
	Zsh   completionZsh   `cmd:"" help:"For ~/.zshrc: source <(orderd completion zsh)."`
	Fish  completionFish  `cmd:"" help:"For ~/.config/fish/config.fish: orderd completion fish | source."`
	Words completionWords `cmd:"" hidden:"" help:"What may stand in the place of the last word; the scripts ask it."`
}

// The verbs of completion.
type completionBash struct{}
type completionZsh struct{}
type completionFish struct{}
type completionWords struct {
	Words []string `arg:"" optional:"" passthrough:"" help:"The words so far, the unfinished one last."`
}

// Run prints the script of bash. Where orderd has no word the shell offers files.
func (*completionBash) Run(t *terminal) error {
	screen.Printf(t.Out, `_orderd() {
  local IFS=$'\n'
  COMPREPLY=($(orderd completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
}
complete -o default -F _orderd orderd
`)
	return nil
}

// Run prints the script of zsh.
func (*completionZsh) Run(t *terminal) error {
	screen.Printf(t.Out, `_orderd() {
  local -a found
  local line
  for line in ${(f)"$(orderd completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
    found+=("${${line%%%%$'\t'*}//:/\\:}:${line#*$'\t'}")
  done
  (( $#found )) && _describe orderd found || _files
}
compdef _orderd orderd
`)
	return nil
}

// Run prints the script of fish. Where orderd has words it offers no files among them.
func (*completionFish) Run(t *terminal) error {
	screen.Printf(t.Out, `function __orderd_words
  orderd completion words -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null
end
complete -c orderd -n 'count (__orderd_words) >/dev/null' -f -a '(__orderd_words)'
`)
	return nil
}

// Run prints what may stand in the place of the last word, one a line, behind a tab what it
// is.
func (c *completionWords) Run(k *kong.Context, t *terminal) error {
	for _, w := range completions(k.Model.Node, c.Words) {
		screen.Printf(t.Out, "%s\t%s\n", w.word, w.help)
	}
	return nil
}

// candidate is a word that may come next.
type candidate struct{ word, help string }

// completions gives the words that the last of words may become, below a node of the
// command line.
func completions(node *kong.Node, words []string) (all []candidate) {
	// bash cuts words at =.
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "=" || w == "--" })
	if len(words) == 0 {
		words = []string{""}
	}
	last, pending := words[len(words)-1], (*kong.Flag)(nil)
	for _, w := range words[:len(words)-1] {
		switch {
		case pending != nil:
			pending = nil
		case strings.HasPrefix(w, "-"):
			pending = valueFlag(node, w)
		default:
			node = below(node, w)
		}
	}
	name, part, inFlag := strings.Cut(last, "=")
	switch {
	case pending != nil:
		return valuesOf(pending, "", last)
	case strings.HasPrefix(last, "-") && inFlag:
		if f := valueFlag(node, name); f != nil {
			return valuesOf(f, name+"=", part)
		}
		return nil
	case strings.HasPrefix(last, "-"):
		return flagsOf(node, last)
	}
	for _, child := range node.Children {
		if !child.Hidden && strings.HasPrefix(child.Name, last) {
			all = append(all, candidate{child.Name, child.Help})
		}
	}
	return all
}

// below gives the verb of a name below a node, the node itself for what is an argument.
func below(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return node
}

// valueFlag gives the flag that a word names when a value follows it in a word of its own.
func valueFlag(node *kong.Node, word string) *kong.Flag {
	if strings.Contains(word, "=") {
		return nil
	}
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if ("--"+f.Name == word || f.Short != 0 && "-"+string(f.Short) == word) && !f.IsBool() {
				return f
			}
		}
	}
	return nil
}

// flagsOf gives the flags that begin so.
func flagsOf(node *kong.Node, begin string) (all []candidate) {
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			if strings.HasPrefix("--"+f.Name, begin) {
				all = append(all, candidate{"--" + f.Name, f.Help})
			}
		}
	}
	return all
}

// valuesOf gives the values of a flag that begin so, none where it takes any.
func valuesOf(f *kong.Flag, before, begin string) (all []candidate) {
	values := strings.FieldsFunc(f.Enum, func(r rune) bool { return r == ',' || r == ' ' })
	if f.Name == "role" && f.Target.Kind() == reflect.Slice { // of serve
		values = allRoles
	}
	for _, v := range values {
		if strings.HasPrefix(v, begin) {
			all = append(all, candidate{before + v, fmt.Sprintf("--%s", f.Name)})
		}
	}
	return all
}

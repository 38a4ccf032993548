package main

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// notSettings are ORDERD_… variables that are no settings and no mistakes: those of tests, of
// failpoints, of an operator's token, and what Kubernetes puts into each container for a
// service that is called orderd or orderd-… (kubernetes.io, "Accessing the Service").
var notSettings = regexp.MustCompile(`^ORDERD_(TEST_.*|FAILPOINTS.*|OPERATOR_TOKEN_FILE` +
	`|([A-Z0-9_]+_)?(SERVICE_(HOST|PORT)(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?))$`)

// unknownVariables gives the ORDERD_… variables of the environment that nobody reads, sorted:
// a misspelt setting is silently its default.
func (s *settings) unknownVariables() (unknown []string) {
	known := map[string]bool{}
	for _, f := range s.fields() {
		known[f.env] = true
		known[f.env+"_FILE"] = f.value.Kind() == reflect.String
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "ORDERD_") && !known[name] && !notSettings.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// errVariables is unknownVariables as an error, nil when there are none.
func (s *settings) errVariables() error {
	unknown := s.unknownVariables()
	if len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("no setting: %s; 'orderd config print' lists what there is", strings.Join(unknown, ", "))
}

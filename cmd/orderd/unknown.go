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
// service that is called orderd or orderd-… (kubernetes.io, "Accessing the Service"). Of those
// a bare …_PORT is a likely wrong guess, too: it is Kubernetes' when it is a URL.
var notSettings = regexp.MustCompile(`^ORDERD_(TEST_.*|FAILPOINTS.*|OPERATOR_TOKEN_FILE` +
	`|([A-Z0-9_]+_)?(SERVICE_(HOST|PORT)(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?))$`)

// linkedPort is the last of Kubernetes' variables of a port: a number.
var linkedPort = regexp.MustCompile(`_PORT_[0-9]+_(TCP|UDP|SCTP)_PORT$`)

// unknownVariables gives the ORDERD_… variables of the environment that nobody reads, sorted:
// a misspelt setting is silently its default.
func (s *settings) unknownVariables() (unknown []string) {
	known := map[string]bool{}
	for _, f := range s.fields() {
		known[f.env] = true
		known[f.env+"_FILE"] = f.value.Kind() == reflect.String
	}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "ORDERD_") || known[name] {
			continue
		}
		guessed := strings.HasSuffix(name, "_PORT") && !strings.HasSuffix(name, "_SERVICE_PORT") &&
			!strings.Contains(value, "://")
		if !notSettings.MatchString(name) || guessed && !linkedPort.MatchString(name) {
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

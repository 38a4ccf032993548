package operators

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"orderd/migrations/bounds"
)

// ErrName: not a name that an audit can carry.
var ErrName = errors.New("a name is 1 to 64 of 0-9 A-Z a-z _ . @ -, begins and ends with a letter or a digit, and " +
	"is not one that the service has for itself, such as bootstrap, cli, scheduler, reconciler or wechat")

// reserved are the keys of names that timelines and accounts have for what is no person.
var reserved = func() map[string]bool {
	all := map[string]bool{}
	for _, name := range []string{Bootstrap, "shell", "system", "root", "scheduler", "reconciler", "wechat",
		"wechatpay", "customer", "orderd", "simulator", "nobody", "unknown", "anonymous", "null"} {
		all[Key(name)] = true
	}
	return all
}()

// CheckName judges the name of a new person: nil, or ErrName. It is the one grammar of such
// names. They are ASCII, so that no letter of another alphabet, no width, no space and no
// mark of direction can make one look like another; what looks alike within ASCII has one
// Key. Names that are older than this rule are not judged by it.
func CheckName(name string) error {
	if !bounds.Operator.Fits(name) || reserved[Key(name)] || looksLikeShell(name) {
		return ErrName
	}
	for i := range len(name) {
		switch b := name[i]; {
		case b >= '0' && b <= '9', b >= 'A' && b <= 'Z', b >= 'a' && b <= 'z':
		case strings.IndexByte("_.@-", b) >= 0 && i > 0 && i < len(name)-1:
		default:
			return ErrName
		}
	}
	return nil
}

// Key is what two names have in common that a person may take for one another: upper and
// lower case, separators, and letters and digits that look alike are the same.
func Key(name string) string { return fold(fold(strings.ToLower(name), firstFolds), laterFolds) }

// fold applies folds, one after the other.
func fold(name string, folds []Fold) string {
	for _, f := range folds {
		name = strings.ReplaceAll(name, f.From, f.To)
	}
	return name
}

// looksLikeShell is by the first folds alone: Di is a name.
func looksLikeShell(name string) bool {
	return fold(strings.ToLower(name), firstFolds) == fold(shell, firstFolds)
}

// Fold is a step of Key, after the name is in lower case: From counts as To.
type Fold struct{ From, To string }

// The folds, in the order in which they are applied. An account's stored key is of the
// folds that its program had; nothing but the unique index goes by it, which keeps two
// accounts that are made at the same moment apart.
var (
	firstFolds = []Fold{{"_", ""}, {".", ""}, {"@", ""}, {"-", ""}, {"0", "o"}, {"1", "l"}, {"i", "l"}, {"|", "l"},
		{"rn", "m"}, {"vv", "w"}}
	laterFolds = []Fold{{"5", "s"}, {"2", "z"}, {"8", "b"}, {"cl", "d"}}
)

// Folds gives those of the first program that had keys, and those that came later, which
// are applied after them.
func Folds() (first, later []Fold) { return slices.Clone(firstFolds), slices.Clone(laterFolds) }

// labelSign stands between the name of a person and the label of one token of theirs. It is
// no sign of a name, so that no token's name is another person's.
const labelSign = ":"

// TokenName gives the name of a token: that of its person for the first one, and for
// another one person:label. A label obeys the grammar of names. Errors: ErrName.
func TokenName(person, label string) (string, error) {
	if label == "" {
		return person, nil
	}
	name := person + labelSign + label
	if err := CheckName(label); err != nil || !bounds.Operator.Fits(name) {
		return "", fmt.Errorf("the label of a token: %w", ErrName)
	}
	return name, nil
}

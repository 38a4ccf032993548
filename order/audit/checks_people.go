package audit

import (
	"fmt"

	"orderd/payment/operators"
)

// peopleChecks: who may decide is known, and who gave that to whom. A row that says
// otherwise makes one person two.
var peopleChecks = []check{
	// An account's key is of the folds of the program that made it; one from before the rule
	// has none.
	{"people.operators", "an operator has a role that there is, the key of the own name, and somebody who made and " +
		"ended it, while here", `
SELECT o.name, o.name_key, o.role, o.created_by, o.created_at, o.disabled_at, o.disabled_by
FROM operators o
LEFT JOIN operators m ON m.name = o.created_by
LEFT JOIN operator_tokens k ON k.name = o.created_by
WHERE o.name = ''
  OR o.name_key NOT IN (` + keysOf("o.name") + `)
  OR o.role NOT IN ('viewer', 'operator', 'finance', 'admin')
  OR (` + noMaker("o.created_by") + ` AND m.name IS NULL AND k.name IS NULL)
  OR o.created_by = o.name
  OR m.created_at > o.created_at + $slack
  OR (m.disabled_at <> 0 AND m.disabled_at < o.created_at - $slack)
  OR o.created_at < 1
  OR o.created_at > $latest
  OR (o.disabled_at <> 0 AND o.disabled_at < o.created_at - $slack)
  OR o.disabled_at > $latest
  OR (o.disabled_by <> '' AND o.disabled_at = 0)`},
	// The program before migration 6 makes tokens without a person, and ends them without
	// their account.
	{"people.tokens", "an operator's token has a hash, who made it, and its person's name and role, and ends with it", `
SELECT t.name, t.role, t.person, t.created_by, t.created_at, t.revoked_at
FROM operator_tokens t
LEFT JOIN operators o ON o.name = t.person
LEFT JOIN operators m ON m.name = t.created_by
LEFT JOIN operator_tokens k ON k.name = t.created_by
WHERE t.name = ''
  OR t.role NOT IN ('viewer', 'operator', 'finance', 'admin')
  OR LENGTH(t.sha256) <> 64
  OR (` + noMaker("t.created_by") + ` AND m.name IS NULL AND k.name IS NULL)
  OR (t.person <> '' AND (
    o.name IS NULL
    OR o.role <> t.role
    OR t.created_at < o.created_at - $slack
    OR (o.disabled_at <> 0 AND t.revoked_at = 0)
    OR (t.name <> t.person AND SUBSTR(t.name, 1, LENGTH(t.person) + 1) <> CONCAT(t.person, ':'))))
  OR t.created_at < 1
  OR t.created_at > $latest
  OR (t.revoked_at <> 0 AND t.revoked_at < t.created_at - $slack)
  OR t.revoked_at > $latest`},
}

// noMaker is the condition that a maker is neither the shell nor the bootstrap token, and
// so an account, or a token of a program before accounts.
func noMaker(column string) string {
	return fmt.Sprintf("%[1]s NOT IN ('%[2]s', 'cli') AND %[1]s NOT LIKE 'cli:%%'", column, operators.Bootstrap)
}

// isShell is the condition that a name is the shell's.
func isShell(column string) string {
	return fmt.Sprintf("(%[1]s = 'cli' OR %[1]s LIKE 'cli:%%')", column)
}

// onePerson is the condition that acting, at a time, was no second person beside other, by the
// rule of package operators: the shell, a name that looks alike, or the maker of the other's
// account, of a token or of a link of it, either way round. It goes back one generation, where the
// service goes back all. It judges nothing from before the first account with a key: the
// program then went by names alone.
func onePerson(acting, other, at string) string {
	made := func(who, by string) string {
		from := fmt.Sprintf("(m.created_by = %[1]s OR %[2]s AND %[3]s) AND m.created_at <= %[4]s", by,
			isShell("m.created_by"), isShell(by), at)
		return fmt.Sprintf(`EXISTS (SELECT 1 FROM operators m WHERE m.name = %[1]s AND %[2]s)
    OR EXISTS (SELECT 1 FROM operator_tokens m WHERE m.person = %[1]s AND %[2]s)
    OR EXISTS (SELECT 1 FROM operator_links m WHERE m.person = %[1]s AND %[2]s)`, who, from)
	}
	_, actingKey := nameKeys(acting)
	_, otherKey := nameKeys(other)
	return fmt.Sprintf(`(%[1]s >= COALESCE((
    SELECT MIN(k.created_at)
    FROM operators k
    WHERE k.name_key IS NOT NULL), %[1]s + 1)
  AND (%[2]s
    OR %[3]s = %[4]s
    OR %[5]s
    OR %[6]s))`, at, isShell(acting), actingKey, otherKey, made(acting, other), made(other, acting))
}

// nameKeys are the keys of a name, of the first folds and of all, from package operators for
// the reason of allowedQuery.
func nameKeys(column string) (first, all string) {
	firstFolds, laterFolds := operators.Folds()
	fold := func(text string, folds []operators.Fold) string {
		for _, f := range folds {
			text = fmt.Sprintf("REPLACE(%s, '%s', '%s')", text, f.From, f.To)
		}
		return text
	}
	first = fold("LOWER("+column+")", firstFolds)
	return first, fold(first, laterFolds)
}

// keysOf lists both keys of a name.
func keysOf(column string) string {
	first, all := nameKeys(column)
	return first + ", " + all
}

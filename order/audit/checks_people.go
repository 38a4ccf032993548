package audit

import (
	"fmt"
	"strings"

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
  OR o.name_key NOT IN (` + nameKeys("o.name") + `)
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

// nameKeys are the keys of a name, of the first folds and of all, from package operators for
// the reason of allowedQuery.
func nameKeys(column string) string {
	first, later := operators.Folds()
	fold := func(text string, folds []operators.Fold) string {
		for _, f := range folds {
			text = fmt.Sprintf("REPLACE(%s, '%s', '%s')", text, f.From, f.To)
		}
		return text
	}
	key := fold("LOWER("+column+")", first)
	return strings.Join([]string{key, fold(key, later)}, ", ")
}

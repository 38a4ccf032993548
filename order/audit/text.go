package audit

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/sqldb"
)

// Bounds of times in the checks.
const (
	// clockSlack is how far a time may lie from another that a different clock has
	// told, of WeChat Pay or of a replica: minutes, so that only a hand is found.
	clockSlack = 10 * time.Minute
	// lookAhead is how far ahead somebody may be asked to look next: the longest step
	// of all ladders of waits is a day (of refunds that WeChat Pay closed), and
	// whoever waits for longer is forgotten.
	lookAhead = 25 * time.Hour
)

// functions are what checks are written with that the engines do not share, or that
// is too long to repeat: $NAME(COLUMN).
var functions = regexp.MustCompile(`\$(moment|day|ulid|yuan|lastcall)\(([a-z_.]+)\)`)

// text gives a query as an engine reads it: with the times of this moment, in
// milliseconds, and with the functions.
//
//	$latest      no time that has been lies after it
//	$ahead       nothing is to be looked at after it
//	$slack       clockSlack
//	$moment(c)   the milliseconds of a time in RFC 3339 in the zone of Beijing
//	$day(c)      those at which a day of Beijing begins, YYYY-MM-DD
//	$ulid(c)     those in the first ten characters of a ULID
//	$yuan(c)     an amount in fen as payment.Fen prints it
//	$lastcall(c) those of the newest of the open calls of an attempt
func (a *Auditor) text(e sqldb.Engine, query string) string {
	now := a.cfg.Now()
	query = functions.ReplaceAllStringFunc(query, func(call string) string {
		m := functions.FindStringSubmatch(call)
		return function(e, m[1], m[2])
	})
	ms := func(t time.Time) string { return strconv.FormatInt(sqldb.Millis(t), 10) }
	return strings.TrimSpace(strings.NewReplacer("$latest", ms(now.Add(clockSlack)), "$ahead", ms(now.Add(lookAhead)),
		"$slack", strconv.FormatInt(clockSlack.Milliseconds(), 10)).Replace(query))
}

// placesAfterFirst are the numbers 1 to 31 as rows: more places than an attempt has open calls (maxOpenCalls is 20).
// TiDB knows no JSON_TABLE, which would make rows of them.
var placesAfterFirst = func() (rows string) {
	for i := range 31 {
		rows += fmt.Sprintf(" UNION ALL SELECT %d", i+1)
	}
	return rows
}()

// function is one call of a function, NULL of a text that it cannot read.
func function(e sqldb.Engine, name, column string) string {
	const beijing = 8 * 60 * 60 // seconds
	mysql := e == sqldb.MySQL
	switch name {
	case "ulid":
		var digits []string
		for i := range 10 {
			// Crockford's alphabet; a character that is not in it makes the time wrong.
			digits = append(digits, fmt.Sprintf("(INSTR('%s', SUBSTR(%s, %d, 1)) - 1) * %d", ulid.Encoding, column, i+1,
				int64(1)<<(5*(9-i))))
		}
		return "(" + strings.Join(digits, " + ") + ")"
	case "yuan":
		return fmt.Sprintf("CONCAT(CAST((%[1]s - %[1]s %% 100) / 100 AS SIGNED), '.', "+
			"SUBSTR(CONCAT('0', %[1]s %% 100), -2))", column)
	case "lastcall":
		if mysql {
			return fmt.Sprintf("(SELECT MAX(CAST(JSON_EXTRACT(JSON_EXTRACT("+
				"CASE WHEN JSON_VALID(%[1]s) THEN %[1]s ELSE '{}' END, '$.*[0]'), CONCAT('$[', n.i, ']')) AS SIGNED)) "+
				"FROM (SELECT 0 AS i%[2]s) n)", column, placesAfterFirst)
		}
		return fmt.Sprintf("(SELECT MAX(JSON_EXTRACT(c.value, '$[0]')) "+
			"FROM JSON_EACH(CASE WHEN JSON_VALID(%[1]s) THEN %[1]s ELSE '{}' END) c)", column)
	case "day":
		if mysql {
			return fmt.Sprintf("(TIMESTAMPDIFF(SECOND, '1970-01-01', STR_TO_DATE(%s, '%%Y-%%m-%%d')) - %d) * 1000",
				column, beijing)
		}
		return fmt.Sprintf("(CAST(strftime('%%s', %s) AS INTEGER) - %d) * 1000", column, beijing)
	}
	if mysql {
		return fmt.Sprintf("(CASE WHEN SUBSTR(%[1]s, 20) = '+08:00' THEN TIMESTAMPDIFF(SECOND, '1970-01-01', "+
			"STR_TO_DATE(SUBSTR(%[1]s, 1, 19), '%%Y-%%m-%%dT%%H:%%i:%%s')) - %[2]d END * 1000)", column, beijing)
	}
	return fmt.Sprintf("(CASE WHEN SUBSTR(%[1]s, 20) = '+08:00' THEN CAST(strftime('%%s', %[1]s) AS INTEGER) END "+
		"* 1000)", column)
}
